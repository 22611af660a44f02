// A table body that holds only the rows that can be seen, so that a folder of 100,000 entries scrolls
// like one of ten. Two empty rows stand for all others.
//
// One row at a time takes part in the order of the Tab key; the arrow keys move that place.

import { make } from './dom.js';

/** Rows that are there beyond either edge, so that a scroll shows no gap. */
const SPARE = 12;

/** Keys that move, and by how much: in rows, or in pages of rows. */
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
   * `make(entry)` makes the row of an entry; `same(one, other)` says whether those of two entries look the
   * same; `seen(entries, last)` is told which entries are in view and the index of the last, whenever that
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
   * Shows other entries. Where `keep` says so, they are those of the same folder at another time: the place
   * is kept, and so are the rows of what looks as it did, with what is focused or selected in them.
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
    // The same button of the same entry; of another one only the name, which does no harm.
    this.#control(entries[this.#active].path === path ? control : 0)?.focus({ preventScroll: true });
  }

  /** Takes over the rows of what looks as it did. Answers by how many rows what is in view has moved. */
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

  /** Shows more entries behind those that are there. */
  extend(entries) {
    this.#entries = entries;
    this.#body.closest('table').setAttribute('aria-rowcount', String(entries.length + 1));
    this.#draw();
  }

  /** The row of an entry, if it is there. */
  rowOf(entry) {
    for (const [index, row] of this.#rows) if (this.#entries[index] === entry) return row;
    return undefined;
  }

  /** Puts the focus on the active entry. */
  focus() {
    this.#control(0)?.focus();
  }

  /** A link or button of the active entry; the first is its name. */
  #control(number) {
    return this.#rows.get(this.#active)?.querySelectorAll('a, button')[number];
  }

  /** Makes the entry of a name the active one. */
  choose(name) {
    const index = this.#entries.findIndex((entry) => entry.name === name);
    if (index >= 0) this.#move(index);
  }

  /** Where the active entry is among other entries, or what stands in its place there. */
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

  /** Takes away the rows outside of a range. Focus that was there stays with the table. */
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

  /** Makes an entry the one that Tab reaches. */
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
 * An empty row in place of those that are not there. Its one cell is in the first column: a cell that
 * spans columns would bring back those that a narrow page leaves out.
 */
function spacer() {
  return make('tr', { className: 'spacer', attributes: { 'aria-hidden': 'true' } }, make('td'));
}

/** Says which entry a row is of, and whether Tab reaches it. */
function number(row, index, isActive) {
  row.dataset.index = String(index);
  row.setAttribute('aria-rowindex', String(index + 2));
  reachable(row, isActive);
}

function stretch(row, height) {
  row.hidden = height === 0;
  row.firstChild.style.height = `${height}px`;
}

/** Puts the links and buttons of a row into the order of the Tab key, or takes them out. */
function reachable(row, yes) {
  for (const element of row.querySelectorAll('a, button')) element.tabIndex = yes ? 0 : -1;
}
