//! The tokens that were looked up, in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{
    access::{Caller, Expiry},
    limits::{TOKENS_FORGOTTEN, TOKENS_KNOWN_MAX},
    model::Digest,
};

/// The callers of tokens, by the id of the token.
#[derive(Debug, Default)]
pub(super) struct KnownTokens(Mutex<Known>);

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) tokens: HashMap<String, KnownToken>,
    /// Rises with each change of a token: a row that was read before a change is not kept.
    pub(super) changes: u64,
}

/// A token in memory.
#[derive(Debug)]
pub(super) struct KnownToken {
    /// The caller of all calls with this token.
    caller: Caller,
    /// The digest of a secret that is taken, and its caller; none after a change of the token.
    pub(super) secrets: Vec<(Digest, Caller)>,
    /// When its use is noted again.
    pub(super) note_at: Instant,
}

impl KnownToken {
    /// Whether a call with the token runs, also one with a secret that is not taken any more.
    fn is_in_use(&self) -> bool {
        self.caller.variants() > 1 + self.secrets.len()
            || self.secrets.iter().any(|(_, caller)| caller.clones() > 1)
    }
}

impl KnownTokens {
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets the secrets of a token that has changed. Returns their callers.
    pub(super) fn change(&mut self, id: &str) -> Vec<Caller> {
        self.changes += 1;
        let known = self.tokens.get_mut(id);
        let secrets = known.map(|known| std::mem::take(&mut known.secrets)).unwrap_or_default();
        secrets.into_iter().map(|(_, caller)| caller).collect()
    }

    /// The ids of all tokens, which another server may have changed: no row that was read before now is kept.
    pub(super) fn suspect_all(&mut self) -> Vec<String> {
        self.changes += 1;
        self.tokens.keys().cloned().collect()
    }

    /// Forgets the secrets of a token but the current one. Returns them with their callers.
    pub(super) fn replace(&mut self, id: &str, current: Digest) -> Vec<(Digest, Caller)> {
        self.changes += 1;
        let Some(known) = self.tokens.get_mut(id) else { return Vec::new() };
        let (kept, replaced) = std::mem::take(&mut known.secrets)
            .into_iter()
            .partition(|(secret, _)| *secret == current);
        known.secrets = kept;
        replaced
    }

    /// Forgets a token that is revoked, and ends its calls.
    pub(super) fn revoke(&mut self, id: &str) {
        self.changes += 1;
        if let Some(known) = self.tokens.remove(id) {
            known.caller.revoke();
        }
    }

    /// Keeps a secret. If there are too many tokens, forgets some that no call uses.
    pub(super) fn keep(
        &mut self,
        id: &str,
        secret: Digest,
        found: &Caller,
        expiry: Option<Expiry>,
    ) -> Caller {
        if self.tokens.len() >= TOKENS_KNOWN_MAX && !self.tokens.contains_key(id) {
            let mut forgotten = 0;
            self.tokens.retain(|_, known| {
                forgotten += usize::from(!known.is_in_use());
                known.is_in_use() || forgotten > TOKENS_FORGOTTEN
            });
        }
        let known = self.tokens.entry(id.to_owned()).or_insert_with(|| KnownToken {
            caller: found.clone(),
            secrets: Vec::new(),
            note_at: Instant::now(),
        });
        let is_same = |(other, caller): &&(Digest, Caller)| {
            *other == secret && caller.expiry().map(|end| end.at) == expiry.map(|end| end.at)
        };
        // All calls with a secret share one caller, so that its end reaches them.
        if let Some((_, caller)) = known.secrets.iter().find(is_same) {
            return caller.clone();
        }
        let caller = known.caller.with_secret(secret.into()).until(expiry);
        known.secrets.retain(|(other, _)| *other != secret);
        known.secrets.push((secret, caller.clone()));
        caller
    }
}
