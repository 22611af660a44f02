// Creates and changes elements. Text is set as text, never as markup, and hidden characters are escaped,
// because names of files are untrusted.

import { shown } from './escape.js';

const SVG = 'http://www.w3.org/2000/svg';

/** The element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. The second argument has its properties, and in `attributes` and `on` its attributes and
 * event listeners. Strings among the children become text; null children are ignored.
 */
export function make(tag, { attributes = {}, on = {}, textContent, title, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (textContent !== undefined) setText(element, textContent);
  if (title !== undefined) setTitle(element, title);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, shown(value));
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  const some = children.filter((child) => child !== null);
  element.append(...some.map((child) => (typeof child === 'string' ? shown(child) : child)));
  return element;
}

/** An icon of the page's sprite, hidden from screen readers: its meaning is given by text beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('class', `icon ${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** A button with an icon, and a label for screen readers and as tooltip. */
export function iconButton(name, label, listener) {
  const attributes = { 'aria-label': label };
  return make('button',
    { type: 'button', className: 'quiet', title: label, attributes, on: { click: listener } },
    icon(name));
}

/** Sets a text only if it differs, to avoid a needless layout or announcement. */
export function setText(element, text) {
  const visible = shown(text);
  if (element.textContent !== visible) element.textContent = visible;
}

/** Sets the tooltip. */
export function setTitle(element, text) {
  element.title = shown(text);
}

/** Sets the label for screen readers. */
export function setLabel(element, text) {
  element.setAttribute('aria-label', shown(text));
}

/** Announces a text to screen readers. */
export function tell(text) {
  byId('news').textContent = shown(text);
}
