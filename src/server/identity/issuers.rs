//! The issuers of the grants file, and the callers whose JWTs they have signed.
//!
//! A verified JWT is kept until it ends, or until its key or the settings of its issuer change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use rustls::pki_types::UnixTime;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::Instant};

use super::{jwks::Key, jwt::Jwt, key_ring::KeyRing};
use crate::{
    access::{Caller, Expiry, Grants, Identity, Issuer, shown},
    error::{Error, Kind},
    limits::{JWTS_KNOWN_BYTES_MAX, JWTS_KNOWN_MAX},
};

/// The issuers whose JWTs are taken. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::server) struct Issuers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rings: watch::Sender<Vec<Arc<KeyRing>>>,
    grants: watch::Receiver<Arc<Grants>>,
    known: Mutex<Known>,
}

/// The verified JWTs, by their SHA-256.
#[derive(Debug, Default)]
struct Known {
    entries: HashMap<[u8; 32], Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    ring: Arc<KeyRing>,
    key: Arc<Key>,
    bytes: usize,
}

impl Entry {
    fn is_good(&self) -> bool {
        let is_over = |expiry: Expiry| expiry.instant <= Instant::now();
        self.ring.takes(&self.key) && !self.caller.expiry().is_some_and(is_over)
    }
}

impl Known {
    fn get(&self, digest: &[u8; 32]) -> Option<Caller> {
        let entry = self.entries.get(digest).filter(|entry| entry.is_good())?;
        Some(entry.caller.clone())
    }

    /// Keeps a JWT. If there are too many, those that are over are forgotten, and if that does not do, all: each is
    /// verified again in less than a millisecond.
    fn keep(&mut self, digest: [u8; 32], entry: Entry) {
        let is_full = |known: &Self| {
            known.entries.len() >= JWTS_KNOWN_MAX
                || known.bytes + entry.bytes > JWTS_KNOWN_BYTES_MAX
        };
        if is_full(self) {
            self.entries.retain(|_, entry| entry.is_good());
            self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        }
        if is_full(self) {
            *self = Self::default();
        }
        self.bytes += entry.bytes;
        if let Some(before) = self.entries.insert(digest, entry) {
            self.bytes -= before.bytes;
        }
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Issuers {
    /// No issuers yet, for callers with these grants.
    pub(super) fn new(grants: watch::Receiver<Arc<Grants>>) -> Self {
        Self(Arc::new(Inner { rings: watch::Sender::default(), grants, known: Mutex::default() }))
    }

    /// Takes the issuers of a file. One that is the same as before keeps its keys.
    pub(super) fn set(&self, issuers: &[Issuer]) {
        self.0.rings.send_modify(|rings| {
            let find = |issuer: &Issuer| rings.iter().find(|ring| ring.issuer == *issuer).cloned();
            let new = issuers.iter().map(|issuer| {
                find(issuer).unwrap_or_else(|| Arc::new(KeyRing::new(issuer.clone())))
            });
            let new: Vec<_> = new.collect();
            for ring in rings.iter().filter(|ring| !new.iter().any(|kept| Arc::ptr_eq(kept, ring)))
            {
                ring.remove();
            }
            *rings = new;
        });
    }

    /// Whether there is an issuer.
    pub(super) fn is_any(&self) -> bool {
        !self.0.rings.borrow().is_empty()
    }

    /// Keeps the keys of all issuers fresh, without end.
    pub(in crate::server) async fn run(self) {
        let mut rings = self.0.rings.subscribe();
        let mut keeping = FuturesUnordered::new();
        loop {
            let now = rings.borrow_and_update().clone();
            keeping.extend(now.into_iter().map(|ring| async move { ring.keep().await }));
            loop {
                tokio::select! {
                    changed = rings.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Some(()) = keeping.next() => {}
                }
            }
        }
    }

    /// The caller of a JWT that was verified before, and still is good.
    pub(super) fn known(&self, text: &str) -> Option<Caller> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest(text))
    }

    /// Verifies a JWT.
    ///
    /// # Errors
    /// `Unauthenticated` with what is wrong; `Busy` if the keys of its issuer are not known now.
    pub(super) async fn verify(&self, text: &str) -> Identity {
        let refused = |why| Error::new(Kind::Unauthenticated, format!("the JWT {why}"));
        let jwt = Jwt::read(text).map_err(refused)?;
        let found =
            self.0.rings.borrow().iter().find(|ring| ring.issuer.url == jwt.issuer).cloned();
        let ring = found.ok_or_else(|| {
            let issuer = shown(&jwt.issuer);
            refused(format!("is of the issuer '{issuer}', which this server does not know"))
        })?;
        let key = ring.key(&jwt.key_id, jwt.algorithm).await?;
        let now = UnixTime::now().as_secs();
        let seconds = i64::try_from(now).map_err(|error| Error::internal(error.to_string()))?;
        let verified = jwt.verify(&key, &ring.issuer, seconds).map_err(refused)?;
        let left = Duration::from_micros(u64::try_from(verified.ends_at).unwrap_or_default())
            .saturating_sub(Duration::from_secs(now));
        let instant = Instant::now().checked_add(left).unwrap_or_else(Instant::now);
        let expiry = Expiry { at: verified.ends_at, instant };
        let grants = self.0.grants.clone();
        let caller = Caller::jwt(verified.principal, verified.credential, grants, expiry)
            .judged_until(key.gone.clone());
        self.keep(text, Entry { caller: caller.clone(), ring, key, bytes: text.len() });
        Ok(caller)
    }

    /// Keeps a JWT. One that gives nothing takes no memory: everyone may get many of a public issuer.
    fn keep(&self, text: &str, entry: Entry) {
        if entry.caller.has_rights() {
            let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.keep(digest(text), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{access::Principal, server::identity::jwks};

    /// A JWT of so many bytes that ends after a time.
    fn entry(ring: &Arc<KeyRing>, key: &Arc<Key>, (bytes, left): (usize, Duration)) -> Entry {
        let (_, grants) = watch::channel(Arc::default());
        granted(ring, key, (bytes, left), grants)
    }

    fn granted(
        ring: &Arc<KeyRing>,
        key: &Arc<Key>,
        (bytes, left): (usize, Duration),
        grants: watch::Receiver<Arc<Grants>>,
    ) -> Entry {
        let expiry = Expiry { at: 0, instant: Instant::now() + left };
        let principal = Principal::named(vec!["ci:anna".to_owned()]);
        let caller = Caller::jwt(principal, String::new(), grants, expiry);
        Entry { caller, ring: Arc::clone(ring), key: Arc::clone(key), bytes }
    }

    fn number(number: usize) -> [u8; 32] {
        digest(&number.to_string())
    }

    const ISSUER: &str =
        "[[issuer]]\nname = 'ci'\nurl = 'https://ci.example'\naudience = 'store'\n";

    /// The keys of the issuer, of which there is one.
    fn ring() -> (Arc<KeyRing>, Arc<Key>) {
        let grants = Grants::parse(ISSUER.as_bytes()).expect("grants");
        let ring = Arc::new(KeyRing::new(grants.issuers()[0].clone()));
        let x = "A".repeat(43);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x });
        let set = json!({ "keys": [jwk] }).to_string();
        let keys = jwks::read(set.as_bytes(), &[]).expect("keys");
        let key = Arc::clone(&keys[0]);
        ring.settle(Ok(keys));
        (ring, key)
    }

    #[tokio::test]
    async fn a_jwt_that_gives_nothing_is_not_kept() {
        let (ring, key) = ring();
        let text =
            format!("[[grant]]\nwho = ['ci:anna']\nrole = 'reader'\npaths = ['a']\n{ISSUER}");
        let grants = Arc::new(Grants::parse(text.as_bytes()).expect("grants"));
        let (sender, receiver) = watch::channel(Arc::default());
        let issuers = Issuers::new(receiver.clone());
        let one = || granted(&ring, &key, (1, Duration::from_mins(9)), receiver.clone());
        issuers.keep("a", one());
        sender.send_replace(grants);
        assert!(issuers.known("a").is_none());
        issuers.keep("a", one());
        assert!(issuers.known("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_jwts_in_memory_are_bounded_and_those_that_are_over_go_first() {
        let (ring, key) = ring();
        let (short, long) = (Duration::from_secs(1), Duration::from_mins(9));
        let mut known = Known::default();
        for at in 0..JWTS_KNOWN_MAX {
            let left = if at == 0 { long } else { short };
            known.keep(number(at), entry(&ring, &key, (1, left)));
        }
        assert_eq!((known.entries.len(), known.bytes), (JWTS_KNOWN_MAX, JWTS_KNOWN_MAX));
        assert!(known.get(&number(0)).is_some() && known.get(&number(1)).is_some());
        tokio::time::advance(short).await;
        assert!(known.get(&number(0)).is_some() && known.get(&number(1)).is_none(), "over");
        known.keep(number(JWTS_KNOWN_MAX), entry(&ring, &key, (5, long)));
        assert_eq!((known.entries.len(), known.bytes), (2, 6));
        // The same again.
        known.keep(number(0), entry(&ring, &key, (3, long)));
        assert_eq!((known.entries.len(), known.bytes), (2, 8));
        known.keep(number(1), entry(&ring, &key, (JWTS_KNOWN_BYTES_MAX, long)));
        assert_eq!((known.entries.len(), known.bytes), (1, JWTS_KNOWN_BYTES_MAX));
        assert!(known.get(&number(1)).is_some());
        ring.remove();
        assert!(known.get(&number(1)).is_none(), "the issuer is removed");
    }
}
