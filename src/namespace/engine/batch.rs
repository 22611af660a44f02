//! The jobs of one transaction, a batch.
//!
//! Uploads of small files that follow each other in the queue are a group: they are put together, see [`group`]. Those
//! that are left out of it run after it, each in a savepoint of its own, as every other job does; so a job between two
//! uploads sees the first and not the second. If a group fails, nothing of it is kept and all its jobs run one by one.
//! A group that has emptied the queue ends the batch: its callers would else wait for those who come meanwhile, and the
//! writer would then wait for all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    crash::{self, Point},
    error::{Error, Result},
    namespace::{
        counted::Sums,
        engine::ticket::{Answer, Job, Turn},
        group::{self, NameCache, Placed},
        sql::{Connection, Mode, Tx},
        sums,
    },
};

/// Runs jobs that have begun, and commits. Adds their answers, also those of the jobs that an error keeps from
/// running.
///
/// # Errors
/// Those of the engine. No change is kept then, unless the connection was lost during the commit.
pub(super) fn run(
    connection: &mut dyn Connection,
    jobs: &mut impl Iterator<Item = Job>,
    answers: &mut Vec<Answer>,
    cache: &mut NameCache,
) -> Result<()> {
    let mut batch = Batch { connection, answers, cache, counted: Sums::default(), is_empty: true };
    let mut group = Vec::new();
    loop {
        match jobs.next() {
            Some(job) if job.file().is_some() => group.push(job),
            Some(job) => {
                group.push(job);
                batch.run(std::mem::take(&mut group))?;
            }
            None => {
                batch.run(std::mem::take(&mut group))?;
                break;
            }
        }
    }
    sums::keep(&mut Tx::new(batch.connection), &batch.counted)?;
    crash::reach(Point::Commit);
    batch.connection.commit()?;
    crash::reach(Point::Committed);
    Ok(())
}

/// The state of a batch.
struct Batch<'a> {
    connection: &'a mut dyn Connection,
    answers: &'a mut Vec<Answer>,
    cache: &'a mut NameCache,
    counted: Sums,
    /// Whether the transaction has done nothing yet, so that it can begin again in the place of a savepoint.
    is_empty: bool,
}

impl Batch<'_> {
    /// Runs uploads as a group, and a last job of another kind after them.
    fn run(&mut self, jobs: Vec<Job>) -> Result<()> {
        let mut placed = match self.put(&jobs) {
            Ok(placed) => placed.into_iter(),
            Err(error) => {
                self.refuse(jobs, &error);
                return Err(error);
            }
        };
        let mut alone = Vec::new();
        for job in jobs {
            match placed.next().flatten() {
                Some(placed) => self.answers.push(job.run(Turn::Placed(placed)).1),
                None => alone.push(job),
            }
        }
        let mut alone = alone.into_iter();
        while let Some(job) = alone.next() {
            if let Err(error) = self.run_alone(job) {
                self.refuse(alone, &error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts the files of jobs together. Returns what they have become, in the order of the jobs; nothing if it
    /// fails.
    ///
    /// # Errors
    /// Those after which the transaction cannot continue.
    fn put(&mut self, jobs: &[Job]) -> Result<Vec<Option<Placed>>> {
        let files: Vec<_> = jobs.iter().map_while(Job::file).collect();
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let is_first = std::mem::replace(&mut self.is_empty, false);
        if !is_first {
            self.connection.execute("SAVEPOINT job", &[])?;
        }
        let mut tx = Tx::new(self.connection);
        let put = catch_unwind(AssertUnwindSafe(|| group::put(&mut tx, &files, self.cache)))
            .unwrap_or_else(|_| Err(Error::internal("the plan of a group panicked").logged()));
        let counted = tx.counted();
        if is_first {
            self.check()?;
            if put.is_err() {
                self.connection.rollback();
                self.connection.begin(Mode::Write)?;
            }
        } else {
            self.end_savepoint(put.is_ok())?;
        }
        match put {
            Ok(placed) => {
                self.counted.add_all(&counted);
                Ok(placed)
            }
            Err(error) => {
                tracing::warn!(?error, "uploads cannot be put together and are put one by one");
                Ok(Vec::new())
            }
        }
    }

    /// Runs a job in a savepoint of its own.
    fn run_alone(&mut self, job: Job) -> Result<()> {
        self.is_empty = false;
        if let Err(error) = self.connection.execute("SAVEPOINT job", &[]) {
            self.answers.push(job.run(Turn::Refused(error.clone())).1);
            return Err(error);
        }
        let mut tx = Tx::new(self.connection);
        let (good, answer) = job.run(Turn::Run(&mut tx));
        let counted = tx.counted();
        self.answers.push(answer);
        self.end_savepoint(good)?;
        if good {
            self.counted.add_all(&counted);
        }
        Ok(())
    }

    /// Checks that the transaction can continue.
    fn check(&mut self) -> Result<()> {
        // The next statement would also wait until the timeout.
        if let Some(error) = self.connection.stalled() {
            return Err(error);
        }
        if !self.connection.in_transaction() {
            return Err(self.connection.undone());
        }
        Ok(())
    }

    /// Keeps or rolls back the changes since the savepoint.
    fn end_savepoint(&mut self, good: bool) -> Result<()> {
        self.check()?;
        if !good {
            self.connection.execute("ROLLBACK TO job", &[])?;
        }
        self.connection.execute("RELEASE job", &[]).map(drop)
    }

    /// Fails jobs with the reason why they do not run.
    fn refuse(&mut self, jobs: impl IntoIterator<Item = Job>, error: &Error) {
        let refused = |job: Job| job.run(Turn::Refused(error.clone())).1;
        self.answers.extend(jobs.into_iter().map(refused));
    }
}
