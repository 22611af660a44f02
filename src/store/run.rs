//! One run of an operation, as those who asked for it and the task that owns it share it.
//!
//! Whoever changes it does so under its lock and wakes the task; see [`super::runs`].

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
    budget::{Budget, Peer, Permit},
    error::{Error, Kind, Result},
    model::{Digest, Operation, OperationId},
};

/// What is known of a run.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Its first transaction has no verdict yet.
    Starting,
    /// Its operation, as it is now.
    Known(Box<Operation>),
    /// It did not begin, and why.
    Refused(Error),
    /// Another server runs it.
    Elsewhere,
}

impl State {
    /// Whether nothing changes any more.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Starting => false,
            Self::Known(operation) => operation.state.is_final(),
            Self::Refused(_) | Self::Elsewhere => true,
        }
    }
}

/// Those who asked for a run, and what they ask of it.
#[derive(Debug, Default)]
struct Callers {
    deadlines: HashMap<u64, Option<Instant>>,
    next: u64,
    /// Whether it goes on without any of them.
    is_detached: bool,
    /// Why it is to end.
    cancelled: Option<Error>,
}

impl Callers {
    /// Has the run end, unless an earlier reason is there.
    fn cancel(&mut self, why: Error) {
        self.cancelled.get_or_insert(why);
    }

    /// When the last caller's time is over. `None`: never.
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

/// An operation that runs here.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: OperationId,
    /// The digest of what was asked for.
    pub(super) fingerprint: Digest,
    /// Who asked for it first: whose share its work is of.
    pub(super) peer: Peer,
    /// Written by the registry alone.
    pub(super) state: watch::Sender<State>,
    callers: Mutex<Callers>,
    /// Wakes the task when the callers have changed.
    changed: Notify,
    cancel: CancellationToken,
}

impl Run {
    /// Makes a run whose first transaction has no verdict yet.
    pub(super) fn new(id: OperationId, fingerprint: Digest, peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            id,
            fingerprint,
            peer,
            state: watch::Sender::new(State::Starting),
            callers: Mutex::default(),
            changed: Notify::new(),
            cancel: CancellationToken::new(),
        })
    }

    /// Whether the verdict of its first transaction is lost.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(*self.state.borrow(), State::Refused(_))
    }

    /// Has a caller attach. `None`: the run is about to end.
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

    /// Has the run end, for this reason if it is the first.
    pub(super) fn cancel(&self, why: Error) {
        self.callers().cancel(why);
        self.cancel.cancel();
    }

    /// Takes a caller away. The last one takes the run along, for this reason, unless it is detached.
    /// Returns whether the run ends.
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

    /// Waits for a turn, or until the run is to end.
    pub(super) async fn turn(&self, turns: &Budget) -> Result<Permit> {
        tokio::select! {
            turn = turns.acquire(self.peer, 1) => turn,
            error = self.cancelled() => Err(error),
        }
    }

    /// Resolves with the reason when the run is to end.
    pub(super) async fn cancelled(&self) -> Error {
        self.cancel.cancelled().await;
        self.why()
    }

    /// Fails with the reason if the run is to end. A transaction that has waited asks this when it begins.
    pub(super) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(self.why()) } else { Ok(()) }
    }

    /// Why the run is to end; a reason is there when [`Run::token`] is cancelled.
    pub(super) fn why(&self) -> Error {
        let why = self.callers().cancelled.clone();
        why.unwrap_or_else(|| Error::new(Kind::Cancelled, "the operation was cancelled"))
    }

    /// What is cancelled when the run is to end.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Ends the run when the time of its last caller is over. Never returns.
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
                    // One may have come meanwhile, and none may come between the look and the cancel.
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

/// The error for a caller whose time is over before the end of a run that is not his is known.
pub(super) fn undecided(id: OperationId) -> Error {
    Error::new(
        Kind::Timeout,
        format!("the deadline passed; look whether the operation {id} has ended"),
    )
}

/// The error for a caller who left.
fn caller_disconnected() -> Error {
    Error::new(Kind::Cancelled, "the caller left; nothing has changed")
}

/// One who asked for a run. Dropping the last one cancels it, unless it is detached.
#[derive(Debug)]
pub(super) struct Caller {
    run: Arc<Run>,
    /// `None`: it takes nothing along when it leaves.
    number: Option<u64>,
    deadline: Option<Instant>,
    state: watch::Receiver<State>,
}

impl Caller {
    /// The state now, and later each one that is new.
    ///
    /// # Errors
    /// `Timeout` where the deadline passed and the run goes on for others.
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

    /// Leaves because of the deadline. If that ends the run, its verdict is the answer.
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
