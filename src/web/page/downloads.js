// Downloads of files, and of folders as archives. The browser saves them, and it cannot send the token: with a token this
// page asks for an address that is signed for a minute, and gives that to the browser.

import * as access from './access.js';
import * as api from './api.js';
import { byId, make, tell } from './dom.js';

/** Lets the browser follow a link. With a token, it gets another address, which needs none. */
export async function follow(event, entry) {
  if (access.current() === '') return;
  event.preventDefault();
  try {
    const href = await api.createLink(entry);
    make('a', { href, download: api.savedName(entry) }).click();
    tell(`Download of ${entry.name} started`);
  } catch (error) {
    fail(entry, error);
  }
}

/** Shows that a download could not begin. */
function fail({ path, name }, { message }) {
  const card = make('li', { className: 'card' },
    make('div', { className: 'top' },
      make('p', { className: 'head' }, make('b', { textContent: 'Download' }),
        make('span', { className: 'path', textContent: path, title: path })),
      make('span', { className: 'state', textContent: 'Failed' }),
      make('button', {
        type: 'button', className: 'small', textContent: 'Clear', on: { click: () => clear(card) },
      })),
    make('p', { className: 'error', textContent: message }));
  card.dataset.state = 'Failed';
  byId('downloads').hidden = false;
  byId('download-list').prepend(card);
  tell(`Download of ${name}: failed`);
}

function clear(card) {
  card.remove();
  byId('downloads').hidden = byId('download-list').children.length === 0;
}
