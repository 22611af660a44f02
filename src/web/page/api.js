// The REST calls of the page. They are all part of the documented API.

const VERSION = 'api-version=6.0';
// Relative, so that the page works below the prefix of a proxy as well.
const ROOT = 'ImageStore';

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

/** The URL of the bytes of a file. */
export const contentAddress = (path) => address(path, '/$/Content');

/** The URL of the events of all operations. */
export const eventsAddress = () => address('', '/$/Operations');

/** Makes the error of a response. The body may be anything, because it can be that of a proxy. */
function failure(status, text) {
  try {
    const { Code, Message } = JSON.parse(text).Error;
    return new ApiError(status, Code, Message);
  } catch {
    return new ApiError(status, '', `The server answered with status ${status}.`);
  }
}

/** Sends a request. Resolves to the response and its body, also for an error status. */
async function exchange(method, url, options) {
  try {
    const response = await fetch(url, { method, cache: 'no-store', ...options });
    return { response, text: await response.text() };
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, '', 'The server cannot be reached.');
  }
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

/** One operation. */
export const operation = (id) =>
  call('GET', address('', `/$/Operations/${encodeURIComponent(id)}`));

/** Cancels an operation. Resolves when its outcome is known. */
export const cancel = (id) =>
  call('POST', address('', `/$/Operations/${encodeURIComponent(id)}/$/Cancel`));

/**
 * Stores a file; with `replace`, also in the place of a folder. Resolves to the number of replaced files.
 * `progress` is called with the number of bytes sent so far; aborting `signal` ends the upload, and nothing
 * is stored. XMLHttpRequest is used because `fetch` does not report the progress of an upload.
 */
export function put(path, blob, { progress, signal, replace }) {
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
      else end(reject, failure(request.status, request.responseText));
    };
    request.onerror = () => end(reject, new ApiError(0, '', 'The connection was lost.'));
    request.onabort = () => end(reject, new DOMException('cancelled', 'AbortError'));
    request.open('PUT', address(path, '', replace ? '&if-exists=Overwrite' : ''));
    request.setRequestHeader('Content-Type', 'application/octet-stream');
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
