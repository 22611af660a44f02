//! The progress of a run: counted by its task, published to watchers.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    limits::{PROGRESS_EVERY, micros},
    model::{Operation, Progress},
    store::{run::Run, runs::Runs},
};

/// The progress of an operation, published at most every [`PROGRESS_EVERY`].
pub(super) struct Report {
    run: Arc<Run>,
    operation: Operation,
    begun: Instant,
    published: Instant,
    is_unpublished: bool,
}

impl Report {
    /// Makes the report of an operation that has just begun.
    pub(super) fn new(run: Arc<Run>, operation: Operation) -> Self {
        let now = Instant::now();
        Self { run, operation, begun: now, published: now, is_unpublished: false }
    }

    /// The counters, to be changed.
    pub(super) fn progress(&mut self) -> &mut Progress {
        self.is_unpublished = true;
        &mut self.operation.progress
    }

    /// Resolves when unpublished progress is due, so that work which waits can publish it. Pending without any.
    pub(super) async fn due(&self) {
        if !self.is_unpublished {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.published + PROGRESS_EVERY).await;
    }

    /// Publishes the progress, if [`PROGRESS_EVERY`] has passed since the last time.
    pub(super) fn publish(&mut self, runs: &Runs) {
        if self.published.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.is_unpublished = false;
        self.published = Instant::now();
        // The start is a time of the database's clock; the elapsed time is that of the monotonic clock.
        self.operation.updated = self.operation.started + micros(self.begun.elapsed());
        runs.publish(&self.run, &self.operation);
    }
}
