// The entry point of the page: connects its parts, the address, the buttons, and drag and drop.

import * as api from './api.js';
import { askCopy, askDelete, askUpload } from './dialogs.js';
import { byId, setText, tell } from './dom.js';
import { shown } from './escape.js';
import { Folder, place } from './folder.js';
import { Operations } from './operations.js';
import * as sign from './sign.js';
import * as text from './text.js';
import { dropped, picked } from './tree.js';
import { stopAll, upload } from './uploads.js';

/** The interval of checks for changes by others, while the page is visible. */
const CHECK_MS = 2000;
/** The least time between two checks that ends of operations cause. */
const REST_MS = 500;

/** The entry that becomes the active one in the folder that is opened next. */
let next;

const folder = new Folder({
  copy: startCopy,
  remove: askRemove,
  up: () => {
    next = api.nameOf(folder.path);
    location.hash = place(api.parentOf(folder.path));
  },
  isFile: leave,
  gone: leave,
});
/** Whether the last request for the space of the disk succeeded. */
let isSpaceKnown = true;

const check = paced(async () => {
  if (await folder.check() || !isSpaceKnown) await space();
}, REST_MS);
const operations = new Operations(check);

/** Goes to the folder above a path, and makes the path's entry the active one. */
function leave(path) {
  next = api.nameOf(path);
  location.replace(place(api.parentOf(path)));
}

/** Shows the folder that the address names. */
function route() {
  let path;
  try {
    path = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent).join('/');
  } catch {
    path = '';
  }
  path = api.normal(path);
  document.title = path === '' ? 'Image Store' : `${shown(api.nameOf(path))} · Image Store`;
  folder.open(path, next);
  next = undefined;
}

const refresh = () => Promise.all([folder.refresh(), space()]);

/**
 * Limits the rate of an action. The first call runs it at once; calls in the pause after it run it once more
 * at the end of the pause. The pause is `least` milliseconds, and at least five times the duration of the
 * action, so that a large folder that changes all the time does not load the server.
 */
function paced(action, least) {
  let [resting, again] = [false, false];
  const run = async () => {
    [resting, again] = [true, false];
    const started = performance.now();
    await action();
    setTimeout(() => {
      resting = false;
      if (again) run();
    }, Math.max(least, 5 * (performance.now() - started)));
  };
  return () => {
    if (resting) again = true;
    else run();
  };
}

async function startCopy(source) {
  let asked = {};
  const operation = await askCopy(source, async (body) => {
    // If the response was lost, the same id makes the repeated request safe. Otherwise each request has a new
    // id.
    const same = asked.lost && JSON.stringify(body) === asked.body;
    const OperationId = same ? asked.id : api.uuid();
    try {
      return await api.copy({ ...body, OperationId });
    } catch (error) {
      asked = { lost: error.status === 0, body: JSON.stringify(body), id: OperationId };
      throw error;
    }
  });
  if (operation === null) return;
  operations.take(operation);
  tell('Copy started');
  if (operation.State !== 'Running') check();
}

async function askRemove(entry) {
  const title = entry.folder ? 'Delete the folder' : 'Delete the file';
  const words = entry.folder
    ? `The folder and its ${text.things(entry.count, 'file')} are deleted. This cannot be undone.`
    : `The file of ${text.bytes(entry.size)} is deleted. This cannot be undone.`;
  const done = await askDelete(title, words, entry.path, () => api.remove(entry.path));
  if (done === null) return;
  tell(`${entry.name} is deleted`);
  refresh();
}

async function startUpload(find) {
  const words = ({ files, folders }) => {
    const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
    const below = folders.length === 0 ? '' : ` in ${text.things(folders.length, 'folder')}`;
    return `${text.things(files.length, 'file')}${below}, ${text.bytes(bytes)}`;
  };
  const plan = await askUpload(folder.path, find, words);
  if (plan !== null) upload({ ...plan, target: api.normal(plan.target), stored: refresh });
}

/** Makes a button open a file input, and uploads the picked files. */
function pick(button, input) {
  byId(button).addEventListener('click', () => byId(input).click());
  byId(input).addEventListener('change', (event) => {
    const found = picked(event.target);
    // Cleared, so that picking the same files again causes an event.
    event.target.value = '';
    startUpload(async () => found);
  });
}

/** Accepts files that are dropped anywhere on the page; otherwise the browser would open them in its place. */
function drop() {
  const holdsFiles = (event) => event.dataTransfer.types.includes('Files');
  const over = (yes) => byId('browser').classList.toggle('over', yes);
  addEventListener('dragover', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    const free = document.querySelector('dialog[open]') === null;
    event.dataTransfer.dropEffect = free ? 'copy' : 'none';
    if (free) setText(byId('drop-text'), `Upload to ${folder.path === '' ? 'the root' : folder.path}`);
    over(free);
  });
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) over(false);
  });
  addEventListener('drop', (event) => {
    over(false);
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (document.querySelector('dialog[open]') !== null) return;
    const { dataTransfer } = event;
    // `dropped` reads the entries before its first await: they exist only within this event.
    startUpload((told, signal) => dropped(dataTransfer, told, signal));
  });
}

/** Checks for changes, unless the page is hidden. */
function look() {
  if (!document.hidden) check();
}

/** Shows what another user may see. */
function begin() {
  folder.open(folder.path);
  operations.restart();
  space();
}

/** Ends what runs for the user. */
function end() {
  stopAll();
}

/** Shows the free space of the disk. */
async function space() {
  try {
    const { Capacity, AvailableSpace } = (await api.info()).DiskInfo;
    const [all, free] = [Number(Capacity), Number(AvailableSpace)];
    setText(byId('space'), `${text.bytes(free)} free of ${text.bytes(all)}`);
    isSpaceKnown = true;
  } catch {
    setText(byId('space'), '');
    isSpaceKnown = false;
  }
}

sign.start({ changed: begin, left: end });
setText(byId('host'), location.host);
byId('refresh').addEventListener('click', refresh);
byId('new-copy').addEventListener('click', () => startCopy(folder.path));
pick('upload-files', 'pick-files');
pick('upload-folder', 'pick-folder');
drop();
addEventListener('hashchange', route);
document.addEventListener('visibilitychange', look);
setInterval(look, CHECK_MS);
route();
space();
