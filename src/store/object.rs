//! The guard of an object that was put and has no row yet.

use crate::{namespace::garbage, store::Store};

/// An object that no row names yet. Dropped, it is buried.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) key: String,
    store: Option<Store>,
}

impl NewObject {
    /// Guards an object that was just put.
    pub(super) fn new(key: String, store: Store) -> Self {
        Self { key, store: Some(store) }
    }

    /// A row names it now.
    pub(super) fn keep(mut self) {
        self.store = None;
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        let key = std::mem::take(&mut self.key);
        let tasks = store.0.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = store.0.engine.write(None, move |tx| garbage::bury(tx, &key)).await
            {
                tracing::warn!(?error, "an object is left to the sweep");
            }
        });
    }
}
