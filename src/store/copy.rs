//! The public calls of a copy. Each copy runs in a task of its own, [`task`], and callers attach to it.

mod task;

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    model::{CopyRequest, Operation, OperationId, OperationState},
    store::{
        Call, Store, Updates,
        run::{Caller, State, undecided},
        runs::{Attached, Load},
    },
};

/// The handle by which a caller follows a copy.
///
/// Dropping the last handle of a running copy cancels the copy, unless a caller requested it detached.
#[derive(Debug)]
pub struct Copying {
    store: Store,
    id: OperationId,
    follows: Follows,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Follows {
    /// A run of this server, and its first state until that is returned.
    Run(Caller, Option<State>),
    /// The row of an operation that no run of this server has.
    Row(Box<Updates>),
    /// The last state was returned.
    Ended,
}

impl Store {
    /// Begins a copy, which may be done in its first transaction. If the operation of the request runs already,
    /// attaches to it.
    ///
    /// # Errors
    /// Those of the request; nothing has changed then. Later failures are returned by [`Copying::next`].
    ///
    /// # Cancel safety
    /// Can be dropped. If the first transaction has not begun, nothing happens; otherwise the copy is cancelled,
    /// unless it is detached or has other callers.
    pub async fn copy(&self, request: CopyRequest, detached: bool, call: &Call) -> Result<Copying> {
        let (id, deadline) = (request.id, call.deadline());
        // A copy whose deadline has passed does not begin.
        call.check()?;
        let request = Arc::new(request);
        let mut caller = self.attach(&request, detached, call).await?;
        let first = caller.changed().await?;
        if let State::Refused(error) = first {
            return Err(error);
        }
        let follows = Follows::Run(caller, Some(first));
        Ok(Copying { store: self.clone(), id, follows, deadline })
    }

    /// Attaches to the run of a copy, and starts the task of a new run.
    async fn attach(
        &self,
        request: &Arc<CopyRequest>,
        detached: bool,
        call: &Call,
    ) -> Result<Caller> {
        let skip = &request.skip_files;
        let is_long = request.verify || !skip.is_empty();
        let load = Load { is_long, skip_bytes: skip.bytes_held() };
        let key = (&**request, request.fingerprint());
        loop {
            match self.0.runs.attach(key, load, (detached, call))? {
                Attached::New(run, caller) => {
                    self.spawn(task::own(self.clone(), run, Arc::clone(request)));
                    return Ok(caller);
                }
                Attached::Joined(caller) => return Ok(caller),
                // The run is being cancelled. When it has ended, a new one begins.
                Attached::Ending(mut state) => {
                    let ended = state.wait_for(State::is_over);
                    match call.deadline() {
                        None => ended.await.map(drop),
                        Some(deadline) => tokio::time::timeout_at(deadline, ended)
                            .await
                            .map_err(|_| undecided(request.id))?
                            .map(drop),
                    }
                    .map_err(Error::internal)?;
                }
            }
        }
    }
}

impl Copying {
    /// The next state; the last one is `Succeeded`, and `None` follows.
    ///
    /// # Errors
    /// The error with which the copy failed or was cancelled; nothing has changed then. `Timeout` if the deadline
    /// passes before the final transaction has begun.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Operation>> {
        let operation = match &mut self.follows {
            Follows::Ended => return Ok(None),
            Follows::Row(updates) => match self.deadline {
                None => updates.next().await?,
                Some(deadline) => tokio::time::timeout_at(deadline, updates.next())
                    .await
                    .map_err(|_| undecided(updates.id()))??,
            },
            Follows::Run(caller, first) => {
                let state = match first.take() {
                    Some(state) => state,
                    None => caller.changed().await?,
                };
                match state {
                    State::Known(operation) => Some(*operation),
                    State::Refused(error) => {
                        self.follows = Follows::Ended;
                        return Err(error);
                    }
                    State::Starting | State::Elsewhere => {
                        let updates = Updates::of_row(&self.store, self.id);
                        self.follows = Follows::Row(Box::new(updates));
                        return Box::pin(self.next()).await;
                    }
                }
            }
        };
        let Some(operation) = operation else {
            self.follows = Follows::Ended;
            return Ok(None);
        };
        match operation.state {
            OperationState::Running => Ok(Some(operation)),
            OperationState::Succeeded => {
                self.follows = Follows::Ended;
                Ok(Some(operation))
            }
            OperationState::Failed | OperationState::Cancelled => {
                self.follows = Follows::Ended;
                let why = operation.error.map_or_else(
                    || Error::internal("an operation failed without a reason"),
                    Error::from,
                );
                Err(why)
            }
        }
    }
}
