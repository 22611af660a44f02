//! Pending objects: those of this run of the server of which it is not known yet whether a row will name them.
//!
//! **Invariants:** a key is undecided before its object can exist, and until no transaction can name it any more.
//! So the sweep, which lists objects first, may delete an object of this run that is neither undecided nor named
//! by a row, however much time passes in between. Objects of a dead server are never undecided: no transaction of that
//! server is left.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Instrument;

use crate::{
    blob,
    model::Digest,
    namespace::{garbage, sql::Tx},
    store::Store,
};

/// The keys of the undecided objects.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingObjects(Arc<Mutex<HashSet<String>>>);

impl PendingObjects {
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

/// The guard of an undecided object, put or about to be. Dropped, it marks the object for deletion.
#[derive(Debug)]
pub(super) struct ObjectGuard {
    pub(super) key: String,
    size: i64,
    /// `None` once the object is decided.
    store: Option<Store>,
}

impl ObjectGuard {
    /// Guards an object of `size` bytes that is about to be put.
    pub(super) fn new(store: &Store, digest: &Digest, size: usize) -> Self {
        let key = blob::new_key(&digest.0, store.0.id);
        store.0.undecided.insert(&key);
        Self { key, size: size as i64, store: Some(store.clone()) }
    }

    /// Ends the guard without marking the object: a row names it, or its put failed. The sweep deletes what a
    /// failed put left.
    pub(super) fn disarm(mut self) {
        if let Some(store) = self.store.take() {
            store.0.undecided.remove(&self.key);
        }
    }
}

impl Drop for ObjectGuard {
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
            // Every job that could name the object was queued for the writer before this one. So it is before
            // the job of the sweep, too, if this one failed.
            store.0.undecided.remove(&key);
        };
        tasks.spawn(marking.in_current_span());
    }
}
