// Escapes for characters that are invisible or change how other characters are displayed.
//
// The store accepts such characters in names. No path has a backslash, so an escape cannot be mistaken for a
// part of a name. The command line escapes the same characters, which a test checks (src/cli/escape.rs).

/** The first and last character of each range: controls, formats, line separators, blank letters. */
const HIDDEN = [
  [0x0, 0x1f], [0x7f, 0x9f], [0xad, 0xad], [0x34f, 0x34f], [0x600, 0x605], [0x61c, 0x61c],
  [0x6dd, 0x6dd], [0x70f, 0x70f], [0x890, 0x891], [0x8e2, 0x8e2], [0x115f, 0x1160],
  [0x17b4, 0x17b5], [0x180e, 0x180e], [0x200b, 0x200f], [0x2028, 0x202e], [0x2060, 0x2064],
  [0x2066, 0x206f], [0x2800, 0x2800], [0x3164, 0x3164], [0xfeff, 0xfeff], [0xffa0, 0xffa0],
  [0xfff9, 0xfffb], [0x110bd, 0x110bd], [0x110cd, 0x110cd], [0x13430, 0x1343f],
  [0x1bca0, 0x1bca3], [0x1d173, 0x1d17a], [0xe0001, 0xe0001], [0xe0020, 0xe007f],
];

const hex = (number) => number.toString(16);
const ranges = HIDDEN.map(([first, last]) => `\\u{${hex(first)}}-\\u{${hex(last)}}`).join('');
const ONE = new RegExp(`^[${ranges}]$`, 'u');
const EACH = new RegExp(`[${ranges}]`, 'gu');

/** A text in which each hidden character is `\u{...}` with its code point in hexadecimal. */
export const shown = (text) => text.replace(EACH, (hidden) => `\\u{${hex(hidden.codePointAt(0))}}`);

/** The inverse of `shown`, also for a text that was edited. Only escapes of hidden characters are converted. */
export const meant = (text) => text.replace(/\\u\{([0-9a-f]{1,6})\}/gi, (escape, digits) => {
  const number = parseInt(digits, 16);
  const hidden = number <= 0x10ffff ? String.fromCodePoint(number) : '';
  return ONE.test(hidden) ? hidden : escape;
});
