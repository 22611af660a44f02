// The three dialogs. Each is asked and answers once; Escape and its Cancel button answer null.
//
// Their fields show what hides in a name as an escape, and take it so: what can be read is what is meant.

import { join, nameOf, normal } from './api.js';
import { byId, setText } from './dom.js';
import { meant, shown } from './escape.js';

/** The longest name that the store takes. */
const NAME_BYTES_MAX = 1024;

/**
 * Shows a dialog. `submit(form)` does what the dialog is for; the dialog stays open, and says why,
 * while that fails. Resolves to what `submit` gave, or to null.
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

/** Has a field show what hides in what was typed or pasted. */
function reveal(field) {
  const lines = field.value.split('\n').map(shown).join('\n');
  if (lines !== field.value) field.value = lines;
}

/** Asks what to copy where. `start(body)` begins it. */
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

/** A path without the spaces around it. Whatever else is blank belongs to a name. */
const bare = (path) => path.replace(/^ +| +$/g, '');

/** Where a copy goes: into what ends in a separator, under its own name. */
function into(destination, source) {
  if (!/[/\\] *$/.test(destination)) return destination;
  return join(normal(bare(destination)), nameOf(normal(bare(source))));
}

/** The names of a skip list, one a line. What cannot be the name of a file would leave out nothing. */
function names(value, isLiteral) {
  const found = value.split('\n').filter((line) => line !== '').map(meant);
  for (const name of found) {
    const why = unfit(name, isLiteral);
    if (why !== null) throw new Error(`“${name}” ${why}`);
  }
  return found;
}

/** Says why a name cannot be that of a file; null where it can. The command line has the same rules. */
function unfit(name, isLiteral) {
  if (/[/\\]/.test(name)) return 'has a separator. Give the last name alone: it counts at every depth.';
  if (!isLiteral && /[*?]/.test(name)) {
    return 'is compared as a whole name, not as a pattern. Say below if it is meant so, or give each name.';
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

/** Asks whether to delete. `remove()` does it. */
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
 * Asks where to upload what `find(told, signal)` finds. The dialog is there while it looks: a large
 * folder takes a while. `words(found)` says what was found.
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
  const told = (files) => setText(byId('upload-text'), `Looking: ${files} files so far`);
  told(0);
  find(told, stop.signal).then((result) => {
    found = result;
    byId('upload-mark').hidden = result.folders.length === 0;
    button.disabled = result.files.length + result.folders.length === 0;
    setText(byId('upload-text'), words(result));
    if (!button.disabled) button.focus();
  }, (error) => {
    if (!stop.signal.aborted) setText(byId('upload-text'), `It cannot be read: ${error.message}`);
  });
  return answer.finally(() => stop.abort());
}
