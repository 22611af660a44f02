//! Watching operations.
//!
//! A watcher of one operation gets its latest state. A watcher of all operations gets each change in order, and
//! keeps the number of the last one. After a gap, a lag, or a resume with an earlier number it reads the changed
//! rows from the database. It therefore gets the end of every operation, and no counter decreases.

use std::collections::{HashMap, VecDeque};

use futures::FutureExt;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::Permit,
    error::{Error, Result},
    limits::{CHANGES_PAGE, PROGRESS_EVERY},
    model::{Operation, OperationId},
    namespace::{operation, schema, sql::Tx},
    store::{Call, Store, run::State, runs::Subscription},
};

impl Store {
    /// Watches an operation: its current state, then its changes.
    ///
    /// # Errors
    /// `OperationNotFound`, `Busy` if there are too many watchers.
    pub async fn watch(&self, id: OperationId, call: &Call) -> Result<Updates> {
        let turn = self.turn_to_watch(call)?;
        let first = self.operation(id, call).await?;
        let mut updates = Updates::of_row(self, id);
        updates.call = call.clone();
        updates.turn = Some(turn);
        updates.source = match self.0.runs.follow(id) {
            Some(mut states) if !first.state.is_final() => {
                states.mark_changed();
                UpdateSource::Run(states)
            }
            None if !first.state.is_final() && self.0.config.lease.is_some() => {
                let mut states = self.0.runs.follow_elsewhere(&first);
                states.mark_changed();
                UpdateSource::Run(states)
            }
            _ => UpdateSource::Row(Some(Box::new(first))),
        };
        Ok(updates)
    }

    /// Acquires the permit of a watcher. It is noted as stalled for ever, so that it can be revoked whenever peers
    /// below their share need it.
    fn turn_to_watch(&self, call: &Call) -> Result<Permit> {
        let turn = self.0.budgets.watchers.try_acquire(call.peer(), 1)?;
        turn.hold().stalls();
        Ok(turn)
    }

    /// Watches all operations that the caller may see: first the running ones, and with `since`, the number of a
    /// change, also those that have changed after it; then every further change.
    ///
    /// # Errors
    /// `ChangesForgotten` if some changes after `since` are no longer kept, or no change has this number yet,
    /// `Busy` if there are too many watchers, `Timeout`.
    pub async fn watch_all(&self, since: Option<i64>, call: &Call) -> Result<AllUpdates> {
        let turn = self.turn_to_watch(call)?;
        let Subscription { changes, running, last_change } = self.0.runs.subscribe();
        let mut updates = AllUpdates {
            store: self.clone(),
            changes,
            begun_after: since.unwrap_or(last_change),
            seen: since.unwrap_or(last_change),
            is_behind: since.is_some(),
            running: HashMap::new(),
            pending: VecDeque::new(),
            call: call.clone(),
            turn,
        };
        match since {
            Some(_) => updates.catch_up(call).await?,
            None if self.0.config.lease.is_some() => updates.begin_among_others(call).await?,
            None => updates.add_running(running),
        }
        Ok(updates)
    }
}

/// The changes of one operation.
#[derive(Debug)]
pub struct Updates {
    store: Store,
    /// The call of the watcher, which may see the operation no longer when its rights change.
    call: Call,
    id: OperationId,
    source: UpdateSource,
    last: Option<Operation>,
    turn: Option<Permit>,
}

#[derive(Debug)]
enum UpdateSource {
    Run(watch::Receiver<State>),
    Row(Option<Box<Operation>>),
    End,
}

impl Updates {
    /// Follows the row of an operation by polling, without a permit of a watcher.
    pub(super) fn of_row(store: &Store, id: OperationId) -> Self {
        let source = UpdateSource::Row(None);
        let call = Call::system();
        Self { store: store.clone(), call, id, source, last: None, turn: None }
    }

    /// The operation.
    pub(super) fn id(&self) -> OperationId {
        self.id
    }

    /// The next state; `None` after the last. A slow caller gets only the latest state.
    ///
    /// # Errors
    /// `Busy` if the permit of this watcher is revoked for others, or the store has drained and the operation has
    /// not ended here; those of reading the row.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let Some(mut turn) = self.turn.as_ref().map(|turn| turn.hold().clone()) else {
            return self.state().await;
        };
        let state = tokio::select! {
            biased;
            state = self.state() => state?,
            error = turn.revoked() => return Err(error),
        };
        match state {
            Some(operation) if !self.call.may_see(&operation) => Err(operation::unknown(self.id)),
            state => Ok(state),
        }
    }

    async fn state(&mut self) -> Result<Option<Operation>> {
        loop {
            let operation = match &mut self.source {
                UpdateSource::End => return Ok(None),
                UpdateSource::Run(states) => {
                    let is_open = changed(states, &self.store.0.draining).await?;
                    let state = states.borrow_and_update().clone();
                    if let State::Known(operation) = state
                        && is_open
                    {
                        *operation
                    } else {
                        self.source = UpdateSource::Row(None);
                        continue;
                    }
                }
                UpdateSource::Row(first) => {
                    if let Some(operation) = first.take() {
                        *operation
                    } else {
                        // No run of this server sends changes, so the row is polled.
                        tokio::select! {
                            () = tokio::time::sleep(PROGRESS_EVERY) => {}
                            () = self.store.0.draining.cancelled() => return Err(Error::stopping()),
                        }
                        self.store.operation(self.id, &Call::system()).await?
                    }
                }
            };
            if operation.state.is_final() {
                self.source = UpdateSource::End;
            } else if self.last.as_ref() == Some(&operation) {
                continue;
            }
            self.last = Some(operation.clone());
            return Ok(Some(operation));
        }
    }
}

/// Waits for a change of a value. Returns whether its sender is there; what changed before the store has drained is
/// seen in any case.
///
/// # Errors
/// `Busy` if the store has drained.
async fn changed<T: Send + Sync>(
    value: &mut watch::Receiver<T>,
    draining: &CancellationToken,
) -> Result<bool> {
    tokio::select! {
        biased;
        changed = value.changed() => return Ok(changed.is_ok()),
        () = draining.cancelled() => {}
    }
    // The sender notifies its receivers one after the other. One of them may have ended the drain before this one was
    // notified; a new look sees the value.
    let changed = value.changed().now_or_never().ok_or_else(Error::stopping)?;
    Ok(changed.is_ok())
}

/// The changes of all operations.
#[derive(Debug)]
pub struct AllUpdates {
    store: Store,
    changes: broadcast::Receiver<Operation>,
    begun_after: i64,
    /// The number of the last change that was returned or is pending.
    seen: i64,
    /// Whether later changes were missed, so that rows must be read.
    is_behind: bool,
    /// The running operations that the caller knows of, with the number of their last change.
    running: HashMap<OperationId, i64>,
    pending: VecDeque<Operation>,
    /// The call of the watcher, whose rights are looked at for each change.
    call: Call,
    turn: Permit,
}

impl AllUpdates {
    /// The number of the change after which this watch begins.
    pub fn begun_after(&self) -> i64 {
        self.begun_after
    }

    /// The next change; `None` when the store drains. A slow caller may miss progress, but no end of an operation.
    ///
    /// # Errors
    /// `ChangesForgotten` if the caller is so slow that ends are no longer kept, `Busy` if the permit of this
    /// watcher is revoked for others; those of reading rows.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let mut turn = self.turn.hold().clone();
        tokio::select! {
            biased;
            change = self.seen_change() => change,
            error = turn.revoked() => Err(error),
        }
    }

    /// The next change that the caller may see.
    async fn seen_change(&mut self) -> Result<Option<Operation>> {
        loop {
            match self.change().await? {
                Some(operation) if !self.call.may_see(&operation) => {}
                change => return Ok(change),
            }
        }
    }

    async fn change(&mut self) -> Result<Option<Operation>> {
        loop {
            if let Some(operation) = self.pending.pop_front() {
                return Ok(Some(operation));
            }
            if self.is_behind {
                self.catch_up(&Call::system()).await?;
                continue;
            }
            let change = tokio::select! {
                // Announced changes are returned before the end of the stream.
                biased;
                change = self.changes.recv() => change,
                () = self.store.0.draining.cancelled() => return Ok(None),
            };
            match change {
                Ok(operation) => {
                    if self.take(&operation) {
                        return Ok(Some(operation));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => self.is_behind = true,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Notes an announced change. Returns whether the caller gets it.
    fn take(&mut self, operation: &Operation) -> bool {
        if operation.change <= self.seen {
            // Either progress of a running operation, or a change that was read from its row already.
            return !operation.state.is_final()
                && self.running.get(&operation.id) == Some(&operation.change);
        }
        if operation.change > self.seen + 1 {
            self.is_behind = true;
            return false;
        }
        self.note(operation);
        true
    }

    fn note(&mut self, operation: &Operation) {
        self.seen = self.seen.max(operation.change);
        if operation.state.is_final() {
            self.running.remove(&operation.id);
        } else {
            self.running.insert(operation.id, operation.change);
        }
    }

    /// Reads a page of rows that have changed after the last seen change. After the last page, adds the running
    /// operations with their latest progress.
    async fn catch_up(&mut self, call: &Call) -> Result<()> {
        // Changes that were announced before this subscription are in the rows that are read next.
        let Subscription { changes, mut running, .. } = self.store.0.runs.subscribe();
        let (since, has_others) = (self.seen, self.store.0.config.lease.is_some());
        let read = move |tx: &mut Tx<'_>| {
            let rows = operation::changed_since(tx, since, CHANGES_PAGE)?;
            let all = if has_others { operation::running(tx)? } else { Vec::new() };
            Ok((rows, all))
        };
        let (rows, all) = self.store.0.engine.read(call.deadline(), read).await?;
        if has_others {
            // The rows decide: another server may have ended an operation that still works here.
            running = all.into_iter().map(|(operation, _)| operation).collect();
            for operation in &mut running {
                self.store.add_progress(operation);
            }
        }
        self.changes = changes;
        self.is_behind = rows.len() == CHANGES_PAGE;
        let mut ended = Vec::new();
        for row in rows {
            self.note(&row);
            if row.state.is_final() {
                ended.push(row.id);
                self.pending.push_back(row);
            } else if !running.iter().any(|latest| latest.id == row.id) {
                self.pending.push_back(row);
            }
        }
        if !self.is_behind {
            self.add_running(running.into_iter().filter(|latest| !ended.contains(&latest.id)));
        }
        Ok(())
    }

    /// Begins with the running operations of all servers.
    async fn begin_among_others(&mut self, call: &Call) -> Result<()> {
        let read = |tx: &mut Tx<'_>| Ok((schema::meta(tx, "change")?, operation::running(tx)?));
        let (change, rows) = self.store.0.engine.read(call.deadline(), read).await?;
        (self.begun_after, self.seen) = (change, change);
        let mut running: Vec<_> = rows.into_iter().map(|(operation, _)| operation).collect();
        for operation in &mut running {
            self.store.add_progress(operation);
        }
        self.add_running(running);
        Ok(())
    }

    fn add_running(&mut self, running: impl IntoIterator<Item = Operation>) {
        for operation in running {
            self.running.insert(operation.id, operation.change);
            self.pending.push_back(operation);
        }
    }
}

#[cfg(test)]
mod tests;
