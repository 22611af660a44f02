//! Links: making, checking, and ending them.
//!
//! The key is made when it is needed for the first time, so that a store that cannot be written to still opens. It stays
//! in memory, so that the check of a link reads no row for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    access::{Caller, Fingerprint, Link, LinkForm, LinkKey, SignedLink},
    error::{Error, Kind, Result},
    limits::{LINK_GRANTED_LIFE_MAX, LINK_LIFE_MAX, micros},
    model::{Digest, StorePath},
    namespace::{link, sql::Tx, token::Kept},
    secret::Secret,
    store::{Call, Store, tokens::date},
};

const MICROS: i64 = 1_000_000;

/// The key of the store, once it is known.
#[derive(Debug, Default)]
pub(super) struct KnownLinkKey(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    key: Option<LinkKey>,
    /// Rises with each change of the key: what was read before a change is not kept.
    changes: u64,
}

impl KnownLinkKey {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the key, which another server may have changed.
    pub(super) fn forget(&self) {
        let mut known = self.lock();
        known.changes += 1;
        known.key = None;
    }

    /// Notes another key.
    fn set(&self, key: &LinkKey) {
        let mut known = self.lock();
        known.changes += 1;
        known.key = Some(key.clone());
    }

    /// Keeps a key that was read when there had been so many changes. Returns whether there was none since.
    fn keep(&self, key: &LinkKey, changes: u64) -> bool {
        let mut known = self.lock();
        if known.changes == changes {
            known.key = Some(key.clone());
        }
        known.changes == changes
    }
}

/// A new link.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// The query parameters that its address has.
    pub query: Secret,
    /// Its end, in microseconds since 1970.
    pub expires: i64,
}

impl Store {
    /// Makes a link to the file or the package at a path. It ends after `life`, at the latest with the credential of the
    /// caller, and when the caller loses the right. With a certificate or a JWT, `life` is at most
    /// [`LINK_GRANTED_LIFE_MAX`]. Whether something is at the path is not asked.
    ///
    /// # Errors
    /// `InvalidArgument` for no or too long a life, `Forbidden` for a caller that has a link itself, `TooLarge` for one
    /// with too many names, `Timeout`.
    pub async fn create_link(
        &self,
        path: &StorePath,
        form: LinkForm,
        life: Duration,
        call: &Call,
    ) -> Result<NewLink> {
        let seconds = life.as_secs();
        if seconds == 0 || life > LINK_LIFE_MAX {
            let most = LINK_LIFE_MAX.as_secs() / 86_400;
            let message = format!("a link lives 1 second to {most} days, not {seconds} s");
            return Err(Error::invalid("life", message));
        }
        let maker = call.caller().maker().ok_or_else(|| {
            let name = call.caller().name();
            Error::new(Kind::Forbidden, format!("'{name}' may make no links"))
        })?;
        if maker.is_of_issuer() && life > LINK_GRANTED_LIFE_MAX {
            let (name, most) = (call.caller().name(), LINK_GRANTED_LIFE_MAX.as_secs());
            let message = format!(
                "a link of '{name}' lives at most {most} s, not {seconds} s; with a token it may live longer, and \
                 ends when the token is revoked"
            );
            return Err(Error::invalid("life", message));
        }
        let key = self.link_key(call).await?;
        let now = self.0.engine.read(call.deadline(), |tx: &mut Tx<'_>| tx.now()).await?;
        let ends = now + micros(Duration::from_secs(seconds));
        let ends = call.caller().expiry().map_or(ends, |expiry| ends.min(expiry.at));
        let link = Link { expires: ends / MICROS, maker };
        let query = link.sign(&key, form, path)?;
        Ok(NewLink { query, expires: link.expires * MICROS })
    }

    /// Checks a link: that it is for its address, and has not ended. The rights of its maker are not looked at.
    ///
    /// # Errors
    /// `Forbidden`; `Busy` if the database does not answer.
    pub async fn check_link(&self, link: &SignedLink) -> Result<Link> {
        // Who sends this has no credential, and makes no key.
        let key = self.known_link_key(None).await?.ok_or_else(|| {
            let message =
                "the link is not one of this store, which has made none; ask for a new one";
            Error::new(Kind::Forbidden, message)
        })?;
        let link = link.verify(&key)?;
        let now = self.0.engine.read(None, |tx: &mut Tx<'_>| tx.now()).await?;
        if link.expires.saturating_mul(MICROS) <= now {
            let at = date(link.expires.saturating_mul(MICROS));
            let message = format!("the link has expired at {at}; ask for a new one");
            return Err(Error::new(Kind::Forbidden, message));
        }
        Ok(link)
    }

    /// The caller of the token with an id that has made a link with one of its secrets.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is unknown, is revoked or has expired, and for a secret that has ended; `Busy`.
    pub async fn linked_token(&self, id: &str, secret: Fingerprint) -> Result<Caller> {
        let is_it = |digest: &Digest| Fingerprint::from(*digest) == secret;
        let known = self.knows_access().then(|| {
            let known = self.0.tokens.lock();
            let token = known.tokens.get(id);
            let found = token.and_then(|token| token.secrets.iter().find(|(it, _)| is_it(it)));
            found.map(|(_, caller)| caller.clone())
        });
        if let Some(caller) = known.flatten()
            && caller.expiry().is_none_or(|expiry| expiry.instant > Instant::now())
        {
            return Ok(caller);
        }
        let of = |kept: &Kept| {
            [Some(kept.secret), kept.old_secret].into_iter().flatten().find(|digest| is_it(digest))
        };
        self.caller_of(id, of).await
    }

    /// Gives the store another key, which ends all links.
    ///
    /// # Errors
    /// `Timeout`, `Internal`.
    pub async fn rotate_link_key(&self, call: &Call) -> Result<()> {
        let store = self.clone();
        let rotate = |tx: &mut Tx<'_>| {
            let numbers = LinkKey::new_numbers()?;
            link::set_key(tx, numbers)?;
            Ok(LinkKey::from(numbers))
        };
        let known = move |key: &LinkKey| store.0.link_key.set(key);
        self.0.engine.write_and(call.deadline(), rotate, known).await.map(drop)
    }

    /// The key of the store; makes it if there is none.
    async fn link_key(&self, call: &Call) -> Result<LinkKey> {
        if let Some(key) = self.known_link_key(call.deadline()).await? {
            return Ok(key);
        }
        let make = |tx: &mut Tx<'_>| {
            // Another call may have made it meanwhile.
            if let Some(numbers) = link::key(tx)? {
                return Ok(numbers);
            }
            let numbers = LinkKey::new_numbers()?;
            link::set_key(tx, numbers)?;
            Ok(numbers)
        };
        Ok(LinkKey::from(self.0.engine.write(call.deadline(), make).await?))
    }

    /// The key of the store, if there is one.
    async fn known_link_key(&self, deadline: Option<Instant>) -> Result<Option<LinkKey>> {
        loop {
            let changes = {
                let known = self.0.link_key.lock();
                if let Some(key) = known.key.as_ref().filter(|_| self.knows_access()) {
                    return Ok(Some(key.clone()));
                }
                known.changes
            };
            let Some(numbers) = self.0.engine.read(deadline, link::key).await? else {
                return Ok(None);
            };
            let key = LinkKey::from(numbers);
            if self.0.link_key.keep(&key, changes) {
                return Ok(Some(key));
            }
        }
    }
}
