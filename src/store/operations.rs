//! Following operations: the row is the truth, the hub is the short way.
//!
//! A running operation of this server publishes its latest state in the hub; a slow watcher gets the
//! latest and makes nothing grow. An operation that the hub does not have is read from its row.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Kind, Result},
    limits::{OPERATIONS_RUNNING_MAX, PROGRESS_EVERY, WATCH_LAG},
    model::{Operation, OperationError, OperationId, OperationState, Page, Progress},
    namespace::{operation, sql::Tx},
    store::{Call, Store},
};

/// A running operation of this server.
struct Live {
    run: i64,
    latest: watch::Sender<Operation>,
    cancel: CancellationToken,
    /// Those whose leaving cancels it when they are the last; nobody's does where one is detached.
    callers: usize,
    is_detached: bool,
    /// Whether somebody is cancelling it, with the progress that it has now.
    is_frozen: bool,
}

/// The running operations of this server, and the changes of all.
pub(super) struct Hub {
    live: Mutex<HashMap<OperationId, Live>>,
    changes: broadcast::Sender<Operation>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { live: Mutex::default(), changes: broadcast::Sender::new(WATCH_LAG) }
    }
}

impl Hub {
    fn live(&self) -> MutexGuard<'_, HashMap<OperationId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another operation may run.
    pub(super) fn check_room(&self) -> Result<()> {
        if self.live().len() < OPERATIONS_RUNNING_MAX {
            return Ok(());
        }
        let message = format!("{OPERATIONS_RUNNING_MAX} operations run already; try again later");
        Err(Error::new(Kind::Busy, message))
    }

    /// Enters a run of an operation that begins. Returns what cancels it.
    pub(super) fn enter(&self, run: i64, operation: &Operation) -> CancellationToken {
        let cancel = CancellationToken::new();
        let entry = Live {
            run,
            latest: watch::Sender::new(operation.clone()),
            cancel: cancel.clone(),
            callers: 0,
            is_detached: false,
            is_frozen: false,
        };
        if let Some(earlier) = self.live().insert(operation.id, entry) {
            earlier.cancel.cancel();
        }
        self.announce(operation);
        cancel
    }

    /// Has a caller join a run. Returns which one it is; a detached one takes none along when it leaves.
    pub(super) fn join(&self, id: OperationId, detached: bool) -> Option<i64> {
        let mut live = self.live();
        let entry = live.get_mut(&id)?;
        if detached {
            entry.is_detached = true;
            return None;
        }
        entry.callers += 1;
        Some(entry.run)
    }

    /// Has a caller leave a run. Returns whether it is to be cancelled.
    pub(super) fn leave(&self, id: OperationId, run: i64) -> bool {
        let mut live = self.live();
        let Some(entry) = live.get_mut(&id).filter(|entry| entry.run == run) else { return false };
        entry.callers = entry.callers.saturating_sub(1);
        entry.callers == 0 && !entry.is_detached
    }

    /// Whether a run is here.
    pub(super) fn has(&self, id: OperationId, run: i64) -> bool {
        self.live().get(&id).is_some_and(|entry| entry.run == run)
    }

    /// Lets no progress be published any more, and returns what it is: whoever cancels writes it into
    /// the row, and a counter never goes back.
    fn freeze(&self, id: OperationId) -> Option<Progress> {
        let mut live = self.live();
        let entry = live.get_mut(&id)?;
        entry.is_frozen = true;
        Some(entry.latest.borrow().progress.clone())
    }

    /// Goes on with what could not be cancelled.
    fn thaw(&self, id: OperationId) {
        if let Some(entry) = self.live().get_mut(&id) {
            entry.is_frozen = false;
        }
    }

    /// Publishes the latest state of a run; the last one leaves the hub. A run that has left it says
    /// nothing any more.
    pub(super) fn publish(&self, run: i64, operation: &Operation) {
        let mut live = self.live();
        let Some(entry) = live.get(&operation.id).filter(|entry| entry.run == run) else { return };
        if entry.is_frozen && !operation.state.is_final() {
            return;
        }
        entry.latest.send_replace(operation.clone());
        if operation.state.is_final() {
            live.remove(&operation.id);
        }
        drop(live);
        self.announce(operation);
    }

    /// Ends a run that was cancelled in its row, whether it is in the hub or another server's.
    fn end(&self, run: i64, operation: &Operation) {
        let mut live = self.live();
        match live.get(&operation.id) {
            // It runs again already.
            Some(entry) if entry.run != run => return,
            Some(entry) => {
                entry.cancel.cancel();
                entry.latest.send_replace(operation.clone());
                live.remove(&operation.id);
            }
            None => {}
        }
        drop(live);
        self.announce(operation);
    }

    /// Tells the watchers of all operations.
    pub(super) fn announce(&self, operation: &Operation) {
        // Without watchers there is nobody to tell.
        drop(self.changes.send(operation.clone()));
    }

    fn follow(&self, id: OperationId) -> Option<watch::Receiver<Operation>> {
        self.live().get(&id).map(|live| live.latest.subscribe())
    }

    fn latest(&self, id: OperationId) -> Option<Operation> {
        self.live().get(&id).map(|live| live.latest.borrow().clone())
    }

    fn running(&self) -> Vec<Operation> {
        self.live().values().map(|live| live.latest.borrow().clone()).collect()
    }
}

impl Store {
    /// Returns an operation.
    ///
    /// # Errors
    /// `OperationNotFound`.
    pub async fn operation(&self, id: OperationId, call: Call) -> Result<Operation> {
        if let Some(operation) = self.0.hub.latest(id) {
            return Ok(operation);
        }
        self.0.engine.read(call.deadline, move |tx| operation::get(tx, id)).await
    }

    /// Lists operations, the newest first; running ones with their latest progress.
    ///
    /// # Errors
    /// `InvalidArgument` for a token that no page gave.
    pub async fn operations(
        &self,
        state: Option<OperationState>,
        size: usize,
        token: String,
        call: Call,
    ) -> Result<Page<Operation>> {
        let mut page = self
            .0
            .engine
            .read(call.deadline, move |tx| operation::list(tx, state, size, &token))
            .await?;
        for operation in page.items.iter_mut().filter(|operation| !operation.state.is_final()) {
            if let Some(latest) = self.0.hub.latest(operation.id) {
                operation.progress = latest.progress;
                operation.updated = latest.updated;
            }
        }
        Ok(page)
    }

    /// Follows an operation: its state now, then its changes.
    ///
    /// # Errors
    /// `OperationNotFound`, `Busy` if there are too many watchers.
    pub async fn watch(&self, id: OperationId, call: Call) -> Result<Updates> {
        let turn = self.0.watchers.take().await?;
        Ok(Updates { _turn: Some(turn), ..self.follow(id, call).await? })
    }

    /// Follows an operation for the caller that asked for it, who is no watcher beside.
    pub(super) async fn follow(&self, id: OperationId, call: Call) -> Result<Updates> {
        let source = match self.0.hub.follow(id) {
            Some(mut updates) => {
                updates.mark_changed();
                Source::Hub(updates)
            }
            None => Source::Row(Some(Box::new(self.operation(id, call).await?))),
        };
        Ok(Updates { store: self.clone(), id, source, _turn: None })
    }

    /// Follows all operations: those that run, then every change.
    ///
    /// # Errors
    /// `Busy` if there are too many watchers.
    pub async fn watch_all(&self) -> Result<AllUpdates> {
        let turn = self.0.watchers.take().await?;
        let changes = self.0.hub.changes.subscribe();
        let pending = self.0.hub.running();
        Ok(AllUpdates { store: self.clone(), pending, changes, _turn: turn })
    }

    /// Cancels a running operation; the row decides who was first.
    ///
    /// # Errors
    /// `Finished` if it has ended, `OperationNotFound`.
    pub async fn cancel(&self, id: OperationId, why: Error, call: Call) -> Result<Operation> {
        self.cancel_run(id, None, why, call).await
    }

    /// The same, but only if it is still this run of it.
    pub(super) async fn cancel_run(
        &self,
        id: OperationId,
        only: Option<i64>,
        why: Error,
        call: Call,
    ) -> Result<Operation> {
        let error = OperationError::from(&why);
        let store = self.clone();
        let cancel = move |tx: &mut Tx<'_>| {
            let progress = store.0.hub.freeze(id);
            operation::cancel(tx, id, only, progress.as_ref(), &error)
        };
        let cancelled = self.0.engine.write(call.deadline, cancel).await;
        let (cancelled, run) = cancelled.inspect_err(|_| self.0.hub.thaw(id))?;
        self.0.hub.end(run, &cancelled);
        Ok(cancelled)
    }

    /// Cancels everything that runs here, for a stop.
    pub(super) async fn cancel_all(&self) {
        for operation in self.0.hub.running() {
            let why = Error::new(Kind::Cancelled, "the server stopped while the operation ran");
            if let Err(error) = self.cancel(operation.id, why, Call::default()).await
                && error.kind() != Kind::Finished
            {
                tracing::warn!(id = %operation.id, %error, "an operation cannot be cancelled");
            }
        }
    }
}

/// The changes of one operation.
#[derive(Debug)]
pub struct Updates {
    store: Store,
    id: OperationId,
    source: Source,
    _turn: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Source {
    Hub(watch::Receiver<Operation>),
    Row(Option<Box<Operation>>),
    End,
}

impl Updates {
    /// The next state; nothing after the last. A caller that is slow gets the latest.
    ///
    /// # Errors
    /// Those of reading the row.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        loop {
            match &mut self.source {
                Source::End => return Ok(None),
                Source::Hub(updates) => {
                    if updates.changed().await.is_ok() {
                        let operation = updates.borrow_and_update().clone();
                        return Ok(Some(self.seen(operation)));
                    }
                    self.source = Source::Row(None);
                }
                Source::Row(first) => {
                    if let Some(operation) = first.take() {
                        return Ok(Some(self.seen(*operation)));
                    }
                    if let Some(updates) = self.store.0.hub.follow(self.id) {
                        self.source = Source::Hub(updates);
                        continue;
                    }
                    // Another server runs it, or it is just about to enter the hub.
                    tokio::time::sleep(PROGRESS_EVERY).await;
                    let operation = self.store.operation(self.id, Call::default()).await?;
                    return Ok(Some(self.seen(operation)));
                }
            }
        }
    }

    fn seen(&mut self, operation: Operation) -> Operation {
        if operation.state.is_final() {
            self.source = Source::End;
        }
        operation
    }
}

/// The changes of all operations.
#[derive(Debug)]
pub struct AllUpdates {
    store: Store,
    pending: Vec<Operation>,
    changes: broadcast::Receiver<Operation>,
    _turn: OwnedSemaphorePermit,
}

impl AllUpdates {
    /// The next change; nothing when the store drains. A caller that lags is told anew what runs.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Operation> {
        loop {
            if let Some(operation) = self.pending.pop() {
                return Some(operation);
            }
            let change = tokio::select! {
                // What has been told comes before the end.
                biased;
                change = self.changes.recv() => change,
                () = self.store.0.draining.cancelled() => return None,
            };
            match change {
                Ok(operation) => return Some(operation),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.pending = self.store.0.hub.running();
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
