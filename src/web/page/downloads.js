// Downloads with a token. A link cannot send one, so this page reads the file and gives it to the browser to save.

import * as access from './access.js';
import * as api from './api.js';
import { byId, make, setLabel, setText, tell } from './dom.js';
import * as text from './text.js';

/** The largest file that is read by this page: the browser holds all of it before it is saved. */
const BYTES_MAX = 512 * 2 ** 20;
/** How long a file that was read is kept for the browser, which gives no notice when it has saved it. */
const SAVE_MS = 60_000;
/** The least time between two updates of a card. */
const DRAW_MS = 100;

/** What ends each running download. */
const running = new Set();

/** Ends all running downloads. */
export function stopAll() {
  for (const stop of running) stop.abort();
}

/** Downloads the file of a link, if a token is in use. Otherwise the browser follows the link. */
export function follow(event, entry) {
  if (access.current() === '') return;
  event.preventDefault();
  const download = new Download(entry);
  byId('downloads').hidden = false;
  byId('download-list').prepend(download.element);
  download.run();
}

class Download {
  #entry;
  #stop = new AbortController();
  #drawn = 0;
  #state = make('span', { className: 'state' });
  #bar = make('progress', { max: 1, value: 0 });
  #figures = make('p', { className: 'figures' });
  #note = make('p', { className: 'error', hidden: true });
  #cancel = make('button', { type: 'button', className: 'small', textContent: 'Cancel' });
  #close = make('button', { type: 'button', className: 'small', textContent: 'Clear' });

  constructor(entry) {
    this.#entry = entry;
    const { path } = entry;
    setLabel(this.#bar, `Download of ${path}`);
    this.#cancel.addEventListener('click', () => this.#stop.abort());
    this.#close.addEventListener('click', () => this.#clear());
    this.element = make('li', { className: 'card' },
      make('div', { className: 'top' },
        make('p', { className: 'head' }, make('b', { textContent: 'Download' }),
          make('span', { className: 'path', textContent: path, title: path })), this.#state),
      make('div', { className: 'top' }, this.#bar, this.#cancel),
      make('div', { className: 'top' }, this.#figures, this.#close),
      this.#note);
  }

  async run() {
    running.add(this.#stop);
    this.#enter('Running');
    tell(`Download of ${this.#entry.name} started`);
    try {
      this.#check(this.#entry.size);
      save(await this.#read(), this.#entry.name);
      this.#enter('Succeeded');
    } catch (error) {
      this.#enter(this.#stop.signal.aborted ? 'Cancelled' : 'Failed');
      // An error of the browser says nothing that helps.
      setText(this.#note, error instanceof TypeError ? 'The connection was lost.' : error.message);
      this.#note.hidden = this.#stop.signal.aborted;
    }
    running.delete(this.#stop);
    tell(`Download of ${this.#entry.name}: ${this.element.dataset.state.toLowerCase()}`);
  }

  #check(bytes) {
    if (bytes <= BYTES_MAX) return;
    throw new Error(`A page can save at most ${text.bytes(BYTES_MAX)} of a file. `
      + `Use the command line: imagestore get ${quoted(this.#entry.path)}`);
  }

  async #read() {
    const response = await api.content(this.#entry.path, this.#stop.signal);
    let done = 0;
    const counter = new TransformStream({
      transform: (part, stream) => {
        done += part.length;
        // The file may be another one than that of the listing.
        this.#check(done);
        this.#draw(done);
        stream.enqueue(part);
      },
    });
    // Without a type, a browser guesses one, and changes the name of the file.
    const headers = { 'Content-Type': 'application/octet-stream' };
    // Unlike an array, a blob may be on the disk of the browser.
    return new Response(response.body.pipeThrough(counter), { headers }).blob();
  }

  #enter(state) {
    const isRunning = state === 'Running';
    this.element.dataset.state = state;
    setText(this.#state, state);
    this.#bar.hidden = !isRunning;
    this.#cancel.hidden = !isRunning;
    this.#close.hidden = isRunning;
    if (isRunning) this.#draw(0);
    if (state === 'Succeeded') setText(this.#figures, text.bytes(this.#entry.size));
  }

  /** Shows the progress, at most every `DRAW_MS`. */
  #draw(done) {
    const now = performance.now();
    if (now - this.#drawn < DRAW_MS) return;
    this.#drawn = now;
    const { size } = this.#entry;
    this.#bar.value = size > 0 ? done / size : 1;
    setText(this.#figures, `${text.bytes(done)} of ${text.bytes(size)}`);
  }

  #clear() {
    this.element.remove();
    byId('downloads').hidden = byId('download-list').children.length === 0;
  }
}

/** Makes the browser save a file. */
function save(blob, name) {
  const href = URL.createObjectURL(blob);
  make('a', { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), SAVE_MS);
}

/** A path as one word of a shell. */
const quoted = (path) =>
  (/^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);
