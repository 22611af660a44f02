//! The database threads: one writer and some readers, to which async code sends jobs.
//!
//! The writer takes all waiting jobs into one transaction, a batch, each in a savepoint of its own. Many
//! callers thereby share one sync. A job that arrives before the queue is empty joins that batch, up to
//! [`WRITE_BATCH_MAX`](crate::limits::WRITE_BATCH_MAX) jobs. No job of a batch is answered before the commit;
//! if the commit fails, all its jobs fail. A job that fails or panics is rolled back alone. Uploads of small files
//! that follow each other in the queue are put in a group ([`batch`]).
//!
//! After a close, the threads finish the jobs in their queues and refuse later ones.
//!
//! While the database does not respond, all waiting and new jobs are refused at once ([`breaker`]).
//!
//! **Invariant:** a job either runs and its caller gets its result, or it never begins. A caller that leaves,
//! or whose deadline passes, cancels a job that is still queued, and cannot cancel one that has begun. A read
//! returns at its deadline even while its job still runs. A cancelled job costs the database nothing.

mod batch;
mod breaker;
mod lease;
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
            lease::Standing,
            threads::{Done, Shared, read_loop, write_loop},
            ticket::{Job, JobHandle, Turn, passed, ticket},
        },
        expelled::Expelled,
        group::{Placed, PlainFile},
        sql::{Connection, Tx},
    },
};

/// A handle to the database threads. Clones share them; the threads end after [`Engine::close`], or when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub struct Engine {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    written: Arc<AtomicU64>,
    done: Arc<Done>,
    closing: Arc<AtomicBool>,
    standing: Arc<Standing>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Starts the threads, each on its own connection. With a `lease`, other servers use the store, too.
    ///
    /// # Errors
    /// `Internal` if a thread cannot be started.
    pub fn start(
        writer: Box<dyn Connection>,
        readers: Vec<Box<dyn Connection>>,
        lease: Option<Duration>,
    ) -> Result<Self> {
        let standing = Arc::new(Standing::new(lease));
        let (closing, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
        let mut threads = Vec::with_capacity(readers.len() + 1);
        let (write_jobs, jobs) = mpsc::channel(WRITE_QUEUE_MAX);
        let shared = Shared::new(&closing, &done, &standing);
        threads.push(spawn("db-writer".to_owned(), move || write_loop(writer, jobs, &shared))?);
        let (read_jobs, jobs) = mpsc::channel(READ_QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let shared = Arc::new(Shared::new(&closing, &done, &standing));
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
            standing,
            threads: Arc::new(Mutex::new(threads)),
        })
    }

    /// Runs a job in a write transaction, and returns its result once that transaction is durable.
    ///
    /// # Errors
    /// The error of the job or of the commit; `Timeout` if the deadline passes before the job begins; `Busy`
    /// if the database does not respond or the server is stopping.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the job if it has not begun.
    pub async fn write<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_and(deadline, job, |_| ()).await
    }

    /// Runs a job as [`Engine::write`] does, and calls `committed` with its result once that is durable, even
    /// if the caller has left. The calls are made in the order of the commits, on the thread of the writer,
    /// and must not block.
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
        check_deadline(deadline)?;
        self.write_unless(passed(deadline), job, committed).await
    }

    /// Runs a job as [`Engine::write_and`] does, with a future instead of a deadline: if `given_up` resolves
    /// before the job begins, the job is cancelled with that error. A job that has begun returns its result.
    ///
    /// # Errors
    /// Those of [`Engine::write`] without `Timeout`, and the error of `given_up`.
    ///
    /// # Cancel safety
    /// That of [`Engine::write`].
    pub async fn write_unless<T: Send + 'static>(
        &self,
        given_up: impl Future<Output = Error>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (job, ticket) = ticket(|turn| job(turn.tx()?), committed);
        self.queue(job, ticket, given_up).await
    }

    /// Puts a file. Together with the files of other jobs that wait, if it is a plain one and can be put in a
    /// [`group`](crate::namespace::group); else `alone` runs as a job of [`Engine::write`].
    ///
    /// # Errors
    /// Those of [`Engine::write`].
    ///
    /// # Cancel safety
    /// That of [`Engine::write`].
    pub async fn put(
        &self,
        deadline: Option<Instant>,
        file: Option<PlainFile>,
        alone: impl FnOnce(&mut Tx<'_>) -> Result<Placed> + Send + 'static,
    ) -> Result<Placed> {
        check_deadline(deadline)?;
        let put = |turn: Turn<'_, '_>| match turn {
            Turn::Placed(placed) => Ok(placed),
            turn @ (Turn::Run(_) | Turn::Refused(_)) => alone(turn.tx()?),
        };
        let (job, ticket) = ticket(put, |_| ());
        self.queue(job.with_file(file), ticket, passed(deadline)).await
    }

    /// Queues a job for the writer, and waits for its result.
    async fn queue<T>(
        &self,
        job: Job,
        ticket: JobHandle<T>,
        given_up: impl Future<Output = Error>,
    ) -> Result<T> {
        self.standing.check()?;
        let (waiting, written) = (Waiting::new(&self.waiting), Arc::clone(&self.written));
        let counted = job.after(move || {
            drop(waiting);
            written.fetch_add(1, Ordering::Relaxed);
        });
        ticket.wait(&self.writer, counted, given_up).await
    }

    /// Runs a job in a read transaction, which sees one snapshot.
    ///
    /// # Errors
    /// The error of the job; `Timeout` if the deadline passes before the job has ended; `Busy` as for
    /// [`Engine::write`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the job if it has not begun.
    pub async fn read<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        check_deadline(deadline)?;
        self.standing.check_lease()?;
        let (job, ticket) = ticket(|turn| job(turn.tx()?), |_| ());
        tokio::select! {
            biased;
            verdict = ticket.wait(&self.readers, job, pending()) => verdict,
            error = passed(deadline) => Err(error),
        }
    }

    /// Checks that the database responds to a reader, which runs `read`, and to the writer, which runs an
    /// empty job. If the threads are busy with other jobs, it is enough that they finish one of those within
    /// `time`.
    ///
    /// # Errors
    /// The error of the database; `Busy` if no job was finished within `time`.
    ///
    /// # Cancel safety
    /// Can be dropped at any time.
    pub async fn check_ready(
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

    /// Waits until this server must start over under another id. All calls fail from then on.
    pub async fn expelled(&self) -> Expelled {
        self.standing.expelled().await
    }

    /// Whether jobs wait for the writer; background work then ends its step early.
    pub fn has_waiting_writers(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The number of jobs that the writer has run or refused so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The number of jobs that wait for the writer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Ends the threads after the jobs in their queues, and closes their connections. Blocks.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        for queue in [&self.writer, &self.readers] {
            // Wakes a thread that waits for a job. The send fails only if the thread has ended or its queue
            // is full, so that it is awake.
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

/// Fails after a deadline: a job in the queue may begin before the timer of its deadline fires.
fn check_deadline(deadline: Option<Instant>) -> Result<()> {
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Error::late());
    }
    Ok(())
}

/// Counts a job as waiting until this guard is dropped: when the job runs or is dropped.
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

/// Checks that the job, or any other job of the same threads, ends within `time`.
async fn ask(
    queue: &mpsc::Sender<Job>,
    job: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static,
    done: &AtomicU64,
    time: Duration,
) -> Result<()> {
    let before = done.load(Ordering::Relaxed);
    let (job, ticket) = ticket(|turn| job(turn.tx()?), |()| ());
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
mod group_tests;
#[cfg(test)]
mod stalled_tests;
#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
