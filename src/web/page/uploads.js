// Uploads from this page: one card per upload, a few files in parallel.

import * as api from './api.js';
import { byId, make, setLabel, setText, tell } from './dom.js';
import * as text from './text.js';

/** The number of files of one upload that are sent in parallel. A browser has six connections to a server. */
const AT_ONCE = 3;
/** The number of failures that are shown; further ones are only counted. */
const FAILURES_SHOWN = 10;
/** The least time between two updates of a card. */
const DRAW_MS = 100;

const MARK = '_.dir';
/** The error code for a file whose path is a folder or below a file, which only `replace` replaces. */
const IN_THE_WAY = 'FABRIC_E_NAME_ALREADY_EXISTS';

/** What ends each running upload. */
const running = new Set();
addEventListener('beforeunload', (event) => {
  if (running.size > 0) event.preventDefault();
});

/** Ends all running uploads. */
export function stopAll() {
  for (const stop of running) stop.abort();
}

/**
 * Uploads files below a folder. With `mark`, each uploaded folder gets its mark file after all files are
 * stored, because the mark file says that the folder is complete. `stored` is called at the end.
 */
export function upload({ files, folders, target, mark, stored }) {
  const job = new Job(target, files, mark ? folders : [], stored);
  byId('uploads').hidden = false;
  byId('upload-list').prepend(job.element);
  job.run();
}

const depth = (path) => path.split('/').length;

class Job {
  #target;
  #waiting;
  #position = 0;
  #marks;
  #stored;
  #total = { files: 0, bytes: 0 };
  #done = { files: 0, bytes: 0, replaced: 0 };
  #replace = false;
  #sending = new Map();
  #failed = [];
  #stop = new AbortController();
  #started = 0;
  #drawn = 0;
  #state = make('span', { className: 'state' });
  #bar = make('progress', { max: 1 });
  #figures = make('p', { className: 'figures' });
  #failures = make('ul', { className: 'failures' });
  #cancel = make('button', { type: 'button', className: 'small', textContent: 'Cancel' });
  #retry = make('button', { type: 'button', className: 'small', textContent: 'Retry' });
  #over = make('button', { type: 'button', className: 'small', textContent: 'Replace' });
  #close = make('button', { type: 'button', className: 'small', textContent: 'Clear' });

  constructor(target, files, marks, stored) {
    [this.#target, this.#waiting, this.#stored] = [target, files, stored];
    this.#marks = marks.toSorted((one, other) => depth(other) - depth(one));
    this.#count();
    const name = `${text.things(files.length, 'file')} to ${target === '' ? 'the root' : target}`;
    setLabel(this.#bar, `Upload of ${name}`);
    this.#cancel.addEventListener('click', () => this.#stop.abort());
    this.#retry.addEventListener('click', () => this.#again());
    this.#over.addEventListener('click', () => {
      this.#replace = true;
      this.#again();
    });
    this.#close.addEventListener('click', () => this.#clear());
    this.element = make('li', { className: 'card' },
      make('div', { className: 'top' },
        make('p', { className: 'head' }, make('b', { textContent: 'Upload' }),
          make('span', { className: 'path', textContent: name, title: name })), this.#state),
      make('div', { className: 'top' }, this.#bar, this.#cancel),
      make('div', { className: 'top' }, this.#figures, this.#retry, this.#over, this.#close),
      this.#failures);
  }

  /** Uploads the waiting files, then the mark files if no file failed. */
  async run() {
    running.add(this.#stop);
    this.#started = performance.now();
    this.#enter('Running');
    tell(`Upload of ${text.things(this.#waiting.length, 'file')} started`);
    const lines = Array.from({ length: AT_ONCE }, () => this.#send());
    await Promise.all(lines);
    if (this.#failed.length === 0 && !this.#stop.signal.aborted) await this.#mark();
    running.delete(this.#stop);
    this.#end();
  }

  #count() {
    this.#total.files = this.#done.files + this.#waiting.length;
    this.#total.bytes = this.#done.bytes
      + this.#waiting.reduce((sum, { file }) => sum + file.size, 0);
  }

  async #send() {
    for (let at = this.#next(); at; at = this.#next()) {
      await this.#put(at);
      this.#draw(false);
    }
  }

  #next() {
    if (this.#stop.signal.aborted || this.#position >= this.#waiting.length) return null;
    const item = this.#waiting[this.#position];
    this.#position += 1;
    return item;
  }

  async #put(item) {
    const progress = (sent) => {
      this.#sending.set(item, Math.min(sent, item.file.size));
      this.#draw(false);
    };
    try {
      const path = api.join(this.#target, item.path);
      const [signal, replace] = [this.#stop.signal, this.#replace];
      this.#done.replaced += await api.put(path, item.file, { progress, signal, replace });
      this.#done.files += 1;
      this.#done.bytes += item.file.size;
    } catch (error) {
      const { name, message, code } = error;
      if (name !== 'AbortError') this.#failed.push({ item, message, code });
    } finally {
      this.#sending.delete(item);
    }
  }

  /** Writes the mark files, those of subfolders first, because a mark file says that all below is complete. */
  async #mark() {
    const empty = new Blob([]);
    while (this.#marks.length > 0) {
      this.#total.files += 1;
      await this.#put({ file: empty, path: api.join(this.#marks[0], MARK) });
      if (this.#stop.signal.aborted || this.#failed.length > 0) return;
      this.#marks.shift();
    }
  }

  #end() {
    const state = this.#stop.signal.aborted ? 'Cancelled'
      : this.#failed.length > 0 ? 'Failed' : 'Succeeded';
    this.#enter(state);
    tell(`Upload: ${state.toLowerCase()}, ${text.things(this.#done.files, 'file')} stored`);
    this.#stored();
  }

  #enter(state) {
    const busy = state === 'Running';
    this.element.dataset.state = state;
    setText(this.#state, state);
    this.#bar.hidden = !busy;
    this.#cancel.hidden = !busy;
    this.#retry.hidden = state !== 'Failed';
    this.#over.hidden = state !== 'Failed' || !this.#failed.some(({ code }) => code === IN_THE_WAY);
    this.#close.hidden = busy;
    this.#failures.replaceChildren(...this.#reasons());
    this.#draw(true);
  }

  #reasons() {
    const shown = this.#failed.slice(0, FAILURES_SHOWN).map(({ item, message }) =>
      make('li', {}, make('span', { className: 'path', textContent: item.path }), ` ${message}`));
    const more = this.#failed.length - shown.length;
    if (more > 0) shown.push(make('li', { textContent: `and ${text.things(more, 'file')} more` }));
    return shown;
  }

  /** Shows the progress, at most every `DRAW_MS` unless `always` is set. */
  #draw(always) {
    const now = performance.now();
    if (!always && now - this.#drawn < DRAW_MS) return;
    this.#drawn = now;
    let sent = this.#done.bytes;
    for (const part of this.#sending.values()) sent += part;
    const { files, bytes } = this.#total;
    this.#bar.value = bytes > 0 ? sent / bytes : this.#done.files / Math.max(files, 1);
    const seconds = (now - this.#started) / 1000;
    const parts = [`${text.count(this.#done.files)} of ${text.things(files, 'file')}`,
      `${text.bytes(sent)} of ${text.bytes(bytes)}`];
    if (this.element.dataset.state === 'Running' && seconds >= 1 && sent > 0) {
      parts.push(`${text.bytes(Math.round(sent / seconds))}/s`,
        `${text.span((seconds / sent) * (bytes - sent))} left`);
    }
    if (this.#done.replaced > 0) parts.push(`${text.things(this.#done.replaced, 'file')} replaced`);
    setText(this.#figures, parts.join(' · '));
  }

  /** Uploads the failed files again, and then the mark files that are not stored. */
  #again() {
    const marks = new Set(this.#marks.map((folder) => api.join(folder, MARK)));
    this.#waiting = this.#failed.map(({ item }) => item).filter(({ path }) => !marks.has(path));
    this.#failed = [];
    this.#position = 0;
    this.#count();
    this.run();
  }

  #clear() {
    this.element.remove();
    byId('uploads').hidden = byId('upload-list').children.length === 0;
  }
}
