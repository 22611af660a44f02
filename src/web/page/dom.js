// Makes elements. Text goes in as text, never as markup, and what hides in it is shown: names of files are
// not to be trusted.

import { shown } from './escape.js';

const SVG = 'http://www.w3.org/2000/svg';

/** The element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. `options` are properties of it; `attributes` and `on` (listeners) are among
 * them. Strings among the children become text.
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

/** An icon of the page's sprite. What it means is said beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('class', `icon ${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** A button with an icon and a name that is read out and shown on hovering. */
export function iconButton(name, label, listener) {
  const attributes = { 'aria-label': label };
  return make('button',
    { type: 'button', className: 'quiet', title: label, attributes, on: { click: listener } },
    icon(name));
}

/** Sets a text only where it differs, so that nothing is laid out or read out in vain. */
export function setText(element, text) {
  const visible = shown(text);
  if (element.textContent !== visible) element.textContent = visible;
}

/** Sets what is shown on hovering. */
export function setTitle(element, text) {
  element.title = shown(text);
}

/** Sets the name that is read out. */
export function setLabel(element, text) {
  element.setAttribute('aria-label', shown(text));
}

/** Tells those who cannot see the page what has happened. */
export function tell(text) {
  byId('news').textContent = shown(text);
}
