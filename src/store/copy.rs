//! Copies: those that one transaction ends, and those that take their time.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Kind, Result},
    limits::{FILTER_STEP_ROWS, PROGRESS_EVERY, micros},
    model::{CopyRequest, Operation, OperationState, Progress},
    namespace::{
        copy::{self, START_PINS, Started},
        filter::{BUILD_PINS, Build, Search},
        operation,
        pin::Owner,
        sql::Tx,
        tree::Target,
    },
    store::{Call, Store, Updates, operations::Hub, verify},
};

/// What a row of an entry takes in the database, at least, for the check of the disk.
const ENTRY_ROW_BYTES: u64 = 256;

/// A copy as its caller follows it.
///
/// Dropping the last one of a copy that runs cancels it, unless a caller asked for it detached.
#[derive(Debug)]
pub struct Copying {
    store: Store,
    request: Arc<CopyRequest>,
    source: Source,
    deadline: Option<Instant>,
    /// The run that this caller takes along when it leaves as the last one.
    mine: Option<i64>,
}

#[derive(Debug)]
enum Source {
    Done(Option<Box<Operation>>),
    Running(Updates),
}

impl Store {
    /// Begins a copy, and ends it where one transaction is enough.
    ///
    /// # Errors
    /// Everything that is wrong with the request; nothing has changed then. Later failures come from
    /// [`Copying::next`].
    ///
    /// # Cancel safety
    /// Dropped before the first transaction has begun: nothing happens. Later: the copy is cancelled,
    /// unless it was detached.
    pub async fn copy(&self, request: CopyRequest, detached: bool, call: Call) -> Result<Copying> {
        let left = CancellationToken::new();
        let here = left.clone().drop_guard();
        let (reply, answer) = oneshot::channel();
        let store = self.clone();
        // A task of its own: once the row says that it runs, somebody must run it. A reply that
        // nobody takes is dropped, which cancels the copy.
        self.spawn(async move {
            drop(reply.send(store.begin_copy(Arc::new(request), (detached, left), call).await));
        });
        let copying = answer.await.map_err(Error::internal)?;
        here.disarm();
        copying
    }

    async fn begin_copy(
        &self,
        request: Arc<CopyRequest>,
        (detached, left): (bool, CancellationToken),
        call: Call,
    ) -> Result<Copying> {
        self.0.hub.check_room()?;
        if !request.skip_files.is_empty() {
            self.0.space.check(FILTER_STEP_ROWS as u64 * ENTRY_ROW_BYTES)?;
        }
        let (asked, server) = (Arc::clone(&request), self.0.server.clone());
        let start = move |tx: &mut Tx<'_>| {
            if left.is_cancelled() && !detached {
                return Err(Error::new(Kind::Cancelled, "the caller left; nothing has changed"));
            }
            copy::start(tx, &asked, &server)
        };
        let started = self.0.engine.write(call.deadline, start).await?;
        let mut mine = None;
        let source = match started {
            Started::Done(operation) => {
                self.0.hub.announce(&operation);
                Source::Done(Some(Box::new(operation)))
            }
            Started::Earlier(operation) if operation.state.is_final() => {
                Source::Done(Some(Box::new(operation)))
            }
            Started::Earlier(_) => {
                mine = self.0.hub.join(request.id, detached);
                Source::Running(self.follow(request.id, call).await?)
            }
            Started::Begun(operation, target, run) => {
                let cancel = self.0.hub.enter(run, &operation);
                mine = self.0.hub.join(request.id, detached);
                let work = Work {
                    store: self.clone(),
                    request: Arc::clone(&request),
                    run,
                    owner: operation::owner(run, &self.0.server),
                    report: Report::new(run, operation),
                    cancel,
                };
                self.spawn(work.run(target));
                Source::Running(self.follow(request.id, Call::default()).await?)
            }
        };
        Ok(Copying { store: self.clone(), request, source, deadline: call.deadline, mine })
    }
}

impl Copying {
    /// The next state; the last one has succeeded. Nothing after it.
    ///
    /// # Errors
    /// Why the copy failed or was cancelled; nothing has changed then. `Timeout` if the deadline
    /// passes before the final transaction is with the writer.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let updates = match &mut self.source {
            Source::Done(operation) => return Ok(operation.take().map(|operation| *operation)),
            Source::Running(updates) => updates,
        };
        let next = match self.deadline {
            None => updates.next().await,
            Some(deadline) => match tokio::time::timeout_at(deadline, updates.next()).await {
                Ok(next) => next,
                Err(_) => return self.time_out().await,
            },
        };
        let operation = next?;
        match operation {
            Some(operation) if operation.state == OperationState::Succeeded => {
                self.source = Source::Done(None);
                Ok(Some(operation))
            }
            Some(Operation { state: OperationState::Running, .. }) | None => Ok(operation),
            Some(operation) => {
                self.source = Source::Done(None);
                let why = operation.error.map_or_else(
                    || Error::internal("an operation failed without a reason"),
                    Error::from,
                );
                Err(why)
            }
        }
    }

    async fn time_out(&mut self) -> Result<Option<Operation>> {
        self.deadline = None;
        let late = || Error::new(Kind::Timeout, "the deadline passed; nothing has changed");
        let run = self.mine.take().filter(|run| self.store.0.hub.leave(self.request.id, *run));
        let Some(run) = run else {
            let message = "the deadline passed; the copy goes on for others that asked for it";
            return Err(Error::new(Kind::Timeout, message));
        };
        match self.store.cancel_run(self.request.id, Some(run), late(), Call::default()).await {
            Ok(_) => {
                self.source = Source::Done(None);
                Err(late())
            }
            // It ended first: its verdict is the answer, even a little late.
            Err(error) if error.kind() == Kind::Finished => Box::pin(self.next()).await,
            Err(error) => Err(error),
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let (store, id) = (self.store.clone(), self.request.id);
        if let (Some(run), Source::Running(_)) = (self.mine, &self.source)
            && store.0.hub.leave(id, run)
        {
            self.store.spawn(async move {
                let why = Error::new(Kind::Cancelled, "the caller left; nothing has changed");
                if let Err(error) = store.cancel_run(id, Some(run), why, Call::default()).await
                    && error.kind() != Kind::Finished
                {
                    tracing::warn!(%id, %error, "a copy cannot be cancelled");
                }
            });
        }
    }
}

/// The progress of an operation, told at most every [`PROGRESS_EVERY`].
pub(super) struct Report {
    run: i64,
    operation: Operation,
    begun: Instant,
    told: Instant,
    is_untold: bool,
}

impl Report {
    fn new(run: i64, operation: Operation) -> Self {
        let now = Instant::now();
        Self { run, operation, begun: now, told: now, is_untold: false }
    }

    /// What is counted so far, to be changed.
    pub(super) fn progress(&mut self) -> &mut Progress {
        self.is_untold = true;
        &mut self.operation.progress
    }

    /// Resolves when something is to be told: work that waits long tells what it had counted.
    pub(super) async fn due(&self) {
        if !self.is_untold {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(self.told + PROGRESS_EVERY).await;
    }

    /// Tells the watchers, if it is time.
    pub(super) fn tell(&mut self, hub: &Hub) {
        if self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.is_untold = false;
        self.told = Instant::now();
        // The clock of the database set the start; the steady clock adds what has passed.
        self.operation.updated = self.operation.started + micros(self.begun.elapsed());
        hub.publish(self.run, &self.operation);
    }
}

/// A copy that takes its time.
struct Work {
    store: Store,
    request: Arc<CopyRequest>,
    run: i64,
    owner: Owner,
    report: Report,
    cancel: CancellationToken,
}

impl Work {
    async fn run(mut self, target: Target) {
        let outcome = match self.work(target).await {
            Ok(operation) => Ok(operation),
            Err(error) => self.give_up(error).await,
        };
        let operation = outcome.unwrap_or_else(|error| {
            tracing::error!(id = %self.request.id, ?error, "a copy cannot be ended");
            let mut operation = self.report.operation;
            operation.state = OperationState::Failed;
            operation.error = Some((&error).into());
            operation
        });
        self.store.0.hub.publish(self.run, &operation);
    }

    async fn work(&mut self, target: Target) -> Result<Operation> {
        let (target, pins) = match target {
            Target::Folder(folder) if !self.request.skip_files.is_empty() => {
                self.filter(folder).await?
            }
            Target::Folder(_) | Target::File(_) => (target, START_PINS),
        };
        if self.request.verify {
            // What it remembers of a large folder is large, too.
            let store = self.store.clone();
            let _turn = tokio::select! {
                turn = store.0.verifies.acquire() => Some(turn.map_err(Error::internal)?),
                () = self.cancel.cancelled() => None,
            };
            self.check_cancelled()?;
            let source = self.request.source.clone();
            verify::run(&self.store, &target, &source, &mut self.report, &self.cancel).await?;
        }
        let mut progress = self.report.progress().clone();
        progress.files_done = progress.files_total - progress.files_skipped;
        progress.bytes_done = progress.bytes_total - progress.bytes_skipped;
        self.check_cancelled()?;
        let (request, run, owner) = (Arc::clone(&self.request), self.run, self.owner.clone());
        let finish = move |tx: &mut Tx<'_>| {
            copy::finish(tx, &request, (run, &owner), (&target, pins), &progress)
        };
        self.store.0.engine.write(None, finish).await
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(Kind::Cancelled, "the copy was cancelled"));
        }
        Ok(())
    }

    /// Builds the filtered folder beside the tree. Returns it and the pins that hold it.
    async fn filter(&mut self, folder: i64) -> Result<(Target, usize)> {
        let mut search = Search::new(folder, self.request.skip_files.clone());
        loop {
            self.check_cancelled()?;
            let step = move |tx: &mut Tx<'_>| search.step(tx).map(|done| (search, done));
            let done;
            (search, done) = self.store.0.engine.read(None, step).await?;
            self.report.tell(&self.store.0.hub);
            if done {
                break;
            }
        }
        self.report.progress().skip_files_unmatched = search.unmatched();
        let Some(mut build) = search.plan()? else {
            return Ok((Target::Folder(folder), START_PINS));
        };
        loop {
            self.check_cancelled()?;
            self.store.0.space.check(FILTER_STEP_ROWS as u64 * ENTRY_ROW_BYTES)?;
            let (owner, mut progress) = (self.owner.clone(), self.report.progress().clone());
            let step = move |tx: &mut Tx<'_>| {
                let root = Build::step(&mut build, tx, &owner, &mut progress)?;
                Ok((build, progress, root))
            };
            let (next, progress, root) = self.store.0.engine.write(None, step).await?;
            build = next;
            // With `verify`, done is what is read and checked, and that comes later.
            let reported = self.report.progress();
            if self.request.verify {
                reported.files_skipped = progress.files_skipped;
                reported.bytes_skipped = progress.bytes_skipped;
            } else {
                *reported = progress;
            }
            self.report.tell(&self.store.0.hub);
            if let Some(root) = root {
                return Ok((Target::Folder(root), BUILD_PINS));
            }
        }
    }

    /// Ends the row of a copy that did not succeed. Whoever changed it first is right.
    async fn give_up(&mut self, error: Error) -> Result<Operation> {
        // Its callers are told what its row says, without the cause.
        error.report();
        let is_cancelled = error.kind() == Kind::Cancelled;
        let state = if is_cancelled { OperationState::Cancelled } else { OperationState::Failed };
        let progress = self.report.progress().clone();
        let (id, run, owner) = (self.request.id, self.run, self.owner.clone());
        let end = move |tx: &mut Tx<'_>| {
            copy::give_up(tx, (run, &owner), (state, &error), &progress)?;
            operation::get(tx, id)
        };
        self.store.0.engine.write(None, end).await
    }
}
