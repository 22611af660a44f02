//! The loops of the database threads.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    namespace::{
        engine::{
            batch,
            breaker::Breaker,
            lease::{self, Standing},
            ticket::{Answer, Job, Turn},
        },
        group::NameCache,
        sql::{Connection, Mode, Tx},
    },
};

/// How many commits and reads the threads have finished.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) commits: AtomicU64,
    pub(super) reads: AtomicU64,
}

/// The state that threads of the same kind share: the writer has its own, all readers have one.
pub(super) struct Shared {
    closing: Arc<AtomicBool>,
    done: Arc<Done>,
    standing: Arc<Standing>,
    breaker: Breaker,
}

impl Shared {
    pub(super) fn new(
        closing: &Arc<AtomicBool>,
        done: &Arc<Done>,
        standing: &Arc<Standing>,
    ) -> Self {
        let (closing, done) = (Arc::clone(closing), Arc::clone(done));
        Self { closing, done, standing: Arc::clone(standing), breaker: Breaker::default() }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

/// The loop of the writer thread, until the queue is closed and empty.
pub(super) fn write_loop(
    mut connection: Box<dyn Connection>,
    mut jobs: mpsc::Receiver<Job>,
    shared: &Shared,
) {
    let mut cache = NameCache::default();
    while let Some(first) = jobs.blocking_recv() {
        let others = std::iter::from_fn(|| jobs.try_recv().ok());
        let waiting = std::iter::once(first).chain(others).filter(|job| !job.is_abandoned());
        let mut answers = Vec::new();
        let failure =
            write_some(connection.as_mut(), waiting, shared, (&mut answers, &mut cache)).err();
        // The wake-up job of a close may have been taken into the batch, so closing is checked after each
        // batch.
        if shared.is_closing() {
            jobs.close();
        }
        let mut is_told = false;
        for answer in answers {
            is_told |= answer(failure.clone());
        }
        // After the answers: a verdict that a dead row has is told first.
        if let Some(why) = connection.expelled() {
            shared.standing.expel(why);
        }
        // A caller that still waits logs the error itself.
        if let Some(error) = failure.filter(|_| !is_told) {
            error.report();
        }
    }
    // If this fails, the next start does the same.
    if let Err(error) = connection.settle() {
        tracing::warn!(?error, "the database is not tidied up");
    }
}

/// Runs one batch of the waiting jobs, and refuses all others if the database does not respond.
fn write_some(
    connection: &mut dyn Connection,
    waiting: impl Iterator<Item = Job>,
    shared: &Shared,
    (answers, cache): (&mut Vec<Answer>, &mut NameCache),
) -> Result<()> {
    let mut waiting = waiting.peekable();
    if waiting.peek().is_none() {
        return Ok(());
    }
    let done = write_batch(connection, &mut waiting, shared, (answers, cache));
    if let Some(error) = shared.breaker.refusal() {
        answers.extend(waiting.filter_map(|job| refuse(job, &error)));
    }
    done
}

/// Fails a job with the reason why there is no transaction for it.
fn refuse(job: Job, error: &Error) -> Option<Answer> {
    job.begin().then(|| job.run(Turn::Refused(error.clone())).1)
}

/// Runs waiting jobs in one transaction. After an error none of their changes is stored, unless the
/// connection was lost during the commit: then it is unknown whether the changes are stored.
fn write_batch(
    connection: &mut dyn Connection,
    waiting: &mut impl Iterator<Item = Job>,
    shared: &Shared,
    (answers, cache): (&mut Vec<Answer>, &mut NameCache),
) -> Result<()> {
    let batch = waiting.take(connection.batch_max());
    let begun = lease::now();
    if let Err(error) = shared.breaker.begin(connection, Mode::Write) {
        // No transaction can begin, so all jobs of the batch are refused together.
        answers.extend(batch.filter_map(|job| refuse(job, &error)));
        return Err(error);
    }
    shared.standing.reconnected(connection.reconnects());
    let done = batch::run(connection, &mut batch.filter(Job::begin), answers, cache);
    // The verdict of a commit may have needed another connection; the answers come after this.
    shared.standing.reconnected(connection.reconnects());
    shared.breaker.judge(connection);
    match &done {
        Ok(()) => {
            shared.done.commits.fetch_add(1, Ordering::Relaxed);
            shared.standing.renew(begun);
        }
        Err(_) => connection.rollback(),
    }
    done
}

/// The loop of a reader thread, until the queue is closed and empty.
pub(super) fn read_loop(
    mut connection: Box<dyn Connection>,
    jobs: &Mutex<mpsc::Receiver<Job>>,
    shared: &Shared,
) {
    let mut reconnects = 0;
    loop {
        let mut queue = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = queue.blocking_recv() else { return };
        if shared.is_closing() {
            queue.close();
        }
        drop(queue);
        if job.is_abandoned() {
            continue;
        }
        let of_writer = shared.standing.reconnects();
        if std::mem::replace(&mut reconnects, of_writer) != of_writer {
            connection.disconnect();
        }
        let failure = shared.breaker.begin(connection.as_mut(), Mode::Read).err();
        let answer = if let Some(error) = &failure {
            refuse(job, error)
        } else {
            let ran = job.begin().then(|| job.run(Turn::Run(&mut Tx::new(connection.as_mut()))));
            if shared.breaker.judge(connection.as_ref()) {
                shared.done.reads.fetch_add(1, Ordering::Relaxed);
            }
            connection.rollback();
            ran.map(|(_, answer)| answer)
        };
        let is_told = answer.is_none_or(|answer| answer(None));
        if let Some(error) = failure.filter(|_| !is_told) {
            error.report();
        }
    }
}
