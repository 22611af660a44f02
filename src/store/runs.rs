//! The registry of the runs of operations on this server. Each run is owned by one task.
//!
//! ```text
//!              attach, detach, cancel, deadlines, stop: changes of the run, made before any await
//!                │
//!  Starting ─────┴──► Running ───► Committing ──► Ended
//!   │  start           │  work      final           ▲
//!   │  transaction     │            transaction     │
//!   ├──► Ended         └─────► Cancelling ──────────┤   the end transaction, repeated until
//!   └──► Refused              or failing ───────────┘   the database confirms its outcome
//! ```
//!
//! - A run is in the registry before its first transaction begins, so that later requests with its id attach
//!   to it and count as callers.
//! - Callers, cancellations and stops change the [`Run`] under its lock and wake its task; they never write its
//!   row. A future that is dropped after that has changed only the number of callers.
//! - Only the task writes the row and its end ([`super::copy`]). A cancellation withdraws a queued write job; a
//!   job that has begun runs to its end, and its outcome counts.
//! - [`Runs::record`] records a change of a row on the writer's thread, after the commit and in the order of
//!   commits, even if no caller waits any more. So the end of an operation, its removal from the registry and
//!   the announcement to watchers are one atomic step.
//! - While the outcome of a transaction is unknown, the run stays in the registry: as `Running`, or, if it is the
//!   first transaction, refusing callers as busy.

mod elsewhere;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};

use crate::{
    budget::{Budget, Permit},
    error::{Error, Kind, Result},
    limits::{OPERATIONS_RUNNING_MAX, SKIP_POOL_BYTES, WATCH_LAG},
    model::{CopyRequest, Digest, Operation, OperationId},
    namespace::operation,
    store::{
        Call,
        run::{Caller, Run, State},
    },
};

/// The result of [`Runs::attach`].
pub(super) enum Attached {
    /// The run is new: the caller of this function must start its task.
    New(Arc<Run>, Caller),
    /// The operation runs already.
    Joined(Caller),
    /// The run is being cancelled; a new one may begin after its end.
    Ending(watch::Receiver<State>),
}

/// The permits of a run until its removal: a place among the running copies, and the bytes of its skip list.
type Room = [Option<Permit>; 2];

/// The resources that a run needs.
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
    /// The operations of other servers that are watched through this one.
    elsewhere: HashMap<OperationId, watch::Sender<State>>,
    changes: broadcast::Sender<Operation>,
    /// The number of the last change that was announced.
    last_change: i64,
    is_closed: bool,
}

/// The runs of this server, and the changes of all operations.
#[derive(Debug)]
pub(super) struct Runs {
    table: Mutex<Table>,
    places: Budget,
    skips: Budget,
}

/// Sends a change to the watchers of all operations, if there are any.
fn announce(table: &Table, operation: &Operation) {
    drop(table.changes.send(operation.clone()));
}

/// The start of a watch of all operations.
pub(super) struct Subscription {
    /// The changes from now on.
    pub(super) changes: broadcast::Receiver<Operation>,
    /// The running operations.
    pub(super) running: Vec<Operation>,
    /// The number of the last change before those.
    pub(super) last_change: i64,
}

impl Runs {
    /// Makes an empty registry; `last_change` is the number of the last change of the store.
    pub(super) fn new(last_change: i64) -> Self {
        let table = Mutex::new(Table {
            runs: HashMap::new(),
            elsewhere: HashMap::new(),
            changes: broadcast::Sender::new(WATCH_LAG),
            last_change,
            is_closed: false,
        });
        // Permits of running copies are not revoked: new peers have the reserve. The budgets have no queue, since a
        // waiting request would keep its skip list in memory.
        Self {
            table,
            places: Budget::new("running copies", OPERATIONS_RUNNING_MAX),
            skips: Budget::new("bytes of skip lists", SKIP_POOL_BYTES),
        }
    }

    /// The free bytes for skip lists.
    #[cfg(test)]
    pub(super) fn skip_room(&self) -> usize {
        self.skips.free()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches a caller to the run of an operation, or makes a new run.
    ///
    /// # Errors
    /// `WriteConflict` if the operation runs with another request. `Busy` if too many copies run, in all or of
    /// this peer, there is no memory for the skip list, the outcome of the first transaction is unknown, or the
    /// store stops.
    pub(super) fn attach(
        &self,
        (request, fingerprint): (&CopyRequest, Digest),
        Load { is_long, skip_bytes }: Load,
        (is_detached, call): (bool, &Call),
    ) -> Result<Attached> {
        let (id, deadline, peer) = (request.id, call.deadline(), call.peer());
        let mut table = self.table();
        if table.is_closed {
            return Err(Error::stopping());
        }
        if let Some((run, _)) = table.runs.get(&id) {
            if run.fingerprint != fingerprint {
                return Err(operation::conflict(id));
            }
            if run.is_in_doubt() {
                return Err(in_doubt(id));
            }
            return Ok(match run.attach(is_detached, deadline) {
                Some(caller) => Attached::Joined(caller),
                None => Attached::Ending(run.state.subscribe()),
            });
        }
        // Unsettled runs exist only while the database fails, so they have no shares among peers.
        let in_doubt = table.runs.values().filter(|(run, _)| run.is_in_doubt()).count();
        if in_doubt >= OPERATIONS_RUNNING_MAX {
            return Err(self.places.busy());
        }
        let take = |budget: &Budget, amount: usize| {
            (amount > 0).then(|| budget.try_acquire(peer, amount)).transpose()
        };
        let room = [take(&self.places, is_long.into())?, take(&self.skips, skip_bytes)?];
        let run = Run::new(request, fingerprint, call);
        let caller = run.attach(is_detached, deadline);
        let caller = caller.ok_or_else(|| Error::internal("a new run is cancelled"))?;
        table.runs.insert(id, (Arc::clone(&run), room));
        Ok(Attached::New(run, caller))
    }

    /// Cancels a run. Returns its states; `None` if the operation does not run here.
    pub(super) fn cancel(&self, id: OperationId, why: Error) -> Option<watch::Receiver<State>> {
        let run = Arc::clone(&self.table().runs.get(&id)?.0);
        run.cancel(why);
        Some(run.state.subscribe())
    }

    /// Cancels the runs that a credential has started.
    pub(super) fn cancel_started_by(&self, credential: &str, why: &Error) {
        let table = self.table();
        let runs = table.runs.values().map(|(run, _)| run);
        let runs: Vec<_> = runs.filter(|run| run.credential() == credential).cloned().collect();
        drop(table);
        for run in &runs {
            run.cancel(why.clone());
        }
    }

    /// Cancels all runs and refuses new ones. Returns their states.
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

    /// Ends all runs for their callers, who get an error, and refuses new ones.
    pub(super) fn refuse_all(&self, why: &Error) {
        let mut table = self.table();
        table.is_closed = true;
        for (_, (run, _)) in table.runs.drain() {
            run.cancel(why.clone());
            run.state.send_replace(State::Refused(why.clone()));
        }
    }

    /// Whether the registry has a run of an operation, also one whose beginning is not certain.
    pub(super) fn has(&self, id: OperationId) -> bool {
        self.table().runs.contains_key(&id)
    }

    /// Records a committed change of the row of an operation. Called on the writer's thread, in the order of
    /// commits.
    pub(super) fn record(&self, operation: &Operation) {
        let mut table = self.table();
        table.last_change = table.last_change.max(operation.change);
        // First: a stop waits for the states of runs, and then ends the watches of all operations.
        announce(&table, operation);
        if let Some((run, _)) = table.runs.get(&operation.id) {
            run.state.send_replace(State::Known(Box::new(operation.clone())));
            if operation.state.is_final() {
                table.runs.remove(&operation.id);
            }
        }
    }

    /// Publishes the progress of a run.
    pub(super) fn publish(&self, run: &Run, operation: &Operation) {
        let table = self.table();
        if !run.state.borrow().is_over() {
            run.state.send_replace(State::Known(Box::new(operation.clone())));
            announce(&table, operation);
        }
    }

    /// Ends and removes a run that has changed no row.
    pub(super) fn end_unchanged(&self, run: &Arc<Run>, state: State) {
        let mut table = self.table();
        run.state.send_replace(state);
        remove(&mut table, run);
    }

    /// Ends a run for its callers, who get `error`. The run stays in the registry until [`Runs::settled`], because
    /// its row may exist.
    pub(super) fn refuse_in_doubt(&self, run: &Run, error: Error) {
        let _table = self.table();
        run.state.send_replace(State::Refused(error));
    }

    /// Removes a run whose row does not exist or has ended.
    pub(super) fn settled(&self, run: &Arc<Run>) {
        remove(&mut self.table(), run);
    }

    /// The states of an operation that runs here.
    pub(super) fn follow(&self, id: OperationId) -> Option<watch::Receiver<State>> {
        self.table().runs.get(&id).map(|(run, _)| run.state.subscribe())
    }

    /// The run of an operation that runs here.
    pub(super) fn get(&self, id: OperationId) -> Option<Arc<Run>> {
        self.table().runs.get(&id).map(|(run, _)| Arc::clone(run))
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

/// The error for an operation whose first transaction has an unknown outcome.
pub(super) fn in_doubt(id: OperationId) -> Error {
    let message = format!(
        "the database failed while the operation {id} began, and has not said yet whether it did; try \
         again later"
    );
    Error::new(Kind::Busy, message).with("id", id.to_string())
}
