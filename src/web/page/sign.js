// Signing in and out.

import * as access from './access.js';
import { probe } from './api.js';
import { askToken } from './dialogs.js';
import { byId, tell } from './dom.js';

/**
 * Connects the dialog and the buttons. `changed()` is called when the page should show what another user may see, and
 * `left()` before the user signs out.
 */
export function start({ changed, left }) {
  access.connect({
    ask: (why) => askToken(why, probe),
    changed: (isDismissed) => {
      show(isDismissed);
      changed();
    },
  });
  byId('sign-in').addEventListener('click', () => access.signIn().catch(() => {}));
  byId('sign-out').addEventListener('click', () => {
    left();
    access.signOut();
    tell('Signed out');
  });
  show(false);
}

/** Shows the button to sign out while a token is in use, and the one to sign in after the user has given none. */
function show(isDismissed) {
  byId('sign-out').hidden = access.current() === '';
  byId('sign-in').hidden = !isDismissed;
}
