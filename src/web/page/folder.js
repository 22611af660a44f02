// The folder that is shown: its pages, its filter, and the sizes of the folders in view.

import * as access from './access.js';
import * as api from './api.js';
import { byId, icon, iconButton, make, setText } from './dom.js';
import { follow } from './downloads.js';
import { shown } from './escape.js';
import { Rows } from './rows.js';
import * as text from './text.js';

/** The next page is loaded when so few entries are left below the view. */
const AHEAD = 500;
/** The number of parallel requests for sizes of folders. */
const SIZES_AT_ONCE = 2;

export class Folder {
  /** The path of the folder; empty for the root. */
  path = '';
  #entries = [];
  #shown = [];
  #token = '';
  #tag = '';
  #filter = '';
  #loading = false;
  #stale = false;
  #short = false;
  #wanted = [];
  #asking = 0;
  #stop = new AbortController();
  #rows;
  #actions;

  /**
   * `actions` are callbacks: `copy(path)`, `remove(entry)` and `up()` for the user's actions, `isFile(path)`
   * if the path is that of a file, `gone(path)` if the folder was deleted.
   */
  constructor(actions) {
    this.#actions = actions;
    this.#rows = new Rows(byId('entries'), byId('rows'), {
      make: (entry) => this.#row(entry),
      same: looksSame,
      seen: (seen, last) => this.#seen(seen, last),
    });
    byId('filter').addEventListener('input', (event) => this.#sift(event.target.value));
    byId('rows').addEventListener('keydown', (event) => this.#key(event));
  }

  /** Shows another folder; the entry `name` becomes the active one. */
  async open(path, name) {
    const hadFocus = byId('entries').contains(document.activeElement);
    this.#stop.abort();
    this.#stop = new AbortController();
    this.path = path;
    this.#entries = [];
    this.#token = '';
    this.#tag = '';
    this.#filter = '';
    this.#loading = false;
    this.#short = false;
    this.#wanted = [];
    byId('filter').value = '';
    crumbs(path);
    problem(null);
    this.#show(false);
    setText(byId('shown'), 'Loading…');
    byId('empty').hidden = true;
    await this.#load(false);
    if (path !== this.path) return;
    if (name !== undefined) this.#rows.choose(name);
    else if (hadFocus) this.#rows.focus();
  }

  /** Reads the folder again, as many entries as were loaded, and keeps the scroll position. */
  async refresh() {
    this.#tag = '';
    await this.check();
  }

  /**
   * Reads the folder again, only if it has changed or the last read failed. Resolves to whether it has
   * read the folder.
   */
  async check() {
    if (!this.#loading) return this.#load(true);
    this.#stale = true;
    return false;
  }

  /** Reads pages from the first one, with `again` until as many entries are loaded as before. */
  async #load(again) {
    const signal = this.#stop.signal;
    const [path, wanted] = [this.path, again ? this.#entries.length : 1];
    this.#loading = true;
    if (this.#tag === '') byId('entries').setAttribute('aria-busy', 'true');
    try {
      let page = await api.list(path, '', signal, this.#tag);
      if (page === null) {
        problem(null);
        return false;
      }
      // The tag of the first page: if the folder changes meanwhile, the next check finds another tag.
      const { entries, tag } = page;
      while (page.token !== '' && entries.length < wanted) {
        page = await api.list(path, page.token, signal);
        for (const entry of page.entries) entries.push(entry);
      }
      if (entries.length === 1 && entries[0].path === path && path !== '') {
        this.#actions.isFile(path);
        return true;
      }
      if (again) remember(this.#entries, entries);
      [this.#entries, this.#token, this.#tag] = [entries, page.token, tag];
      problem(null);
      this.#show(again);
      this.#total(signal);
      return true;
    } catch (error) {
      this.#failed(error, again, signal);
      return false;
    } finally {
      this.#loaded(signal);
    }
  }

  #failed(error, again, signal) {
    if (signal.aborted) return;
    if (error.status === 404 && this.path !== '' && this.#entries.length > 0) {
      this.#actions.gone(this.path);
      return;
    }
    if (!again) {
      setText(byId('shown'), '');
      setText(byId('total'), '');
    }
    this.#problem(error);
  }

  /** Shows why the folder was not read. */
  #problem({ message, status }) {
    if (status === 401) problem(message, 'Sign in', () => access.signIn().catch(() => {}));
    else problem(message, 'Try again', () => this.refresh());
  }

  #loaded(signal) {
    if (signal.aborted) return;
    this.#loading = false;
    byId('entries').removeAttribute('aria-busy');
    if (this.#stale) {
      this.#stale = false;
      this.check();
    } else if (this.#short || this.#filter !== '') {
      this.#more();
    }
  }

  /** Reads the next page. */
  async #more() {
    this.#short = this.#loading && this.#token !== '';
    if (this.#loading || this.#token === '') return;
    const signal = this.#stop.signal;
    this.#loading = true;
    try {
      const page = await api.list(this.path, this.#token, signal);
      for (const entry of page.entries) this.#entries.push(entry);
      this.#token = page.token;
      this.#shown = this.#sifted();
      this.#rows.extend(this.#shown);
      this.#count();
    } catch (error) {
      if (signal.aborted) return;
      // The loaded entries stay. Without token and tag, only a new read of the folder continues.
      [this.#token, this.#tag] = ['', ''];
      this.#problem(error);
    } finally {
      this.#loaded(signal);
    }
  }

  #show(keep) {
    this.#shown = this.#sifted();
    this.#rows.show(this.#shown, keep);
    this.#count();
  }

  #sift(filter) {
    this.#filter = shown(filter.trim()).toLowerCase();
    this.#show(false);
    // The filter must cover all entries, so the pages that are not loaded yet are loaded.
    if (this.#filter !== '') this.#more();
  }

  #sifted() {
    if (this.#filter === '') return this.#entries;
    return this.#entries.filter(({ folded }) => shown(folded).includes(this.#filter));
  }

  #count() {
    const all = text.things(this.#entries.length, 'entry', 'entries');
    const more = this.#token === '' ? '' : ', more below';
    const some = this.#filter === '' ? '' : `${text.count(this.#shown.length)} of `;
    setText(byId('shown'), `${some}${all}${more}`);
    const empty = byId('empty');
    empty.hidden = this.#shown.length > 0;
    setText(empty, this.#filter === ''
      ? 'Nothing is stored here. Drop files or folders to upload them.'
      : `No name contains “${this.#filter}”.`);
  }

  async #total(signal) {
    try {
      setText(byId('total'), `${text.bytes(await api.folderSize(this.path, signal))} in all`);
    } catch {
      if (!signal.aborted) setText(byId('total'), '');
    }
  }

  #seen(entries, last) {
    if (last + AHEAD >= this.#shown.length) this.#more();
    this.#wanted = entries.filter((entry) => entry.folder && !entry.sized);
    while (this.#asking < SIZES_AT_ONCE && this.#wanted.length > 0) this.#size();
  }

  /** Requests the sizes of the folders in view, until all are known. A listing does not have them. */
  async #size() {
    this.#asking += 1;
    for (let entry = this.#wanted.shift(); entry; entry = this.#wanted.shift()) {
      entry.sized = true;
      try {
        entry.size = await api.folderSize(entry.path, this.#stop.signal);
      } catch {
        // The folder was deleted, or another folder is shown. The next listing shows which.
        continue;
      }
      const cell = this.#rows.rowOf(entry)?.querySelector('.size');
      if (cell) setText(cell, text.bytes(entry.size));
    }
    this.#asking -= 1;
  }

  #row(entry) {
    const { copy, remove } = this.#actions;
    const size = entry.size === undefined ? '…' : text.bytes(entry.size);
    const modified = entry.modified === undefined ? '' : text.date(entry.modified);
    return make('tr', {},
      make('th', { scope: 'row' }, make('span', { className: 'name' }, picture(entry), link(entry))),
      make('td', { className: 'number size', textContent: size }),
      make('td', {
        className: 'number count', textContent: entry.folder ? text.count(entry.count) : '',
      }),
      make('td', { className: 'date', textContent: modified }),
      make('td', { className: 'actions' },
        download(entry),
        iconButton('copy', `Copy ${entry.name}`, () => copy(entry.path)),
        iconButton('delete', `Delete ${entry.name}`, () => remove(entry))));
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const index = Number(event.target.closest('tr')?.dataset.index);
    if (event.key === 'Delete' && this.#shown[index]) this.#actions.remove(this.#shown[index]);
    if (event.key === 'Backspace' && this.path !== '') this.#actions.up();
  }
}

/** The URL fragment of a folder in this page. */
export const place = (path) => `#/${api.encode(path)}`;

function picture(entry) {
  if (entry.folder) return icon('folder');
  return icon(entry.name === '_.dir' ? 'mark' : 'file');
}

function link(entry) {
  const properties = { textContent: entry.name, title: entry.name };
  if (entry.folder) return make('a', { ...properties, href: place(entry.path) });
  return make('a', { ...properties, ...content(entry) });
}

function download(entry) {
  const label = `Download ${entry.name}`;
  return make('a', {
    className: 'quiet', title: label, ...content(entry), attributes: { 'aria-label': label },
  }, icon('download'));
}

/** The properties of a link to the bytes of a file, or to a folder as an archive. */
const content = (entry) => ({
  href: api.savedAddress(entry), download: api.savedName(entry),
  on: { click: (event) => follow(event, entry) },
});

/** Whether the rows of two entries with one path have the same content. */
function looksSame(one, other) {
  return ['folder', 'size', 'count', 'modified'].every((key) => one[key] === other[key]);
}

/** Takes over the known sizes of folders, until they are requested again. */
function remember(before, after) {
  const sizes = new Map();
  for (const entry of before) if (entry.folder) sizes.set(entry.path, entry.size);
  for (const entry of after) if (entry.folder) entry.size = sizes.get(entry.path);
}

function crumbs(path) {
  const items = [['Store', '']];
  for (const name of api.segments(path)) items.push([name, api.join(items.at(-1)[1], name)]);
  byId('crumbs').replaceChildren(...items.map(([name, below], index) => {
    const here = index === items.length - 1;
    const attributes = here ? { 'aria-current': 'page' } : {};
    return make('li', {}, make('a', { textContent: name, href: place(below), attributes }));
  }));
}

function problem(message, label, action) {
  const box = byId('problem');
  // The same message is not announced again, and its button keeps the focus.
  if (message !== null && box.firstChild?.data === shown(message)) return;
  box.hidden = message === null;
  if (message === null) box.replaceChildren();
  else {
    box.replaceChildren(shown(message),
      make('button', { type: 'button', textContent: label, on: { click: action } }));
  }
}
