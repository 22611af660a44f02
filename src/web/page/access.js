// The token by which the server knows the user, where it asks for one.
//
// A token is in memory, and in `sessionStorage` if the user wants that; never in a URL, a cookie, or another storage.
// So only the scripts of this page send it, and no link or other page does.

/** Stores below other paths of the same origin are behind the same proxy, and must not get the token of this one. */
const KEY = `imagestore-token ${location.pathname}`;

let token = kept();
/** The promise of the open question for a token; null if there is none. */
let question = null;
/** Whether the user has closed the last question without a token. */
let isDismissed = false;
/** Asks the user; set by `connect`. */
let ask;
let changed;

/**
 * Connects this module to the page. `ask(why)` resolves to `{ token, keep }` with a token that the server takes, or
 * to null; `why` says why the last token was refused, and is empty without one. `changed(isDismissed)` is called when
 * another user or none is in use, and when a question was closed without a token.
 */
export function connect(page) {
  ({ ask, changed } = page);
}

/** The token in use; empty without one. */
export const current = () => token;

/** The header for requests with a token. */
export const header = (used) => (used === '' ? {} : { Authorization: `Bearer ${used}` });

/** Asks for a token in any case. Resolves when one is in use; rejects if the user gives none. */
export function signIn() {
  isDismissed = false;
  return another(token, new Error(''), true);
}

/** Forgets the token. */
export function signOut() {
  use('', false);
  changed(false);
}

/**
 * Resolves when another token than `used`, which the server has refused, is in use. Rejects with `failure` if the user
 * gives none, and without a question if the user has given none before, unless the call `isAction` of the user.
 */
export async function another(used, failure, isAction) {
  if (question === null && used === token) {
    if (isDismissed && !isAction) throw failure;
    question = begin(used === '' ? '' : failure.message);
  }
  if (question !== null && !await question) throw failure;
}

/** Asks for a token. Resolves to whether the user has given one. All calls that are refused meanwhile wait for it. */
async function begin(why) {
  if (token !== '') use('', false);
  const given = await ask(why);
  question = null;
  isDismissed = given === null;
  if (given !== null) use(given.token, given.keep);
  changed(isDismissed);
  return given !== null;
}

function use(next, keep) {
  token = next;
  try {
    if (keep) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  } catch {
    // The browser allows no storage: the token is in memory.
  }
}

function kept() {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}
