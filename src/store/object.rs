//! The guard of an object that was put and has no row yet.

use tracing::Instrument;

use crate::{
    namespace::{garbage, sql::Tx},
    store::Store,
};

/// An object that no row names yet. Dropped, it is buried.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) key: String,
    size: i64,
    store: Option<Store>,
}

impl NewObject {
    /// Guards an object of `size` bytes that was just put.
    pub(super) fn new(key: String, size: usize, store: Store) -> Self {
        Self { key, size: size as i64, store: Some(store) }
    }

    /// A row names it now.
    pub(super) fn keep(mut self) {
        self.store = None;
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        let (key, size) = (std::mem::take(&mut self.key), self.size);
        let tasks = store.0.tasks.clone();
        let burying = async move {
            let bury = move |tx: &mut Tx<'_>| garbage::bury(tx, &key, size);
            if let Err(error) = store.0.engine.write(None, bury).await {
                tracing::warn!(?error, "an object is left to the sweep");
            }
        };
        tasks.spawn(burying.in_current_span());
    }
}
