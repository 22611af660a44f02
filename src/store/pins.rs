//! Dropping the pins of finished work, in the background and in steps.

use tokio::time::timeout;

use crate::{
    limits::UNPIN_PAUSE,
    namespace::{pin, sql::Tx},
    store::Store,
};

/// The pins of an owner that may have many; they are dropped with it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) store: Store,
    pub(super) owner: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.unpin(std::mem::take(&mut self.owner));
    }
}

impl Store {
    /// Drops all pins of an owner in a task of its own, in steps. Where the database cannot be written
    /// it tries again until it can: no pin of a server is dropped by others while it lives.
    pub(super) fn unpin(&self, owner: String) {
        let store = self.clone();
        self.spawn(async move {
            let mut failed = false;
            loop {
                let id = owner.clone();
                let unpin = move |tx: &mut Tx<'_>| pin::unpin_some(tx, &id);
                match store.0.engine.write(None, unpin).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        // The same fault again and again is said once.
                        if !std::mem::replace(&mut failed, true) {
                            tracing::warn!(?error, "pins cannot be dropped; it is tried again");
                        }
                        if timeout(UNPIN_PAUSE, store.0.stop.cancelled()).await.is_ok() {
                            return;
                        }
                    }
                }
            }
        });
    }
}
