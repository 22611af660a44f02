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
    namespace::{
        group::{Placed, PlainFile},
        sql::Tx,
    },
};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const ABANDONED: u8 = 2;

/// Sends the result to the caller once the outcome of the commit is known; its argument is the error of the
/// commit. Returns whether the caller still waits.
pub(super) type Answer = Box<dyn FnOnce(Option<Error>) -> bool + Send>;

/// What a job gets when it is its turn.
pub(super) enum Turn<'a, 'tx> {
    /// A transaction to run in.
    Run(&'a mut Tx<'tx>),
    /// Its file is put already, in a group.
    Placed(Placed),
    /// Why there is no transaction.
    Refused(Error),
}

impl<'a, 'tx> Turn<'a, 'tx> {
    /// The transaction to run in.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn tx(self) -> Result<&'a mut Tx<'tx>> {
        match self {
            Self::Run(tx) => Ok(tx),
            Self::Placed(_) => Err(Error::internal("a job without a file was taken for an upload")),
            Self::Refused(error) => Err(error),
        }
    }
}

/// A job for a database thread.
pub(super) struct Job {
    state: Arc<AtomicU8>,
    /// The file that the job puts, if that is all it does: it may be put in a group.
    file: Option<PlainFile>,
    run: Run,
}

type Run = Box<dyn FnOnce(Turn<'_, '_>) -> (bool, Answer) + Send>;

impl Job {
    /// A job without a caller, which only wakes a thread.
    pub(super) fn wake() -> Self {
        let run: Run = Box::new(|_| (true, Box::new(|_| true)));
        Self { state: Arc::new(AtomicU8::new(ABANDONED)), file: None, run }
    }

    /// Calls `first` before the job runs. `first` is dropped with the job if the job never runs.
    pub(super) fn after(self, first: impl FnOnce() + Send + 'static) -> Self {
        let Self { state, file, run } = self;
        let run: Run = Box::new(move |turn| {
            first();
            run(turn)
        });
        Self { state, file, run }
    }

    /// The file that the job puts, if that is all it does.
    pub(super) fn file(&self) -> Option<&PlainFile> {
        self.file.as_ref()
    }

    /// Makes the job one that may be put in a group with others.
    pub(super) fn with_file(self, file: Option<PlainFile>) -> Self {
        Self { file, ..self }
    }

    /// Whether the caller has left before the job began; the job need not run then.
    pub(super) fn is_abandoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == ABANDONED
    }

    /// Begins the job: its caller cannot cancel it any more. Returns whether it begins: not if the caller has
    /// left.
    pub(super) fn begin(&self) -> bool {
        self.state.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Runs the job, which has begun, or gives it its result. Returns whether its changes are to be kept.
    pub(super) fn run(self, turn: Turn<'_, '_>) -> (bool, Answer) {
        (self.run)(turn)
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
    job: impl FnOnce(Turn<'_, '_>) -> Result<T> + Send + 'static,
    committed: impl FnOnce(&T) + Send + 'static,
) -> (Job, JobHandle<T>) {
    let state = Arc::new(AtomicU8::new(WAITING));
    let (sender, verdict) = oneshot::channel();
    let its = Arc::clone(&state);
    let span = Span::current();
    let run: Run = Box::new(move |turn| {
        let entered = span.clone();
        let _entered = entered.enter();
        let has_tx = !matches!(turn, Turn::Refused(_));
        let result = catch_unwind(AssertUnwindSafe(|| job(turn)))
            .unwrap_or_else(|_| Err(Error::internal("a database job panicked").logged()));
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
        (good, answer)
    });
    (Job { state: its, file: None, run }, JobHandle { state, verdict })
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
