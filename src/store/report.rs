//! The progress of a run: its worker counts, its watchers read.

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
    /// Begins with an operation that has just begun.
    pub(super) fn new(run: Arc<Run>, operation: Operation) -> Self {
        let now = Instant::now();
        Self { run, operation, begun: now, published: now, is_unpublished: false }
    }

    /// What is counted so far, to be changed.
    pub(super) fn progress(&mut self) -> &mut Progress {
        self.is_unpublished = true;
        &mut self.operation.progress
    }

    /// Resolves when something is to be published: work that waits long publishes what it had counted.
    pub(super) async fn due(&self) {
        if !self.is_unpublished {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.published + PROGRESS_EVERY).await;
    }

    /// Publishes the progress, if it is time.
    pub(super) fn publish(&mut self, runs: &Runs) {
        if self.published.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.is_unpublished = false;
        self.published = Instant::now();
        // The clock of the database set the start; the steady clock adds what has passed.
        self.operation.updated = self.operation.started + micros(self.begun.elapsed());
        runs.publish(&self.run, &self.operation);
    }
}
