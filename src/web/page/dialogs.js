// The three dialogs. Each is asked and answers once; Escape and its Cancel button answer null.

import { byId, setText } from './dom.js';

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
    form.querySelector('[value=cancel]').onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
  });
}

/** Asks what to copy where. `start(body)` begins it. */
export function askCopy(source, start) {
  const form = byId('copy-dialog').querySelector('form');
  form.reset();
  const fields = form.elements;
  fields.source.value = source;
  fields.destination.value = source;
  const answer = ask('copy-dialog', () => start({
    RemoteSource: fields.source.value,
    RemoteDestination: fields.destination.value,
    SkipFiles: lines(fields.skip.value),
    CheckMarkFile: fields.mark.checked,
    CopyFlag: fields.flag.value,
    Verify: fields.verify.checked,
  }));
  const first = source === '' ? fields.source : fields.destination;
  first.focus();
  first.select();
  return answer;
}

const lines = (value) =>
  value.split('\n').map((line) => line.trim()).filter((line) => line !== '');

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
  form.elements.folder.value = folder;
  byId('upload-mark').hidden = true;
  const stop = new AbortController();
  let found = null;
  const answer = ask('upload-dialog', (fields) => ({
    ...found, target: fields.folder.value, mark: fields.mark.checked,
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
