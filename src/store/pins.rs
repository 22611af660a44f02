//! The removal of the pins of ended work, in the background and in steps.

use tokio::time::timeout;

use crate::{
    limits::UNPIN_PAUSE,
    namespace::{pin, sql::Tx},
    store::Store,
};

/// A guard of all pins of an owner. Dropped, it removes them in the background.
#[derive(Debug)]
pub(super) struct PinGuard {
    pub(super) store: Store,
    pub(super) owner: String,
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        self.store.unpin(std::mem::take(&mut self.owner));
    }
}

impl Store {
    /// Drops all pins of an owner in a task of its own, in steps. Failed writes are retried until the store closes,
    /// since nobody else drops the pins of a running server.
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
                        // A repeated failure is logged once.
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
