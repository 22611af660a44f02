// The four dialogs. Each resolves to one result; Escape and the Cancel button resolve to null.
//
// The fields show hidden characters of a name as escapes, and convert the escapes back when they are read.

import { join, nameOf, normal } from './api.js';
import { byId, setText } from './dom.js';
import { meant, shown } from './escape.js';

/** The longest name that the store takes. */
const NAME_BYTES_MAX = 1024;

/**
 * Shows a dialog. `submit(elements)` does the work of the dialog; if it fails, the dialog shows the error and
 * stays open. Resolves to the result of `submit`, or to null.
 */
function ask(id, submit) {
  const dialog = byId(id);
  const form = dialog.querySelector('form');
  const error = dialog.querySelector('.error');
  const button = form.querySelector('[type=submit]');
  error.hidden = true;
  button.disabled = false;
  return new Promise((resolve) => {
    let answer = null;
    form.onsubmit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      error.hidden = true;
      try {
        answer = await submit(form.elements);
        dialog.close();
      } catch (reason) {
        setText(error, reason.message);
        error.hidden = false;
      } finally {
        button.disabled = false;
      }
    };
    form.onchange = (event) => reveal(event.target);
    form.querySelector('[value=cancel]').onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
  });
}

/** Replaces hidden characters that were typed or pasted into a field by their escapes. */
function reveal(field) {
  const lines = field.value.split('\n').map(shown).join('\n');
  if (lines !== field.value) field.value = lines;
}

/** Asks for the source, the destination and the options of a copy. `start(body)` begins the copy. */
export function askCopy(source, start) {
  const form = byId('copy-dialog').querySelector('form');
  form.reset();
  const fields = form.elements;
  fields.source.value = shown(source);
  fields.destination.value = shown(source);
  const answer = ask('copy-dialog', async () => start({
    RemoteSource: meant(fields.source.value),
    RemoteDestination: into(meant(fields.destination.value), meant(fields.source.value)),
    SkipFiles: names(fields.skip.value, fields.literal.checked),
    CheckMarkFile: fields.mark.checked,
    CopyFlag: fields.flag.value,
    Verify: fields.verify.checked,
  }));
  const first = source === '' ? fields.source : fields.destination;
  first.focus();
  first.select();
  return answer;
}

/** A path without the spaces at its ends. Other blank characters can be part of a name. */
const bare = (path) => path.replace(/^ +| +$/g, '');

/** The destination of a copy: one that ends in a separator is a folder, and gets the name of the source. */
function into(destination, source) {
  if (!/[/\\] *$/.test(destination)) return destination;
  return join(normal(bare(destination)), nameOf(normal(bare(source))));
}

/** The names of a skip list, one per line. Throws for a name that no file can have, and so leaves out nothing. */
function names(value, isLiteral) {
  const found = value.split('\n').filter((line) => line !== '').map(meant);
  for (const name of found) {
    const why = unfit(name, isLiteral);
    if (why !== null) throw new Error(`“${name}” ${why}`);
  }
  return found;
}

/** Why a name cannot be that of a file; null if it can. The command line has the same rules. */
function unfit(name, isLiteral) {
  if (/[/\\]/.test(name)) return 'has a separator. Give only the last name: it applies at every depth.';
  if (!isLiteral && /[*?]/.test(name)) {
    return 'is compared as a whole name, not as a pattern. Tick the box below if that is meant, or list each name.';
  }
  if (/["<>|\u0000-\u001f\u007f-\u009f]/.test(name) || ['.', '..', '$'].includes(name)) {
    return 'is the name of no file.';
  }
  if (/^ | $/.test(name)) return 'begins or ends with a space, and no name does.';
  if (new TextEncoder().encode(name).length > NAME_BYTES_MAX) {
    return `is longer than ${NAME_BYTES_MAX} bytes, and no name is.`;
  }
  return null;
}

/** Asks whether to delete an entry. `remove()` deletes it. */
export function askDelete(title, text, path, remove) {
  setText(byId('delete-title'), title);
  setText(byId('delete-text'), text);
  setText(byId('delete-path'), path);
  return ask('delete-dialog', async () => {
    await remove();
    return true;
  });
}

/**
 * Asks for the target folder of an upload. `find(told, signal)` searches the local files while the dialog is
 * open, because a large folder takes a while; `words(found)` is the text about its result.
 */
export function askUpload(folder, find, words) {
  const form = byId('upload-dialog').querySelector('form');
  form.reset();
  form.elements.folder.value = shown(folder);
  byId('upload-mark').hidden = true;
  const stop = new AbortController();
  let found = null;
  const answer = ask('upload-dialog', (fields) => ({
    ...found, target: meant(fields.folder.value), mark: fields.mark.checked,
  }));
  const button = form.querySelector('[type=submit]');
  button.disabled = true;
  const told = (files) => setText(byId('upload-text'), `Searching: ${files} files so far`);
  told(0);
  find(told, stop.signal).then((result) => {
    found = result;
    byId('upload-mark').hidden = result.folders.length === 0;
    button.disabled = result.files.length + result.folders.length === 0;
    setText(byId('upload-text'), words(result));
    if (!button.disabled) button.focus();
  }, (error) => {
    if (!stop.signal.aborted) setText(byId('upload-text'), `Cannot read the files: ${error.message}`);
  });
  return answer.finally(() => stop.abort());
}

/**
 * Asks for a token. `why` says why the last one was refused, and is empty without one; `check(token)` throws if the
 * server refuses a token. Resolves to the token, and to whether to keep it until the tab is closed.
 */
export function askToken(why, check) {
  const form = byId('token-dialog').querySelector('form');
  form.reset();
  const answer = ask('token-dialog', async (fields) => {
    const token = fields.token.value.trim();
    await check(token);
    return { token, keep: fields.keep.checked };
  });
  const error = form.querySelector('.error');
  setText(error, why);
  error.hidden = why === '';
  // No token stays in the field.
  return answer.finally(() => form.reset());
}
