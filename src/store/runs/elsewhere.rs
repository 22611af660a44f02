//! The operations of other servers, as this server has read them from their rows.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Runs, Table, announce, known};
use crate::{
    error::{Error, Kind},
    model::{Operation, OperationId},
    store::run::State,
};

impl Runs {
    /// Whether the changes of operations matter here soon: one runs here, or somebody watches.
    pub(in crate::store) fn is_followed(&self) -> bool {
        let table = self.table();
        !table.runs.is_empty() || !table.elsewhere.is_empty() || table.changes.receiver_count() > 0
    }

    /// The states of an operation that runs on another server; `first` is its row.
    pub(in crate::store) fn follow_elsewhere(&self, first: &Operation) -> watch::Receiver<State> {
        let known = || watch::Sender::new(State::Known(Box::new(first.clone())));
        self.table().elsewhere.entry(first.id).or_insert_with(known).subscribe()
    }

    /// The operations of other servers that are watched one by one. Forgets those whose watchers have left.
    pub(in crate::store) fn followed_elsewhere(&self) -> Vec<OperationId> {
        let mut table = self.table();
        table.elsewhere.retain(|_, states| states.receiver_count() > 0);
        table.elsewhere.keys().copied().collect()
    }

    /// Announces changed rows, in the order of their changes. A run of this server whose row another one has ended is
    /// cancelled.
    pub(in crate::store) fn record_elsewhere(&self, changed: &[Operation]) {
        for operation in changed {
            let mut table = self.table();
            table.last_change = table.last_change.max(operation.change);
            if let Some((run, _)) = table.runs.get(&operation.id) {
                // A run that has not begun has no row yet: this one is of an earlier run with its id.
                let known = known(run).map(|known| known.change);
                if known.is_some_and(|change| change < operation.change) {
                    let run = Arc::clone(run);
                    drop(table);
                    let error = operation.error.as_ref();
                    let message =
                        error.map_or("the operation has ended elsewhere", |it| &it.message);
                    run.cancel(Error::new(Kind::Cancelled, message));
                }
                continue;
            }
            announce(&table, operation);
            tell(&mut table, operation);
        }
    }

    /// Announces the progress of operations that do not run here.
    pub(in crate::store) fn publish_elsewhere(&self, operations: &[Operation]) {
        for operation in operations {
            let mut table = self.table();
            if !table.runs.contains_key(&operation.id) && operation.change <= table.last_change {
                announce(&table, operation);
                tell(&mut table, operation);
            }
        }
    }

    /// Lets the watchers of an operation of another server look for its row, which is gone.
    pub(in crate::store) fn forget_elsewhere(&self, id: OperationId) {
        self.table().elsewhere.remove(&id);
    }
}

/// Tells the watchers of an operation of another server its state, unless they know a newer one.
fn tell(table: &mut Table, operation: &Operation) {
    let Some(states) = table.elsewhere.get(&operation.id) else { return };
    states.send_if_modified(|state| {
        let is_newer = match state {
            State::Known(known) => {
                (known.change, known.updated) < (operation.change, operation.updated)
            }
            State::Starting | State::Refused(_) | State::Elsewhere => true,
        };
        if is_newer {
            *state = State::Known(Box::new(operation.clone()));
        }
        is_newer
    });
    if operation.state.is_final() {
        table.elsewhere.remove(&operation.id);
    }
}
