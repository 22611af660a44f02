// The list of all operations of the store: running ones with live progress, and ended ones.
//
// An event stream updates the list. After a lost connection it continues after the last event. Whenever a stream
// opens, the newest operations are also read by a request.

import * as api from './api.js';
import { byId, make, setLabel, setText, setTitle, tell } from './dom.js';
import { Events } from './events.js';
import * as text from './text.js';

/** The most operations in the list: older ended ones are removed, so that a page can stay open for weeks. */
const SHOWN_MAX = 1000;
/** The pause before the operations are read again after that has failed. */
const AGAIN_MS = 3000;
/** The interval at which texts such as "2 min ago" are updated. */
const AGO_MS = 20_000;

const VERBS = { Copy: 'Copy', Delete: 'Delete', CommitUploadSession: 'Upload' };

export class Operations {
  #known = new Map();
  #cards = new Map();
  #dirty = new Set();
  #token = null;
  #events = null;
  #timer = 0;
  #news;

  /** `news` is called when an operation ends, and when changes without an event are possible. */
  constructor(news) {
    this.#news = news;
    byId('older').addEventListener('click', () => this.#older());
    document.addEventListener('visibilitychange', () => this.#connect());
    setInterval(() => this.#rewrite(), AGO_MS);
    this.#connect();
  }

  /** Adds or updates an operation. One that has ended does not change any more. */
  take(operation) {
    const before = this.#known.get(operation.Id);
    if (before !== undefined && !isNewer(operation, before)) return;
    this.#known.set(operation.Id, operation);
    if (this.#dirty.size === 0) requestAnimationFrame(() => this.#draw());
    this.#dirty.add(operation.Id);
    if (operation.State !== 'Running' && before?.State === 'Running') {
      tell(`${title(operation)}: ${operation.State.toLowerCase()}`);
    }
  }

  /** Shows what another user may see. */
  restart() {
    for (const id of [...this.#known.keys()]) this.#drop(id);
    this.#token = null;
    this.#buttons();
    byId('no-operations').hidden = true;
    this.#connect();
  }

  /**
   * Opens the event stream while the page is visible. A hidden page closes it: over HTTP/1.1 a browser has
   * six connections to a server for all its pages, and each stream occupies one.
   */
  #connect() {
    clearTimeout(this.#timer);
    this.#events?.close();
    this.#events = null;
    if (document.hidden) return;
    live('waiting', 'connecting');
    this.#events = new Events(api.events, {
      opened: () => {
        live('open', 'live');
        this.#begin();
      },
      event: (name, data) => this.#event(name, data),
      lost: () => {
        live('closed', 'no connection');
        clearTimeout(this.#timer);
      },
      ended: (error) => {
        const words = error?.status === 401 ? 'not signed in' : error?.message;
        live('closed', words ?? 'ended');
        clearTimeout(this.#timer);
      },
    });
  }

  #event(name, data) {
    if (name === 'progress' || name === 'done') this.#change(JSON.parse(data));
    if (name !== 'reset') return;
    // The server no longer has all events since the last one: the list is read again.
    this.#token = null;
    this.#begin();
  }

  #change(operation) {
    const before = this.#known.get(operation.Id);
    this.take(operation);
    const news = before === undefined || before.State === 'Running';
    if (news && operation.State !== 'Running') this.#news();
  }

  /** Reads the state for which there are no events, with retries. While that fails, the list is not live. */
  async #begin() {
    clearTimeout(this.#timer);
    this.#news();
    const events = this.#events;
    try {
      await this.#read(events);
      if (events.isOpen) live('open', 'live');
    } catch (error) {
      if (!events.isOpen) return;
      live('closed', error.message);
      this.#timer = setTimeout(() => this.#begin(), AGAIN_MS);
    }
  }

  /** Reads the newest operations, and those that were running when last seen. */
  async #read(events) {
    const page = await api.operations('');
    // They may be those that another user sees.
    if (events !== this.#events) return;
    const oldest = page.operations.at(-1)?.Id;
    const isJoined = this.#token !== null && (page.token === '' || this.#known.has(oldest));
    if (!isJoined) {
      // There may be a gap between the known operations and this page, so the list restarts with this page.
      this.#token = page.token;
      for (const { Id, State } of this.#known.values()) if (State !== 'Running') this.#drop(Id);
    }
    // On a restart, operations that have ended before are not reported as news.
    for (const operation of page.operations) {
      if (isJoined) this.#change(operation);
      else this.take(operation);
    }
    const listed = new Set(page.operations.map(({ Id }) => Id));
    for (const { Id, State } of [...this.#known.values()]) {
      if (State === 'Running' && !listed.has(Id)) await this.#ask(Id);
    }
    this.#buttons();
  }

  /** Reads one operation; removes it from the list if it has expired on the server. */
  async #ask(id) {
    try {
      const operation = await api.operation(id);
      // Another user may be in use by now.
      if (this.#known.has(id)) this.#change(operation);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#drop(id);
    }
  }

  async #older() {
    const button = byId('older');
    const events = this.#events;
    button.disabled = true;
    try {
      const page = await api.operations(this.#token);
      if (events !== this.#events) return;
      this.#token = page.token;
      for (const operation of page.operations) this.take(operation);
    } catch (error) {
      tell(error.message);
    } finally {
      button.disabled = false;
      this.#buttons();
    }
  }

  #buttons() {
    byId('older').hidden = !this.#token || this.#known.size >= SHOWN_MAX;
    byId('no-operations').hidden = this.#known.size > 0;
  }

  #draw() {
    const list = byId('operation-list');
    for (const id of this.#dirty) {
      const operation = this.#known.get(id);
      let card = this.#cards.get(id);
      if (card === undefined) {
        card = new Card(operation, (ended) => this.#change(ended));
        this.#cards.set(id, card);
        list.insertBefore(card.element, this.#follower(operation));
      }
      card.show(operation);
    }
    this.#dirty.clear();
    this.#forget();
    this.#buttons();
  }

  /** The card before which a new card is inserted: the newest operation is first. */
  #follower(operation) {
    const cards = byId('operation-list').children;
    for (const card of cards) if (card.dataset.started < operation.StartedAt) return card;
    return null;
  }

  /** Removes the oldest ended operations beyond the limit. */
  #forget() {
    const cards = byId('operation-list').children;
    for (let index = cards.length - 1; this.#cards.size > SHOWN_MAX && index > 0; index -= 1) {
      const { id } = cards[index].dataset;
      if (this.#known.get(id).State !== 'Running') this.#drop(id);
    }
  }

  #drop(id) {
    this.#cards.get(id)?.element.remove();
    for (const all of [this.#known, this.#cards, this.#dirty]) all.delete(id);
  }

  #rewrite() {
    if (document.hidden) return;
    for (const [id, card] of this.#cards) card.show(this.#known.get(id));
  }
}

/** One operation in the list. */
class Card {
  #head = make('p', { className: 'head' });
  #state = make('span', { className: 'state' });
  #bar = make('progress', {});
  #figures = make('summary', { className: 'figures' });
  #note = make('p', { className: 'error' });
  #cancel;
  #details = make('dl', {});

  /** `changed` is called with the operation after it was cancelled. */
  constructor(operation, changed) {
    this.#cancel = make('button', { type: 'button', textContent: 'Cancel', className: 'small',
      attributes: { 'aria-label': `Cancel: ${title(operation)}` } });
    this.#cancel.addEventListener('click', () => this.#stop(operation.Id, changed));
    setLabel(this.#bar, title(operation));
    this.#head.append(...heading(operation));
    this.element = make('li', { className: 'card' },
      make('div', { className: 'top' }, this.#head, this.#state),
      make('div', { className: 'top' }, this.#bar, this.#cancel),
      make('details', {}, this.#figures, this.#details),
      this.#note);
    Object.assign(this.element.dataset, { id: operation.Id, started: operation.StartedAt });
  }

  show(operation) {
    const running = operation.State === 'Running';
    this.element.dataset.state = operation.State;
    setText(this.#state, operation.State);
    this.#bar.hidden = !running;
    this.#cancel.hidden = !running;
    const done = share(operation);
    // Without totals the progress is unknown: the bar has no value then.
    if (done === null) this.#bar.removeAttribute('value');
    else this.#bar.value = done;
    setText(this.#figures, running ? pace(operation, done) : result(operation));
    setTitle(this.#figures, running ? operation.CurrentPath : text.date(operation.FinishedAt));
    this.#note.hidden = operation.Error === null;
    setText(this.#note, operation.Error?.Message ?? '');
    this.#details.replaceChildren(...facts(operation).flatMap(([name, value]) => [
      make('dt', { textContent: name }), make('dd', { textContent: value })]));
  }

  async #stop(id, changed) {
    this.#cancel.disabled = true;
    try {
      changed(await api.cancel(id));
    } catch (error) {
      tell(error.message);
      this.#cancel.disabled = false;
      // The operation ended before the cancel; its last event says how.
      if (error.status === 409) return;
      this.#note.hidden = false;
      setText(this.#note, error.message);
    }
  }
}

/** Whether one state of an operation is newer than another. */
function isNewer(next, before) {
  if (before.State !== 'Running') return false;
  return next.State !== 'Running' || next.UpdatedAt >= before.UpdatedAt;
}

function title({ Kind, RemoteSource, RemoteDestination }) {
  const paths = [RemoteSource, RemoteDestination].filter((path) => path !== '').join(' to ');
  return `${VERBS[Kind] ?? Kind} ${paths}`;
}

function heading({ Kind, RemoteSource, RemoteDestination }) {
  const parts = [make('b', { textContent: VERBS[Kind] ?? Kind })];
  if (RemoteSource !== '') parts.push(path(RemoteSource));
  if (RemoteSource !== '' && RemoteDestination !== '') {
    parts.push(make('span', { className: 'arrow', textContent: '→' }));
  }
  if (RemoteDestination !== '') parts.push(path(RemoteDestination));
  return parts;
}

const path = (value) => make('span', { className: 'path', textContent: value, title: value });

/** The fraction done, from 0 to 1; null while there are no totals. */
function share(operation) {
  const [total, files] = [Number(operation.BytesTotal), Number(operation.FilesTotal)];
  if (total > 0) return (Number(operation.BytesDone) + Number(operation.BytesSkipped)) / total;
  if (files > 0) return (Number(operation.FilesDone) + Number(operation.FilesSkipped)) / files;
  return null;
}

function seconds(operation) {
  const end = operation.FinishedAt ?? operation.UpdatedAt;
  return Math.max(0, (new Date(end) - new Date(operation.StartedAt)) / 1000);
}

/** The progress, the rate and the time left. */
function pace(operation, done) {
  if (done === null) return 'Starting';
  const spent = seconds(operation);
  const parts = [`${Math.floor(done * 100)} %`,
    `${text.bytes(Number(operation.BytesDone))} of ${text.bytes(Number(operation.BytesTotal))}`];
  if (spent >= 1 && done > 0) {
    parts.push(`${text.bytes(Math.round(Number(operation.BytesDone) / spent))}/s`);
    parts.push(`${text.span((spent / done) * (1 - done))} left`);
  }
  return parts.join(' · ');
}

/** The summary of an ended operation. */
function result(operation) {
  const parts = [text.ago(operation.FinishedAt)];
  if (operation.State === 'Succeeded') {
    parts.unshift(text.things(Number(operation.FilesDone), 'file'),
      text.bytes(Number(operation.BytesDone)));
    const skipped = Number(operation.FilesSkipped);
    const replaced = Number(operation.FilesReplaced);
    const beside = [];
    if (skipped > 0) beside.push(`${text.count(skipped)} left out`);
    if (replaced > 0) beside.push(`replaced ${text.things(replaced, 'file')}`);
    if (operation.SkipFilesUnmatched.length > 0) beside.push(`${unmatched(operation)} left nothing out`);
    parts.splice(2, 0, ...beside);
  }
  return parts.join(' · ');
}

/** The first name that left nothing out, and the number of other such names. */
function unmatched({ SkipFilesUnmatched: [first, ...more] }) {
  return more.length === 0 ? `“${first}”` : `“${first}” and ${text.things(more.length, 'other name')}`;
}

function facts(operation) {
  const files = `${text.count(Number(operation.FilesDone))} of `
    + `${text.things(Number(operation.FilesTotal), 'file')}, `
    + `${text.count(Number(operation.FilesSkipped))} left out`;
  const size = `${text.bytes(Number(operation.BytesDone))} of `
    + `${text.bytes(Number(operation.BytesTotal))}, `
    + `${text.bytes(Number(operation.BytesSkipped))} left out`;
  const rows = [['Started', text.date(operation.StartedAt)]];
  if (operation.FinishedAt) rows.push(['Duration', text.span(seconds(operation))]);
  if (operation.CurrentPath) rows.push(['Current path', operation.CurrentPath]);
  if (operation.Caller) rows.push(['Caller', operation.Caller]);
  rows.push(['Files', files], ['Size', size]);
  if (operation.FilesReplaced !== '0') {
    rows.push(['Replaced', text.things(Number(operation.FilesReplaced), 'file')]);
  }
  if (operation.SkipFilesUnmatched.length > 0) {
    rows.push(['No file named', operation.SkipFilesUnmatched.map((name) => `“${name}”`).join(', ')]);
  }
  if (operation.Error) rows.push(['Code', operation.Error.Code]);
  rows.push(['Id', operation.Id]);
  return rows;
}

function live(state, words) {
  const element = byId('live');
  element.dataset.state = state;
  setText(element, words);
}
