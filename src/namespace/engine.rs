//! The database threads: one writer, some readers; async code sends them jobs.
//!
//! The writer takes all waiting jobs into one transaction, with a savepoint each, so that many
//! callers share one sync; a job that comes while others run is one of them. Nothing of a batch is
//! answered before its commit; if the commit fails, all its jobs fail. A job that fails or panics is
//! undone alone.
//!
//! A close lets the threads do what they have and refuses what comes later.
//!
//! Where the database does not answer, all that waits is refused at once, and so is what comes until it
//! answers again ([`breaker`]).
//!
//! **Invariant:** a job either runs and its caller learns the verdict, or it never begins. A caller
//! that leaves, or whose deadline passes, takes back a job that still waits and cannot take back one
//! that has begun. Who reads learns at its deadline that it has passed, whatever the job does. What was
//! taken back costs the database nothing.

mod breaker;
mod threads;
mod ticket;

use std::{
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    error::{Error, Kind, Result},
    limits::{READ_QUEUE_MAX, WRITE_QUEUE_MAX},
    namespace::{
        engine::{
            threads::{Done, Shared, read_loop, write_loop},
            ticket::{Job, passed, ticket},
        },
        sql::{Connection, Tx},
    },
};

/// The database threads. Cheap to clone; they end when they are closed or the last clone is gone.
#[derive(Clone, Debug)]
pub struct Engine {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    written: Arc<AtomicU64>,
    done: Arc<Done>,
    closing: Arc<AtomicBool>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Starts the threads, each on its own connection.
    ///
    /// # Errors
    /// `Internal` if a thread cannot be started.
    pub fn start(writer: Box<dyn Connection>, readers: Vec<Box<dyn Connection>>) -> Result<Self> {
        let (closing, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let mut threads = Vec::with_capacity(readers.len() + 1);
        let (write_jobs, jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        let shared = Shared::new(&closing, &done);
        threads.push(spawn("db-writer".to_owned(), move || write_loop(writer, jobs, &shared))?);
        let (read_jobs, jobs) = mpsc::channel(READ_QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let shared = Arc::new(Shared::new(&closing, &done));
        for (number, reader) in readers.into_iter().enumerate() {
            let (jobs, shared) = (Arc::clone(&jobs), Arc::clone(&shared));
            let run = move || read_loop(reader, &jobs, &shared);
            threads.push(spawn(format!("db-reader-{number}"), run)?);
        }
        Ok(Self {
            writer: write_jobs,
            readers: read_jobs,
            waiting: Arc::default(),
            written: Arc::default(),
            done,
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
        let counted = job.after(move || {
            drop(waiting);
            written.fetch_add(1, Ordering::Relaxed);
        });
        ticket.wait(&self.writer, counted, given_up).await
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
            verdict = ticket.wait(&self.readers, job, pending()) => verdict,
            error = passed(deadline) => Err(error),
        }
    }

    /// Sees whether the database answers both a reader, which runs `read`, and the writer, which changes
    /// nothing. Threads that are at work for others meanwhile, and get done with something, answer as well.
    ///
    /// # Errors
    /// Why it does not; `Busy` if nothing was done within `time`.
    ///
    /// # Cancel safety
    /// Can be dropped.
    pub async fn answers(
        &self,
        time: Duration,
        read: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (reader, writer) = tokio::join!(
            ask(&self.readers, read, &self.done.reads, time),
            ask(&self.writer, |_| Ok(()), &self.done.commits, time)
        );
        reader.and(writer)
    }

    /// Whether callers wait for the writer: background work then stops early.
    pub fn has_waiting_writers(&self) -> bool {
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
            // It wakes a thread that waits. One that is gone needs no waking, nor one that has much to do.
            queue.try_send(Job::wake()).ok();
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

/// Sees whether a job is done in time, or something else that threads do.
async fn ask(
    queue: &mpsc::Sender<Job>,
    job: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static,
    done: &AtomicU64,
    time: Duration,
) -> Result<()> {
    let before = done.load(Ordering::Relaxed);
    let (job, ticket) = ticket(job, |()| ());
    let answer = tokio::time::timeout(time, ticket.wait(queue, job, pending())).await;
    answer.unwrap_or_else(|_| {
        if done.load(Ordering::Relaxed) != before {
            return Ok(());
        }
        let message = format!("the database did nothing for {} s", time.as_secs());
        Err(Error::new(Kind::Busy, message))
    })
}

#[cfg(test)]
mod stalled_tests;
#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
