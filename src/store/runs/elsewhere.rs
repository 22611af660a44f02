//! The operations of other servers, as this server has read them from their rows.

use tokio::sync::watch;

use super::{Runs, announce};
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

    /// Announces changed rows, in the order of their changes. A run of this server that another one has ended is
    /// cancelled.
    pub(in crate::store) fn record_elsewhere(&self, changed: &[Operation]) {
        for operation in changed {
            let mut table = self.table();
            table.last_change = table.last_change.max(operation.change);
            let run = table.runs.get(&operation.id).map(|(run, _)| run.clone());
            if let Some(run) = run {
                drop(table);
                if operation.state.is_final() {
                    let error = operation.error.as_ref();
                    let message = error.map_or("the operation has ended", |error| &error.message);
                    run.cancel(Error::new(Kind::Cancelled, message));
                }
                continue;
            }
            announce(&table, operation);
            if let Some(states) = table.elsewhere.get(&operation.id) {
                states.send_replace(State::Known(Box::new(operation.clone())));
            }
            if operation.state.is_final() {
                table.elsewhere.remove(&operation.id);
            }
        }
    }

    /// Announces the progress of operations that do not run here.
    pub(in crate::store) fn publish_elsewhere(&self, operations: &[Operation]) {
        for operation in operations {
            let mut table = self.table();
            if table.runs.contains_key(&operation.id) {
                continue;
            }
            if operation.change <= table.last_change {
                announce(&table, operation);
            }
            if let Some(states) = table.elsewhere.get(&operation.id) {
                states.send_replace(State::Known(Box::new(operation.clone())));
            }
            if operation.state.is_final() {
                table.elsewhere.remove(&operation.id);
            }
        }
    }
}
