//! Objects whose rows are not decided: from before they are put until their row is known to be there, or
//! never to come.
//!
//! **Invariants:** a key is undecided before its object can be there, and until no transaction is left
//! that could name it. So the sweep, which lists first, may delete an object of this run that is neither
//! undecided nor in a row, however long the machine has slept in between. Objects of an earlier run are
//! never undecided: nobody is left to name them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Instrument;
use uuid::Uuid;

use crate::{
    blob,
    model::Digest,
    namespace::{garbage, sql::Tx},
    store::Store,
};

/// A number that no run of a server has had.
pub(super) fn new_run() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

/// The keys of the objects that are undecided.
#[derive(Clone, Debug, Default)]
pub(super) struct Undecided(Arc<Mutex<HashSet<String>>>);

impl Undecided {
    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn insert(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// An object that no row names yet, put or about to be. Dropped, it is marked for deletion.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) key: String,
    size: i64,
    /// Nothing once it is decided.
    store: Option<Store>,
}

impl NewObject {
    /// Guards an object of `size` bytes that is about to be put.
    pub(super) fn new(store: &Store, digest: &Digest, size: usize) -> Self {
        let key = blob::new_key(&digest.0, store.0.run);
        store.0.undecided.insert(&key);
        Self { key, size: size as i64, store: Some(store.clone()) }
    }

    /// A row names it now, or, where it could not be put, none ever will: what is left of it then is for
    /// the sweep.
    pub(super) fn decide(mut self) {
        if let Some(store) = self.store.take() {
            store.0.undecided.remove(&self.key);
        }
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        let (key, size) = (std::mem::take(&mut self.key), self.size);
        let tasks = store.0.tasks.clone();
        let marking = async move {
            let name = key.clone();
            let tombstone_object =
                move |tx: &mut Tx<'_>| garbage::tombstone_object(tx, &name, size);
            if let Err(error) = store.0.engine.write(None, tombstone_object).await {
                tracing::warn!(?error, "an object is left to the sweep");
            }
            // Whoever could name it was before this in the queue of the writer. Where this transaction
            // failed, that of the sweep comes after it as well.
            store.0.undecided.remove(&key);
        };
        tasks.spawn(marking.in_current_span());
    }
}
