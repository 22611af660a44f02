//! The database threads: one writer, some readers; async code sends them jobs.
//!
//! The writer takes all waiting jobs into one transaction, with a savepoint each, so that many
//! callers share one sync; a job that comes while others run is one of them. Nothing of a batch is
//! answered before its commit; if the commit fails, all its jobs fail. A job that fails or panics is
//! undone alone.
//!
//! A close lets the threads do what they have and refuses what comes later.
//!
//! **Invariant:** a job either runs and its caller learns the verdict, or it never begins. A caller
//! that leaves, or whose deadline passes, takes back a job that still waits and cannot take back one
//! that has begun. Who reads learns at its deadline that it has passed, whatever the job does.

mod ticket;

use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    crash::{self, Point},
    error::{Error, Result},
    limits::{READ_QUEUE_MAX, WRITE_BATCH_MAX, WRITE_QUEUE_MAX},
    namespace::{
        counted::Sums,
        engine::ticket::{Answer, Job, passed, ticket},
        sql::{Connection, Mode, Tx},
        sums,
    },
};

/// The database threads. Cheap to clone; they end when they are closed or the last clone is gone.
#[derive(Clone, Debug)]
pub struct Engine {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    written: Arc<AtomicU64>,
    closing: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Starts the threads, each on its own connection.
    ///
    /// # Errors
    /// `Internal` if a thread cannot be started.
    pub fn start(writer: Box<dyn Connection>, readers: Vec<Box<dyn Connection>>) -> Result<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::with_capacity(readers.len() + 1);
        let (write_jobs, jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        let is_closing = Arc::clone(&closing);
        threads.push(spawn("db-writer".to_owned(), move || write_loop(writer, jobs, &is_closing))?);
        let (read_jobs, jobs) = mpsc::channel(READ_QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for (number, reader) in readers.into_iter().enumerate() {
            let (jobs, is_closing) = (Arc::clone(&jobs), Arc::clone(&closing));
            let run = move || read_loop(reader, &jobs, &is_closing);
            threads.push(spawn(format!("db-reader-{number}"), run)?);
        }
        Ok(Self {
            writer: write_jobs,
            readers: read_jobs,
            waiting: Arc::default(),
            written: Arc::default(),
            closing,
            threads: Arc::new(Mutex::new(threads)),
        })
    }

    /// Runs a job in a write transaction and returns its verdict once it is durable.
    ///
    /// # Errors
    /// The job's own; `Timeout` if the deadline passes before it begins; that of the commit.
    ///
    /// # Cancel safety
    /// Dropping the future takes the job back if it has not begun.
    pub async fn write<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_and(deadline, job, |_| ()).await
    }

    /// The same, and calls `committed` with the result once it is durable, whether the caller still waits
    /// or not. The calls are made in the order of the commits, on the writer's thread, and must not block.
    ///
    /// # Errors
    /// Those of [`Engine::write`]; `committed` is not called then.
    ///
    /// # Cancel safety
    /// That of [`Engine::write`].
    pub async fn write_and<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        // A job with time in the queue would begin, however late its caller came.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::late());
        }
        self.write_unless(passed(deadline), job, committed).await
    }

    /// The same, but takes the job back with the error of `given_up` if that resolves before the job
    /// begins. One that has begun gives its verdict.
    ///
    /// # Errors
    /// Those of [`Engine::write`], and that of `given_up`.
    ///
    /// # Cancel safety
    /// That of [`Engine::write`].
    pub async fn write_unless<T: Send + 'static>(
        &self,
        given_up: impl Future<Output = Error>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (job, ticket) = ticket(job, committed);
        let (waiting, written) = (Waiting::new(&self.waiting), Arc::clone(&self.written));
        let counted: Job = Box::new(move |tx| {
            drop(waiting);
            written.fetch_add(1, Ordering::Relaxed);
            job(tx)
        });
        ticket.redeem(&self.writer, counted, given_up).await
    }

    /// Runs a job on one snapshot.
    ///
    /// # Errors
    /// The job's own; `Timeout` if the deadline passes before it is done.
    ///
    /// # Cancel safety
    /// Dropping the future takes the job back if it has not begun.
    pub async fn read<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::late());
        }
        let (job, ticket) = ticket(job, |_| ());
        tokio::select! {
            biased;
            verdict = ticket.redeem(&self.readers, job, pending()) => verdict,
            error = passed(deadline) => Err(error),
        }
    }

    /// Whether callers wait for the writer: background work then stops early.
    pub fn is_pressed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many jobs the writer has had so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many jobs wait for the writer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Ends the threads after the jobs they have, and their connections with them. Blocks.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        for queue in [&self.writer, &self.readers] {
            // It wakes a thread that waits, and does nothing. One that is gone needs no waking.
            queue.blocking_send(Box::new(|_| None)).ok();
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = std::mem::take(&mut *threads);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a database thread ended by a panic");
            }
        }
    }
}

/// Counts a job that waits, until it runs or is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run).map_err(Error::internal)
}

fn write_loop(
    mut connection: Box<dyn Connection>,
    mut jobs: mpsc::Receiver<Job>,
    closing: &AtomicBool,
) {
    while let Some(first) = jobs.blocking_recv() {
        let mut answers = Vec::new();
        let others = std::iter::from_fn(|| jobs.try_recv().ok());
        let batch = std::iter::once(first).chain(others).take(WRITE_BATCH_MAX);
        let failure = write_batch(connection.as_mut(), batch, &mut answers).err();
        // The job that wakes for a close may have come while the others ran.
        if closing.load(Ordering::Acquire) {
            jobs.close();
        }
        if failure.is_some() {
            connection.rollback();
        }
        let mut is_told = false;
        for answer in answers {
            is_told |= answer(failure.clone());
        }
        // Those who are told have it logged where they answer.
        if let Some(error) = failure.filter(|_| !is_told) {
            error.report();
        }
    }
    // What is not done now is done by the next start.
    if let Err(error) = connection.settle() {
        tracing::warn!(?error, "the database is not tidied up");
    }
}

/// Runs the jobs of a batch and commits. An error means that nothing of it has happened, unless the
/// answer to the commit was lost with the connection to a server.
fn write_batch(
    connection: &mut dyn Connection,
    batch: impl Iterator<Item = Job>,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    let mut state = connection.begin(Mode::Write);
    let has_begun = state.is_ok();
    let mut counted = Sums::default();
    for job in batch {
        if state.is_ok() {
            state = connection.execute("SAVEPOINT job", &[]).map(drop);
        }
        let mut tx = Tx::new(connection);
        let verdict = match &state {
            Ok(()) => job(Ok(&mut tx)),
            Err(error) => job(Err(error.clone())),
        };
        let changes = tx.counted();
        let (good, answer) = verdict.map_or((true, None), |(good, answer)| (good, Some(answer)));
        answers.extend(answer);
        if state.is_ok() {
            state = end_job(connection, good);
        }
        if good {
            counted.add_all(&changes);
        }
        // Those who wait have a transaction that is whole. Without any, they need not try one by one.
        if has_begun && state.is_err() {
            break;
        }
    }
    state?;
    sums::keep(&mut Tx::new(connection), &counted)?;
    crash::reach(Point::Commit);
    connection.commit()?;
    crash::reach(Point::Committed);
    Ok(())
}

/// Keeps or undoes what one job of a batch did.
fn end_job(connection: &mut dyn Connection, good: bool) -> Result<()> {
    if !connection.in_transaction() {
        return Err(connection.undone());
    }
    if !good {
        connection.execute("ROLLBACK TO job", &[])?;
    }
    connection.execute("RELEASE job", &[]).map(drop)
}

fn read_loop(
    mut connection: Box<dyn Connection>,
    jobs: &Mutex<mpsc::Receiver<Job>>,
    closing: &AtomicBool,
) {
    loop {
        let mut queue = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = queue.blocking_recv() else { return };
        if closing.load(Ordering::Acquire) {
            queue.close();
        }
        drop(queue);
        let begun = connection.begin(Mode::Read);
        let failure = begun.as_ref().err().cloned();
        let answer =
            job(begun.map(|()| Tx::new(connection.as_mut())).as_mut().map_err(|e| e.clone()));
        connection.rollback();
        let is_told = answer.is_none_or(|(_, answer)| answer(None));
        if let Some(error) = failure.filter(|_| !is_told) {
            error.report();
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
