// The REST calls of the page. They are all part of the documented API.
//
// A call that the server refuses because it does not know the user waits until the user has given a token, and is then
// sent again. The server refuses it before it does anything.

import * as access from './access.js';

const VERSION = 'api-version=6.0';
// Relative, so that the page works below the prefix of a proxy as well.
const ROOT = 'ImageStore';
const PACKAGES = 'Packages';
/** The life of a link, in seconds. */
const LINK_SECONDS = 60;
const EVENTS = 'text/event-stream';

/** The error of a call: the HTTP status (0 without a response), and the code and message of the body. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The segments of a path, split at `/` and `\`, without empty segments. */
export const segments = (path) => path.split(/[/\\]/).filter((segment) => segment !== '');

/** A path with single `/` separators, and none at its ends. */
export const normal = (path) => segments(path).join('/');

/** The last name of a path. */
export const nameOf = (path) => path.slice(path.lastIndexOf('/') + 1);

/** The path of the folder that holds a path; empty for the root. */
export const parentOf = (path) => path.slice(0, Math.max(path.lastIndexOf('/'), 0));

/** Joins a folder and a name below it. */
export const join = (folder, name) => (folder === '' ? name : `${folder}/${name}`);

/** A path for use in a URL: every segment is percent-encoded. */
export const encode = (path) => segments(path).map(encodeURIComponent).join('/');

function address(path, call = '', query = '') {
  const content = path === '' ? '' : `/${encode(path)}`;
  return `${ROOT}${content}${call}?${VERSION}${query}`;
}

/** The URL of the bytes of a file, or of a folder as an archive. */
export const savedAddress = ({ path, folder }) =>
  (folder ? `${PACKAGES}/${encode(path)}.zip` : address(path, '/$/Content'));

/** The name under which a file, or a folder as an archive, is saved. */
export const savedName = ({ name, folder }) => (folder ? `${name}.zip` : name);

/** Makes the error of a response. The body may be anything, because it can be that of a proxy. */
function failure(status, text) {
  try {
    const { Code, Message } = JSON.parse(text).Error;
    return new ApiError(status, Code, Message);
  } catch {
    return new ApiError(status, '', `The server answered with status ${status}.`);
  }
}

/** Makes the error of a response with status 401. */
function refusal(token, text) {
  return token === '' ? new ApiError(401, '', 'You are not signed in.') : failure(401, text);
}

/** Sends a request once. Resolves to its response, whose body is not read yet. */
async function reach(method, url, token, { headers, ...options }) {
  try {
    return await fetch(url, {
      method, cache: 'no-store', headers: { ...headers, ...access.header(token) }, ...options,
    });
  } catch (error) {
    throw lost(error);
  }
}

/** The error of a request without a complete response. */
function lost(error) {
  return error.name === 'AbortError' ? error : new ApiError(0, '', 'The server cannot be reached.');
}

/** Sends a request, again for each token that the user gives. Resolves to the response. */
async function send(method, url, options = {}) {
  for (;;) {
    const token = access.current();
    const response = await reach(method, url, token, options);
    if (response.status !== 401) return response;
    await access.another(token, refusal(token, await read(response)), method !== 'GET');
  }
}

async function read(response) {
  try {
    return await response.text();
  } catch (error) {
    throw lost(error);
  }
}

/** Sends a request. Resolves to the response and its body, also for an error status. */
async function exchange(method, url, options) {
  const response = await send(method, url, options);
  return { response, text: await read(response) };
}

async function call(method, url, options = {}) {
  const { response, text } = await exchange(method, url, options);
  if (!response.ok) throw failure(response.status, text);
  return text === '' ? null : JSON.parse(text);
}

/**
 * One page of a folder: its entries in the order of the store, the token of the next page, which is empty
 * for the last page, and the tag of the folder, which changes with every change of its listing. Null if the
 * tag is still `known`. The response has separate sorted lists of files and folders, which are merged here.
 */
export async function list(path, token, signal, known = '') {
  const query = token === '' ? '' : `&ContinuationToken=${token}`;
  const headers = known === '' ? {} : { 'If-None-Match': known };
  const { response, text } = await exchange('GET', address(path, '', query), { headers, signal });
  if (response.status === 304) return null;
  if (!response.ok) throw failure(response.status, text);
  const page = JSON.parse(text);
  const folders = page.StoreFolders.map((folder) => entry(folder.StoreRelativePath, true, {
    count: Number(folder.FileCount),
  }));
  const files = page.StoreFiles.map((file) => entry(file.StoreRelativePath, false, {
    size: Number(file.FileSize), modified: file.ModifiedDate,
  }));
  const tag = response.headers.get('ETag') ?? '';
  return { entries: merge(folders, files), token: page.ContinuationToken, tag };
}

function entry(path, folder, more) {
  const name = nameOf(path);
  return { path, name, folder, folded: name.toLowerCase(), ...more };
}

function merge(left, right) {
  const merged = [];
  let [l, r] = [0, 0];
  while (l < left.length && r < right.length) {
    merged.push(left[l].folded <= right[r].folded ? left[l++] : right[r++]);
  }
  return merged.concat(left.slice(l), right.slice(r));
}

/** The bytes of all files below a folder. */
export async function folderSize(path, signal) {
  return Number((await call('GET', address(path, '/$/FolderSize'), { signal })).FolderSize);
}

/** The space that the store uses. */
export const info = () => call('GET', address('', '/$/Info'));

/** Throws if the server does not know a token. What the token allows does not matter. */
export async function probe(token) {
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Error('A token has only letters, digits and signs.');
  const response = await reach('GET', address('', '/$/Info'), token, {});
  const { status } = response;
  if (status === 401 || status === 429 || status >= 500) throw failure(status, await read(response));
}

/** Makes a URL with which a file, or a folder as an archive, is downloaded without the token, for a minute. */
export async function createLink({ path, folder }) {
  const query = `&target=${folder ? 'zip' : 'content'}&for=${LINK_SECONDS}`;
  const { Link } = await call('POST', address(path, '/$/CreateLink', query));
  // Relative, as all addresses of this page.
  return Link.slice(1);
}

/** Deletes a file, or a folder with everything in it. */
export const remove = (path) => call('DELETE', address(path));

/** Starts a copy in the background. Resolves to its operation. */
export function copy(body) {
  const headers = { 'Content-Type': 'application/json', Prefer: 'respond-async' };
  return call('POST', address('', '/$/Copy'), { headers, body: JSON.stringify(body) });
}

/** One page of the operations, the newest first. */
export async function operations(token) {
  const query = token === '' ? '' : `&ContinuationToken=${token}`;
  const page = await call('GET', address('', '/$/Operations', query));
  return { operations: page.Operations, token: page.ContinuationToken };
}

/**
 * The events of all operations after the one with the id `last`, as a stream of bytes; null if the server has no more
 * events.
 */
export async function events(last, signal) {
  const headers = { Accept: EVENTS, ...(last === '' ? {} : { 'Last-Event-ID': last }) };
  const response = await send('GET', address('', '/$/Operations'), { headers, signal });
  if (response.status === 204) return null;
  if (!response.ok) throw failure(response.status, await read(response));
  const type = response.headers.get('Content-Type') ?? '';
  if (!type.startsWith(EVENTS)) throw failure(response.status, '');
  return response.body;
}

/** One operation. */
export const operation = (id) =>
  call('GET', address('', `/$/Operations/${encodeURIComponent(id)}`));

/** Cancels an operation. Resolves when its outcome is known. */
export const cancel = (id) =>
  call('POST', address('', `/$/Operations/${encodeURIComponent(id)}/$/Cancel`));

/**
 * Stores a file; with `replace`, also in the place of a folder. Resolves to the number of replaced files.
 * `progress` is called with the number of bytes sent so far; aborting `signal` ends the upload, and nothing
 * is stored.
 */
export async function put(path, blob, options) {
  for (;;) {
    const token = access.current();
    try {
      return await putOnce(path, blob, token, options);
    } catch (error) {
      if (error.status !== 401) throw error;
      await access.another(token, error, false);
      options.signal.throwIfAborted();
    }
  }
}

/** XMLHttpRequest is used because `fetch` does not report the progress of an upload. */
function putOnce(path, blob, token, { progress, signal, replace }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const end = (settle, value) => {
      signal.removeEventListener('abort', stop);
      settle(value);
    };
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      const replaced = Number(request.getResponseHeader('Files-Replaced') ?? 0);
      if (request.status >= 200 && request.status < 300) end(resolve, replaced);
      else if (request.status === 401) end(reject, refusal(token, request.responseText));
      else end(reject, failure(request.status, request.responseText));
    };
    request.onerror = () => end(reject, new ApiError(0, '', 'The connection was lost.'));
    request.onabort = () => end(reject, new DOMException('cancelled', 'AbortError'));
    request.open('PUT', address(path, '', replace ? '&if-exists=Overwrite' : ''));
    const headers = { 'Content-Type': 'application/octet-stream', ...access.header(token) };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    signal.addEventListener('abort', stop);
    request.send(blob);
  });
}

/** A new UUID. `crypto.randomUUID` does not exist on a page from a remote host over plain http. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
