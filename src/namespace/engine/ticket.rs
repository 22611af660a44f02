//! A job of the database threads, and the handle of its caller.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Span;

use crate::{
    error::{Error, Result},
    namespace::sql::Tx,
};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const ABANDONED: u8 = 2;

/// Sends the result to the caller once the outcome of the commit is known; its argument is the error of the
/// commit. Returns whether the caller still waits.
pub(super) type Answer = Box<dyn FnOnce(Option<Error>) -> bool + Send>;

/// A job for a database thread.
pub(super) struct Job {
    state: Arc<AtomicU8>,
    run: Run,
}

type Run = Box<dyn FnOnce(Result<&mut Tx<'_>>) -> Option<(bool, Answer)> + Send>;

impl Job {
    /// A job without a caller, which only wakes a thread.
    pub(super) fn wake() -> Self {
        Self { state: Arc::new(AtomicU8::new(ABANDONED)), run: Box::new(|_| None) }
    }

    /// Calls `first` before the job runs. `first` is dropped with the job if the job never runs.
    pub(super) fn after(self, first: impl FnOnce() + Send + 'static) -> Self {
        let Self { state, run } = self;
        let run: Run = Box::new(move |tx| {
            first();
            run(tx)
        });
        Self { state, run }
    }

    /// Whether the caller has left before the job began; the job need not run then.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }

    /// Runs the job in a transaction, or fails it with the reason why there is none. Returns whether its
    /// changes are to be kept. `None`: the caller had left before the job began.
    pub(super) fn run(self, tx: Result<&mut Tx<'_>>) -> Option<(bool, Answer)> {
        (self.run)(tx)
    }
}

/// The caller's handle of a job.
pub(super) struct JobHandle<T> {
    state: Arc<AtomicU8>,
    verdict: oneshot::Receiver<Result<T>>,
}

/// Makes a job that begins only if its caller still waits, and that calls `committed` and sends the result
/// after the commit.
pub(super) fn ticket<T: Send + 'static>(
    job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    committed: impl FnOnce(&T) + Send + 'static,
) -> (Job, JobHandle<T>) {
    let state = Arc::new(AtomicU8::new(WAITING));
    let (sender, verdict) = oneshot::channel();
    let (mine, its) = (Arc::clone(&state), Arc::clone(&state));
    let span = Span::current();
    let run: Run = Box::new(move |tx| {
        let entered = span.clone();
        let _entered = entered.enter();
        mine.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).ok()?;
        let has_tx = tx.is_ok();
        let result = tx.and_then(|tx| {
            catch_unwind(AssertUnwindSafe(|| job(tx)))
                .unwrap_or_else(|_| Err(Error::internal("a database job panicked").logged()))
        });
        let good = result.is_ok();
        let answer: Answer = Box::new(move |commit| {
            let _entered = span.enter();
            let (verdict, is_own) = match commit {
                Some(error) if good => (Err(error), false),
                _ => (result.inspect(committed), has_tx),
            };
            match sender.send(verdict) {
                Ok(()) => true,
                // The caller has left, so only the log can show the error.
                Err(Err(error)) if is_own => {
                    error.report();
                    false
                }
                Err(_) => false,
            }
        });
        Some((good, answer))
    });
    (Job { state: its, run }, JobHandle { state, verdict })
}

impl<T> JobHandle<T> {
    /// Queues the job and returns its result, or cancels the job if `given_up` resolves before it begins.
    pub(super) async fn wait(
        mut self,
        queue: &mpsc::Sender<Job>,
        job: Job,
        given_up: impl Future<Output = Error>,
    ) -> Result<T> {
        let mut given_up = pin!(given_up);
        tokio::select! {
            biased;
            error = &mut given_up => return Err(error),
            sent = queue.send(job) => sent.map_err(|_| Error::stopping())?,
        }
        let error = tokio::select! {
            biased;
            verdict = &mut self.verdict => return verdict.map_err(|_| Error::stopping())?,
            error = &mut given_up => error,
        };
        if self.cancel_if_queued() {
            return Err(error);
        }
        // The job has begun, so its result is returned even after the deadline.
        (&mut self.verdict).await.map_err(|_| Error::stopping())?
    }

    fn cancel_if_queued(&self) -> bool {
        self.state.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<T> Drop for JobHandle<T> {
    fn drop(&mut self) {
        self.cancel_if_queued();
    }
}

/// Resolves when the deadline passes; never, if there is none.
pub(super) async fn passed(deadline: Option<Instant>) -> Error {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
    Error::late()
}
