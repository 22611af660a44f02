//! The state of one run of an operation, shared by its callers and the task that owns it.
//!
//! Callers change the state under its lock and wake the task; see [`super::runs`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{self, Call},
    budget::{Budget, Peer, Permit},
    error::{Error, Kind, Result},
    model::{CopyRequest, Digest, Operation, OperationId, StorePath},
};

/// The state of a run, as its callers see it.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The outcome of its first transaction is not known yet.
    Starting,
    /// Its operation in the latest state.
    Known(Box<Operation>),
    /// It did not begin, because of this error.
    Refused(Error),
    /// Another server runs the operation.
    Elsewhere,
}

impl State {
    /// Whether the state is the last one.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Starting => false,
            Self::Known(operation) => operation.state.is_final(),
            Self::Refused(_) | Self::Elsewhere => true,
        }
    }
}

/// The callers of a run, and the cancellation of the run.
#[derive(Debug, Default)]
struct Callers {
    deadlines: HashMap<u64, Option<Instant>>,
    next: u64,
    /// Whether the run continues without any caller.
    is_detached: bool,
    /// The reason of its cancellation.
    cancelled: Option<Error>,
}

impl Callers {
    /// Sets the reason of the cancellation, unless there is an earlier one.
    fn cancel(&mut self, why: Error) {
        self.cancelled.get_or_insert(why);
    }

    /// The latest deadline of all callers, at which the run ends. `None`: never.
    fn deadline(&self) -> Option<Instant> {
        if self.is_detached || self.cancelled.is_some() {
            return None;
        }
        let mut last = None;
        for deadline in self.deadlines.values() {
            last = last.max(Some((*deadline)?));
        }
        last
    }
}

/// A run of an operation on this server.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: OperationId,
    /// The fingerprint of the request.
    pub(super) fingerprint: Digest,
    /// The source and the destination of the request.
    pub(super) ends: [StorePath; 2],
    /// Its first caller.
    pub(super) caller: access::Caller,
    /// The peer of its first caller, to whose share of the budgets the work counts.
    pub(super) peer: Peer,
    /// The state, which only the registry changes.
    pub(super) state: watch::Sender<State>,
    callers: Mutex<Callers>,
    /// Wakes the task when the callers have changed.
    changed: Notify,
    cancel: CancellationToken,
}

impl Run {
    /// Makes a run in the state [`State::Starting`].
    pub(super) fn new(request: &CopyRequest, fingerprint: Digest, call: &Call) -> Arc<Self> {
        Arc::new(Self {
            id: request.id,
            fingerprint,
            ends: [request.source.clone(), request.destination.clone()],
            caller: call.caller().clone(),
            peer: call.peer(),
            state: watch::Sender::new(State::Starting),
            callers: Mutex::default(),
            changed: Notify::new(),
            cancel: CancellationToken::new(),
        })
    }

    /// The credential of its first caller; empty for one without.
    pub(super) fn credential(&self) -> &str {
        self.caller.credential().unwrap_or_default()
    }

    /// Whether the outcome of its first transaction was lost. Only such a run is in the registry as refused.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(*self.state.borrow(), State::Refused(_))
    }

    /// Attaches a caller. `None` if the run is being cancelled.
    pub(super) fn attach(
        self: &Arc<Self>,
        is_detached: bool,
        deadline: Option<Instant>,
    ) -> Option<Caller> {
        let mut callers = self.callers();
        if callers.cancelled.is_some() {
            return None;
        }
        let number = if is_detached {
            callers.is_detached = true;
            None
        } else {
            callers.next += 1;
            let number = callers.next;
            callers.deadlines.insert(number, deadline);
            Some(number)
        };
        drop(callers);
        self.changed.notify_one();
        let mut state = self.state.subscribe();
        state.mark_changed();
        Some(Caller { run: Arc::clone(self), number, deadline, state })
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the run, for this reason unless there is an earlier one.
    pub(super) fn cancel(&self, why: Error) {
        self.callers().cancel(why);
        self.cancel.cancel();
    }

    /// Removes a caller. If it was the last one of a run that is not detached, cancels the run for this reason.
    /// Returns whether the run is cancelled.
    fn detach(&self, number: u64, why: Error) -> bool {
        let mut callers = self.callers();
        if callers.deadlines.remove(&number).is_none() {
            return false;
        }
        if callers.deadlines.is_empty() && !callers.is_detached {
            callers.cancel(why);
            self.cancel.cancel();
        }
        drop(callers);
        self.changed.notify_one();
        self.cancel.is_cancelled()
    }

    /// Acquires a permit, or fails when the run is cancelled.
    pub(super) async fn turn(&self, turns: &Budget) -> Result<Permit> {
        tokio::select! {
            turn = turns.acquire(self.peer, 1) => turn,
            error = self.cancelled() => Err(error),
        }
    }

    /// Resolves with the reason when the run is cancelled.
    pub(super) async fn cancelled(&self) -> Error {
        self.cancel.cancelled().await;
        self.why()
    }

    /// Fails with the reason if the run is cancelled. A transaction calls this at its beginning, after it was queued.
    pub(super) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(self.why()) } else { Ok(()) }
    }

    /// The reason of the cancellation, which is set before [`Run::token`] is cancelled.
    pub(super) fn why(&self) -> Error {
        let why = self.callers().cancelled.clone();
        why.unwrap_or_else(|| Error::new(Kind::Cancelled, "the operation was cancelled"))
    }

    /// The token that is cancelled with the run.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Cancels the run at the latest deadline of its callers. Never returns.
    pub(super) async fn keep_deadlines(&self) -> std::convert::Infallible {
        loop {
            let deadline = self.callers().deadline();
            let Some(deadline) = deadline else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    // Under the lock, so that no caller attaches between this check and the cancellation.
                    let mut callers = self.callers();
                    if callers.deadline().is_some_and(|last| last <= deadline) {
                        callers.cancel(Error::late());
                        self.cancel.cancel();
                    }
                }
            }
        }
    }
}

/// The error for a caller whose deadline passes before the end of an operation is known that it cannot cancel.
pub(super) fn undecided(id: OperationId) -> Error {
    Error::new(
        Kind::Timeout,
        format!("the deadline passed; look whether the operation {id} has ended"),
    )
}

/// The reason of a cancellation because the last caller left.
fn caller_disconnected() -> Error {
    Error::new(Kind::Cancelled, "the caller left; nothing has changed")
}

/// A caller of a run. Dropping the last caller cancels the run, unless it is detached.
#[derive(Debug)]
pub(super) struct Caller {
    run: Arc<Run>,
    /// Its number among the callers. `None`: it does not keep the run alive.
    number: Option<u64>,
    deadline: Option<Instant>,
    state: watch::Receiver<State>,
}

impl Caller {
    /// The current state first, and then each new one; a slow caller gets only the latest. Skips
    /// [`State::Starting`].
    ///
    /// # Errors
    /// `Timeout` if the deadline passes and the run continues for others.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn changed(&mut self) -> Result<State> {
        loop {
            let deadline = self.deadline;
            let passed = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.state.changed() => {
                    changed.map_err(Error::internal)?;
                    let state = self.state.borrow_and_update().clone();
                    if !matches!(state, State::Starting) {
                        return Ok(state);
                    }
                }
                () = passed => self.expire()?,
            }
        }
    }

    /// Detaches at the deadline. `Ok` if the run is cancelled: its last state is the result then.
    fn expire(&mut self) -> Result<()> {
        self.deadline = None;
        if self.run.cancel.is_cancelled() {
            return Ok(());
        }
        if self.number.take().is_some_and(|number| self.run.detach(number, Error::late())) {
            return Ok(());
        }
        let id = self.run.id;
        let message = if matches!(*self.run.state.borrow(), State::Starting) {
            format!("the deadline passed; look whether the operation {id} begins")
        } else {
            format!(
                "the deadline passed; the operation {id} goes on, detached or for other callers"
            )
        };
        Err(Error::new(Kind::Timeout, message))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.run.detach(number, caller_disconnected());
        }
    }
}
