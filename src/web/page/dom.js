// Makes elements. Text goes in as text, never as markup: names of files are not to be trusted.

const SVG = 'http://www.w3.org/2000/svg';

/** The element of the page with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Makes an element. `options` are properties of it; `attributes` and `on` (listeners) are among
 * them. Strings among the children become text.
 */
export function make(tag, { attributes = {}, on = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.filter((child) => child !== null));
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
  if (element.textContent !== text) element.textContent = text;
}

/** Tells those who cannot see the page what has happened. */
export function tell(text) {
  byId('news').textContent = text;
}
