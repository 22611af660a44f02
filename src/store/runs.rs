//! The registry of the operations that run on this server. Each run is owned by one task.
//!
//! ```text
//!              attach, detach, cancel, deadlines, stop: messages to the run, sent before any await
//!                │
//!  Starting ─────┴──► Running ───► Committing ──► Ended
//!   │  start           │  work      final           ▲
//!   │  transaction     │            transaction     │
//!   ├──► Ended         └─────► Cancelling ──────────┤   the end transaction, repeated until
//!   └──► Refused              or failing ───────────┘   the database gives a verdict
//! ```
//!
//! - The run is in the registry before its first transaction begins, so whoever comes with its id
//!   attaches to it, and is counted.
//! - Callers, cancels and stops change the [`Run`] under its lock and wake its task; they never
//!   write its row. A future that is dropped after that has changed nothing but the number of callers.
//! - The task alone writes the row and ends it ([`super::copy`]). A job that waits for the writer is taken
//!   back by a cancel; one that has begun gives its verdict.
//! - A change of a row is recorded by [`Runs::record`] on the writer's thread, after the commit and in the
//!   order of commits, whoever still waits for it. So the end of an operation, its removal from the
//!   registry and the announcement to watchers are one step.
//! - Where the verdict of a transaction is not known, the run stays, and is Running to everybody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};

use crate::{
    budget::{Budget, Permit},
    error::{Error, Kind, Result},
    limits::{OPERATIONS_RUNNING_MAX, SKIP_POOL_BYTES, WATCH_LAG},
    model::{Digest, Operation, OperationId},
    namespace::operation,
    store::{
        Call,
        run::{Caller, Run, State},
    },
};

/// What became of a caller.
pub(super) enum Attached {
    /// The run is new: its task is to be started.
    New(Arc<Run>, Caller),
    /// It runs already.
    Joined(Caller),
    /// It runs and is about to end; it may run again then.
    Ending(watch::Receiver<State>),
}

/// What a run takes of what all share, until it has ended.
type Room = [Option<Permit>; 2];

/// What a run costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Whether it takes more than one transaction.
    pub(super) is_long: bool,
    /// The bytes of its skip list.
    pub(super) skip_bytes: usize,
}

#[derive(Debug)]
struct Table {
    runs: HashMap<OperationId, (Arc<Run>, Room)>,
    changes: broadcast::Sender<Operation>,
    /// The number of the last change that was announced.
    last_change: i64,
    is_closed: bool,
}

/// The operations that run on this server, and the changes of all.
#[derive(Debug)]
pub(super) struct Runs {
    table: Mutex<Table>,
    places: Budget,
    skips: Budget,
}

/// Tells the watchers of all operations. Without watchers there is nobody to tell.
fn announce(table: &Table, operation: &Operation) {
    drop(table.changes.send(operation.clone()));
}

/// What a watcher of all operations begins with.
pub(super) struct Subscription {
    /// The changes after this moment.
    pub(super) changes: broadcast::Receiver<Operation>,
    /// What runs.
    pub(super) running: Vec<Operation>,
    /// The number of the last change before.
    pub(super) last_change: i64,
}

impl Runs {
    /// Makes the registry of a store whose last change has this number.
    pub(super) fn new(last_change: i64) -> Self {
        let table = Mutex::new(Table {
            runs: HashMap::new(),
            changes: broadcast::Sender::new(WATCH_LAG),
            last_change,
            is_closed: false,
        });
        // What has begun is not given up for others, so a newcomer has the reserve, and nobody waits for
        // room: he would wait with his list.
        Self {
            table,
            places: Budget::new("running copies", OPERATIONS_RUNNING_MAX),
            skips: Budget::new("bytes of skip lists", SKIP_POOL_BYTES),
        }
    }

    /// The bytes for further skip lists.
    #[cfg(test)]
    pub(super) fn skip_room(&self) -> usize {
        self.skips.free()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a caller attach to the run of an operation, which begins if it is not there.
    ///
    /// # Errors
    /// `WriteConflict` if it runs with other arguments, `Busy` if too many run, or too many of this peer, there
    /// is no room for its skip list, or the store stops.
    pub(super) fn attach(
        &self,
        (id, fingerprint): (OperationId, Digest),
        Load { is_long, skip_bytes }: Load,
        (is_detached, Call { deadline, peer }): (bool, Call),
    ) -> Result<Attached> {
        let mut table = self.table();
        if table.is_closed {
            return Err(Error::new(Kind::Busy, "the server is stopping; try again"));
        }
        if let Some((run, _)) = table.runs.get(&id) {
            if run.fingerprint != fingerprint {
                return Err(operation::conflict(id));
            }
            if run.is_unsettled() {
                return Err(unsettled(id));
            }
            return Ok(match run.attach(is_detached, deadline) {
                Some(caller) => Attached::Joined(caller),
                None => Attached::Ending(run.state.subscribe()),
            });
        }
        // There are such only where the database fails, and that fails for all peers alike.
        let unsettled = table.runs.values().filter(|(run, _)| run.is_unsettled()).count();
        if unsettled >= OPERATIONS_RUNNING_MAX {
            return Err(self.places.busy());
        }
        let take = |budget: &Budget, amount: usize| {
            (amount > 0).then(|| budget.try_acquire(peer, amount)).transpose()
        };
        let room = [take(&self.places, is_long.into())?, take(&self.skips, skip_bytes)?];
        let run = Run::new(id, fingerprint, peer);
        let caller = run.attach(is_detached, deadline);
        let caller = caller.ok_or_else(|| Error::internal("a new run is cancelled"))?;
        table.runs.insert(id, (Arc::clone(&run), room));
        Ok(Attached::New(run, caller))
    }

    /// Has a run end. Returns its states; `None`: no such operation runs here.
    pub(super) fn cancel(&self, id: OperationId, why: Error) -> Option<watch::Receiver<State>> {
        let run = Arc::clone(&self.table().runs.get(&id)?.0);
        run.cancel(why);
        Some(run.state.subscribe())
    }

    /// Has all runs end and refuses new ones. Returns their states.
    pub(super) fn close(&self, why: &Error) -> Vec<watch::Receiver<State>> {
        let mut table = self.table();
        table.is_closed = true;
        let runs: Vec<_> = table.runs.values().map(|(run, _)| Arc::clone(run)).collect();
        drop(table);
        for run in &runs {
            run.cancel(why.clone());
        }
        runs.iter().map(|run| run.state.subscribe()).collect()
    }

    /// Whether an operation runs here, or may.
    pub(super) fn has(&self, id: OperationId) -> bool {
        self.table().runs.contains_key(&id)
    }

    /// Records a change of an operation's row that is durable. Called on the writer's thread, in the order
    /// of commits.
    pub(super) fn record(&self, operation: &Operation) {
        let mut table = self.table();
        table.last_change = table.last_change.max(operation.change);
        if let Some((run, _)) = table.runs.get(&operation.id) {
            run.state.send_replace(State::Known(Box::new(operation.clone())));
            if operation.state.is_final() {
                table.runs.remove(&operation.id);
            }
        }
        announce(&table, operation);
    }

    /// Publishes the progress of a run.
    pub(super) fn publish(&self, run: &Run, operation: &Operation) {
        let table = self.table();
        if !run.state.borrow().is_over() {
            run.state.send_replace(State::Known(Box::new(operation.clone())));
            announce(&table, operation);
        }
    }

    /// Ends a run that has changed no row.
    pub(super) fn end_unchanged(&self, run: &Arc<Run>, state: State) {
        let mut table = self.table();
        run.state.send_replace(state);
        remove(&mut table, run);
    }

    /// Tells the callers of a run that it did not begin. It stays until [`Runs::settled`], because its row
    /// may be there.
    pub(super) fn refuse_unsettled(&self, run: &Run, error: Error) {
        let _table = self.table();
        run.state.send_replace(State::Refused(error));
    }

    /// Takes a run away of which nothing is left.
    pub(super) fn settled(&self, run: &Arc<Run>) {
        remove(&mut self.table(), run);
    }

    /// The states of an operation that runs here.
    pub(super) fn follow(&self, id: OperationId) -> Option<watch::Receiver<State>> {
        self.table().runs.get(&id).map(|(run, _)| run.state.subscribe())
    }

    /// The latest state of an operation that runs here.
    pub(super) fn latest(&self, id: OperationId) -> Option<Operation> {
        self.table().runs.get(&id).and_then(|(run, _)| known(run))
    }

    /// Begins to watch all operations.
    pub(super) fn subscribe(&self) -> Subscription {
        let table = self.table();
        Subscription {
            changes: table.changes.subscribe(),
            running: table.runs.values().filter_map(|(run, _)| known(run)).collect(),
            last_change: table.last_change,
        }
    }
}

fn remove(table: &mut Table, run: &Arc<Run>) {
    if table.runs.get(&run.id).is_some_and(|(there, _)| Arc::ptr_eq(there, run)) {
        table.runs.remove(&run.id);
    }
}

fn known(run: &Run) -> Option<Operation> {
    match &*run.state.borrow() {
        State::Known(operation) => Some((**operation).clone()),
        State::Starting | State::Refused(_) | State::Elsewhere => None,
    }
}

/// The error for an operation whose first transaction has no verdict yet.
pub(super) fn unsettled(id: OperationId) -> Error {
    let message = format!(
        "the database failed while the operation {id} began, and has not said yet whether it did; try \
         again later"
    );
    Error::new(Kind::Busy, message).with("id", id.to_string())
}
