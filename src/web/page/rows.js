// A virtual table body: it has only the rows in view, so that a folder of 100,000 entries scrolls as fast as
// one of ten. An empty row above and one below have the height of all other rows.
//
// Only the active row is in the order of the Tab key; the arrow keys change the active row (roving tabindex).

import { make } from './dom.js';

/** The number of extra rows above and below the view, so that scrolling shows no gap. */
const SPARE = 12;

/** The keys that change the active row, with their distance in rows or in pages of rows. */
const MOVES = {
  ArrowDown: { rows: 1 }, ArrowUp: { rows: -1 }, PageDown: { pages: 1 }, PageUp: { pages: -1 },
  Home: { rows: -Infinity }, End: { rows: Infinity },
};

export class Rows {
  #scroller;
  #body;
  #make;
  #same;
  #seen;
  #entries = [];
  #rows = new Map();
  #active = 0;
  #height = 0;
  #above = spacer();
  #below = spacer();

  /**
   * `make(entry)` makes the row of an entry; `same(one, other)` says whether two entries have equal rows;
   * `seen(entries, last)` is called with the entries in view and the end index of the view, whenever these
   * may have changed.
   */
  constructor(scroller, body, { make: makeRow, same, seen }) {
    this.#scroller = scroller;
    this.#body = body;
    this.#make = makeRow;
    this.#same = same;
    this.#seen = seen;
    body.append(this.#above, this.#below);
    scroller.addEventListener('scroll', () => this.#draw(), { passive: true });
    scroller.addEventListener('keydown', (event) => this.#key(event));
    body.addEventListener('focusin', (event) => this.#focused(event));
    new ResizeObserver(() => this.#measure()).observe(scroller);
    this.#measure();
  }

  /**
   * Shows other entries. With `keep`, they are a newer state of the same folder: the scroll position stays,
   * and so do unchanged rows, with their focus and selection.
   */
  show(entries, keep) {
    const focused = this.#body.contains(document.activeElement) ? document.activeElement : null;
    const row = focused?.closest('tr');
    const path = this.#entries[Number(row?.dataset.index)]?.path;
    const control = row ? [...row.querySelectorAll('a, button')].indexOf(focused) : 0;
    const active = keep ? this.#after(entries) : 0;
    const moved = this.#carry(keep ? entries : []);
    this.#entries = entries;
    this.#active = active;
    for (const [index, kept] of this.#rows) number(kept, index, index === active);
    this.#body.closest('table').setAttribute('aria-rowcount', String(entries.length + 1));
    const top = keep ? this.#scroller.scrollTop + moved * this.#height : 0;
    stretch(this.#above, 0);
    stretch(this.#below, (entries.length - this.#rows.size) * this.#height);
    this.#scroller.scrollTop = top;
    this.#draw();
    if (focused === null || entries.length === 0 || document.activeElement === focused) return;
    // Focuses the same button if the entry is the same. Of another entry only the name gets the focus, so that a
    // key press cannot delete that entry by mistake.
    this.#control(entries[this.#active].path === path ? control : 0)?.focus({ preventScroll: true });
  }

  /** Keeps the rows of unchanged entries. Returns by how many rows the entries in view have moved. */
  #carry(entries) {
    const before = new Map();
    for (const index of this.#rows.keys()) before.set(this.#entries[index].path, index);
    const first = Math.floor(this.#scroller.scrollTop / this.#height);
    const kept = new Map();
    let [nearest, moved] = [Infinity, 0];
    entries.forEach((entry, index) => {
      const old = before.get(entry.path);
      if (old === undefined) return;
      if (first > 0 && old >= first && old < nearest) [nearest, moved] = [old, index - old];
      if (!this.#same(this.#entries[old], entry)) return;
      kept.set(index, this.#rows.get(old));
      this.#rows.delete(old);
    });
    for (const row of this.#rows.values()) row.remove();
    this.#rows = kept;
    return moved;
  }

  /** Shows more entries after the present ones. */
  extend(entries) {
    this.#entries = entries;
    this.#body.closest('table').setAttribute('aria-rowcount', String(entries.length + 1));
    this.#draw();
  }

  /** The row of an entry; undefined if the entry is not in view. */
  rowOf(entry) {
    for (const [index, row] of this.#rows) if (this.#entries[index] === entry) return row;
    return undefined;
  }

  /** Focuses the active entry. */
  focus() {
    this.#control(0)?.focus();
  }

  /** A link or button of the active entry, by its index; the first is its name. */
  #control(number) {
    return this.#rows.get(this.#active)?.querySelectorAll('a, button')[number];
  }

  /** Makes the entry with this name the active one. */
  choose(name) {
    const index = this.#entries.findIndex((entry) => entry.name === name);
    if (index >= 0) this.#move(index);
  }

  /** The index of the active entry among other entries; if it is not among them, the nearest index. */
  #after(entries) {
    const name = this.#entries[this.#active]?.name;
    const index = entries.findIndex((entry) => entry.name === name);
    return index >= 0 ? index : Math.max(0, Math.min(this.#active, entries.length - 1));
  }

  #measure() {
    const height = getComputedStyle(this.#scroller).getPropertyValue('--row');
    this.#height = parseFloat(height);
    this.#draw();
  }

  #visible() {
    const head = this.#body.offsetTop;
    const top = Math.max(0, this.#scroller.scrollTop);
    const first = Math.floor(top / this.#height);
    const last = Math.ceil((top + this.#scroller.clientHeight - head) / this.#height);
    return [first, Math.min(last, this.#entries.length)];
  }

  #draw() {
    const [first, last] = this.#visible();
    const from = Math.max(0, first - SPARE);
    const to = Math.min(this.#entries.length, last + SPARE);
    if (this.#active < from || this.#active >= to) this.#adopt(Math.min(first, to - 1));
    this.#drop(from, to);
    let before = this.#above;
    for (let index = from; index < to; index += 1) {
      let row = this.#rows.get(index);
      if (row === undefined) {
        row = this.#row(index);
        this.#rows.set(index, row);
      }
      if (before.nextSibling !== row) before.after(row);
      before = row;
    }
    stretch(this.#above, from * this.#height);
    stretch(this.#below, (this.#entries.length - to) * this.#height);
    this.#seen(this.#entries.slice(first, last), last);
  }

  /** Removes the rows outside a range. If one of them has the focus, the table gets it. */
  #drop(from, to) {
    for (const [index, row] of this.#rows) {
      if (index >= from && index < to) continue;
      if (row.contains(document.activeElement)) this.#scroller.focus({ preventScroll: true });
      row.remove();
      this.#rows.delete(index);
    }
  }

  #row(index) {
    const row = this.#make(this.#entries[index]);
    number(row, index, index === this.#active);
    return row;
  }

  /** Makes an entry the active one, without moving the focus. */
  #adopt(index) {
    const [old, next] = [this.#rows.get(this.#active), this.#rows.get(index)];
    if (old) reachable(old, false);
    this.#active = Math.max(0, index);
    if (next) reachable(next, true);
  }

  #move(index) {
    const last = this.#entries.length - 1;
    const target = Math.max(0, Math.min(last, index));
    if (last < 0) return;
    const top = target * this.#height;
    const room = this.#scroller.clientHeight - this.#body.offsetTop - this.#height;
    const scroll = this.#scroller.scrollTop;
    if (top < scroll) this.#scroller.scrollTop = top;
    else if (top > scroll + room) this.#scroller.scrollTop = top - room;
    this.#adopt(target);
    this.#draw();
    this.focus();
  }

  #key(event) {
    const move = MOVES[event.key];
    if (move === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#height) - 2);
    this.#move(this.#active + (move.rows ?? move.pages * page));
  }

  #focused(event) {
    const row = event.target.closest('tr');
    if (row?.dataset.index !== undefined) this.#adopt(Number(row.dataset.index));
  }
}

/**
 * An empty row with the height of the rows out of view. It has one cell, in the first column: a cell that
 * spans all columns would show again the columns that a narrow page hides.
 */
function spacer() {
  return make('tr', { className: 'spacer', attributes: { 'aria-hidden': 'true' } }, make('td'));
}

/** Sets the index of a row, and whether it is in the order of the Tab key. */
function number(row, index, isActive) {
  row.dataset.index = String(index);
  row.setAttribute('aria-rowindex', String(index + 2));
  reachable(row, isActive);
}

function stretch(row, height) {
  row.hidden = height === 0;
  row.firstChild.style.height = `${height}px`;
}

/** Puts the links and buttons of a row into the order of the Tab key, or removes them from it. */
function reachable(row, yes) {
  for (const element of row.querySelectorAll('a, button')) element.tabIndex = yes ? 0 : -1;
}
