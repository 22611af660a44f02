//! When and where background work runs.

use std::time::Duration;

use tokio::time::timeout;

use crate::{error::Result, store::Store};

/// When and where background work runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// The pause before the first time.
    wait: Duration,
    /// The pause before each further time.
    pause: Duration,
    /// Whether only the first server on a store does it. Where two are the first for a moment, no harm is done: each step
    /// is a transaction, or deletes what no row will name.
    is_alone: bool,
}

impl Schedule {
    /// Work of every server.
    pub(super) fn each(pause: Duration) -> Self {
        Self { wait: pause, pause, is_alone: false }
    }

    /// Work of the first server.
    pub(super) fn first(wait: Duration, pause: Duration) -> Self {
        Self { wait, pause, is_alone: true }
    }
}

impl Store {
    /// Repeats `work` until the store closes.
    pub(super) async fn every(
        self,
        Schedule { mut wait, pause, is_alone }: Schedule,
        name: &'static str,
        work: impl AsyncFn(&Self) -> Result<()>,
    ) {
        let stop = self.0.stop.clone();
        let mut failed = false;
        while timeout(wait, stop.cancelled()).await.is_err() {
            wait = pause;
            let is_due = if is_alone {
                tokio::select! {
                    is_first = self.is_first() => is_first,
                    () = stop.cancelled() => return,
                }
            } else {
                Ok(true)
            };
            let result = match is_due {
                Ok(true) => tokio::select! {
                    result = work(&self) => result,
                    () = stop.cancelled() => return,
                },
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            // A repeated failure is logged as a warning once.
            match result {
                Ok(()) => failed = false,
                Err(error) if failed => {
                    tracing::debug!(name, ?error, "background work failed again");
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(name, ?error, "background work failed; it is tried again");
                }
            }
        }
    }
}
