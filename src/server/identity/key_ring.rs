//! The keys of one issuer, as the server knows them: fetched at the start, from time to time, and when a JWT has an
//! unknown key. An issuer that cannot be reached leaves the known keys in use for a while.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    issuer_client::fetch,
    jwks::{Algorithm, Key},
};
use crate::{
    access::{Issuer, shown},
    error::{Error, Kind, Result},
    limits::{ISSUER_AGAIN, ISSUER_EVERY, ISSUER_KEYS_LIFE, ISSUER_TIME},
};

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct KeyRing {
    pub(super) issuer: Issuer,
    state: watch::Sender<State>,
    /// Asks for a fetch.
    wanted: Notify,
    is_kept: AtomicBool,
    removed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Arc<Key>>,
    /// The end of their use; `None`: they were never fetched.
    until: Option<Instant>,
    /// When an unknown key was looked for.
    wanted_at: Option<Instant>,
    /// Whether a fetch runs, or is about to.
    is_fetching: bool,
    /// The fetches that have ended.
    ended: u64,
    /// Why the last one has failed.
    failure: Option<String>,
}

impl State {
    fn is_fresh(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    fn find(&self, id: &str, algorithm: Algorithm) -> Option<Arc<Key>> {
        let found = self.keys.iter().find(|key| key.is(id, algorithm));
        found.filter(|_| self.is_fresh()).cloned()
    }

    /// What to do about an unknown key.
    fn want(&mut self) -> Want {
        if self.is_fetching {
            return Want::Wait;
        }
        if self.wanted_at.is_some_and(|at| at.elapsed() < ISSUER_AGAIN) {
            return Want::Nothing;
        }
        self.wanted_at = Some(Instant::now());
        self.is_fetching = true;
        Want::Fetch
    }
}

/// What to do about an unknown key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Refuse it: it was looked for a moment ago.
    Nothing,
    /// Wait for the fetch that runs.
    Wait,
    /// Begin a fetch.
    Fetch,
}

impl KeyRing {
    /// The ring of an issuer, without keys.
    pub(super) fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            // The first fetch begins with the ring.
            state: watch::Sender::new(State { is_fetching: true, ..State::default() }),
            wanted: Notify::new(),
            is_kept: AtomicBool::new(false),
            removed: CancellationToken::new(),
        }
    }

    /// Whether a key may still be used.
    pub(super) fn takes(&self, key: &Key) -> bool {
        !key.gone.is_cancelled() && self.state.borrow().is_fresh()
    }

    /// The key with an id for an algorithm. One that is not known is looked for at the issuer, at most once in
    /// [`ISSUER_AGAIN`], for at most [`ISSUER_TIME`].
    ///
    /// # Errors
    /// `Unauthenticated` if the issuer has no such key; `Busy` if no key is known, because the issuer was not reached.
    ///
    /// # Cancel safety
    /// The fetch goes on.
    pub(super) async fn key(&self, id: &str, algorithm: Algorithm) -> Result<Arc<Key>> {
        if let Some(key) = self.state.borrow().find(id, algorithm) {
            return Ok(key);
        }
        let mut state = self.state.subscribe();
        let (mut want, mut ended) = (Want::Nothing, 0);
        self.state.send_if_modified(|state| {
            (want, ended) = (state.want(), state.ended);
            false
        });
        match want {
            Want::Nothing => return Err(self.unknown(&self.state.borrow(), id)),
            Want::Wait => {}
            Want::Fetch => self.wanted.notify_one(),
        }
        // What has not come by then is looked for by the next call.
        timeout(ISSUER_TIME, state.wait_for(|state| state.ended > ended)).await.ok();
        let now = self.state.borrow();
        now.find(id, algorithm).ok_or_else(|| self.unknown(&now, id))
    }

    fn unknown(&self, state: &State, id: &str) -> Error {
        let name = &self.issuer.name;
        if !state.is_fresh() {
            let message =
                format!("the keys of the issuer '{name}' are not known now; try again later");
            return Error::new(Kind::Busy, message);
        }
        let id = shown(id);
        let message = format!(
            "the JWT is signed by an unknown key: the issuer '{name}' has no such key '{id}'"
        );
        Error::new(Kind::Unauthenticated, message)
    }

    /// Keeps the keys fresh until the issuer is removed. Does nothing at a second call.
    pub(super) async fn keep(&self) {
        if !self.is_kept.swap(true, Ordering::Relaxed) {
            self.removed.run_until_cancelled(self.keep_fresh()).await;
        }
    }

    async fn keep_fresh(&self) {
        loop {
            self.state.send_modify(|state| state.is_fetching = true);
            let before = self.state.borrow().keys.clone();
            let fetched = fetch(&self.issuer, &before).await;
            self.settle(fetched);
            let is_failed = self.state.borrow().failure.is_some();
            let pause = if is_failed { ISSUER_AGAIN } else { ISSUER_EVERY };
            select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Takes the result of a fetch.
    pub(super) fn settle(&self, fetched: std::result::Result<Vec<Arc<Key>>, String>) {
        let (name, now) = (&self.issuer.name, Instant::now());
        self.state.send_modify(|state| {
            state.is_fetching = false;
            state.ended += 1;
            let failure = match fetched {
                // A fetch that ends with the issuer brings no keys back.
                _ if self.removed.is_cancelled() => return,
                Ok(keys) => {
                    let failure = keys.is_empty().then(|| "it has no key that is taken".to_owned());
                    replace(&mut state.keys, keys);
                    state.until = Some(now + ISSUER_KEYS_LIFE);
                    failure
                }
                Err(error) => Some(error),
            };
            match (&state.failure, &failure) {
                (before, Some(error)) if before.as_ref() != Some(error) => {
                    warn!(issuer = name, error, "the keys of an issuer cannot be fetched");
                }
                (Some(_), None) => info!(issuer = name, "the keys of an issuer are fetched again"),
                _ => {}
            }
            if !state.is_fresh() && !state.keys.is_empty() {
                warn!(issuer = name, "the keys of an issuer are too old to be taken");
                replace(&mut state.keys, Vec::new());
            }
            state.failure = failure;
        });
    }

    /// Ends the use of all keys, since the issuer was removed or has changed.
    pub(super) fn remove(&self) {
        self.removed.cancel();
        self.state.send_modify(|state| replace(&mut state.keys, Vec::new()));
    }
}

/// Replaces keys by others. What was verified by one that is not among the new ones has to be verified again.
fn replace(keys: &mut Vec<Arc<Key>>, by: Vec<Arc<Key>>) {
    for old in std::mem::replace(keys, by) {
        if !keys.iter().any(|key| Arc::ptr_eq(key, &old)) {
            old.gone.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{access::Grants, server::identity::jwks};

    const ALGORITHM: Algorithm = Algorithm::EdDsa;

    fn ring() -> KeyRing {
        let text = "[[issuer]]\nname = 'ci'\nurl = 'https://ci.example'\naudience = 'store'\n";
        let grants = Grants::parse(text.as_bytes()).expect("grants");
        KeyRing::new(grants.issuers()[0].clone())
    }

    /// Settles a fetch that has found keys with these ids.
    fn found(ring: &KeyRing, ids: &[&str]) {
        let x = "A".repeat(43);
        let keys: Vec<_> = ids
            .iter()
            .map(|id| json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x }))
            .collect();
        let before = ring.state.borrow().keys.clone();
        let json = json!({ "keys": keys }).to_string();
        ring.settle(jwks::read(json.as_bytes(), &before));
    }

    fn failed(ring: &KeyRing) {
        ring.settle(Err("nobody answers".to_owned()));
    }

    fn known(ring: &KeyRing, id: &str) -> Option<Arc<Key>> {
        ring.state.borrow().find(id, ALGORITHM)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_outlive_an_issuer_that_is_down_for_a_while() {
        let ring = ring();
        found(&ring, &["a"]);
        let key = known(&ring, "a").expect("known");
        tokio::time::advance(ISSUER_KEYS_LIFE - ISSUER_AGAIN).await;
        failed(&ring);
        assert!(ring.takes(&key) && known(&ring, "a").is_some());
        tokio::time::advance(ISSUER_AGAIN).await;
        assert!(!ring.takes(&key) && known(&ring, "a").is_none(), "too old");
        assert!(!key.gone.is_cancelled(), "watches go on until the next fetch");
        let refused = ring.unknown(&ring.state.borrow(), "a");
        assert_eq!(refused.kind(), Kind::Busy);
        failed(&ring);
        assert!(key.gone.is_cancelled());
        found(&ring, &["a"]);
        assert!(!ring.takes(&key) && known(&ring, "a").is_some(), "another key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_stays_is_the_same_and_one_that_goes_ends() {
        let ring = ring();
        found(&ring, &["a", "b"]);
        let (a, b) = (known(&ring, "a").expect("a"), known(&ring, "b").expect("b"));
        found(&ring, &["b", "c"]);
        assert!(a.gone.is_cancelled() && !ring.takes(&a));
        assert!(!b.gone.is_cancelled() && ring.takes(&b));
        assert!(known(&ring, "b").is_some_and(|key| Arc::ptr_eq(&key, &b)));
        found(&ring, &[]);
        assert!(b.gone.is_cancelled() && known(&ring, "c").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_removed_has_no_keys() {
        let ring = ring();
        found(&ring, &["a"]);
        let key = known(&ring, "a").expect("known");
        ring.remove();
        assert!(key.gone.is_cancelled() && !ring.takes(&key));
        found(&ring, &["a"]);
        assert!(known(&ring, "a").is_none(), "a fetch that was running");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_looked_for_once_in_a_while() {
        let ring = ring();
        let want = || {
            let mut want = None;
            ring.state.send_if_modified(|state| {
                want = Some(state.want());
                false
            });
            want.expect("an answer")
        };
        assert_eq!(want(), Want::Wait, "for the first fetch");
        found(&ring, &["a"]);
        assert_eq!((want(), want()), (Want::Fetch, Want::Wait));
        found(&ring, &["a"]);
        assert_eq!(want(), Want::Nothing);
        let refused = ring.key("b", ALGORITHM).await.expect_err("unknown");
        assert_eq!(refused.kind(), Kind::Unauthenticated);
        assert!(refused.message().contains("an unknown key: the issuer 'ci' has no such key 'b'"));
        tokio::time::advance(ISSUER_AGAIN).await;
        assert_eq!(want(), Want::Fetch);
    }
}
