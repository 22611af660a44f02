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

/// A copy as its caller follows it.
///
/// Dropping the last one of a copy that runs cancels it, unless a caller asked for it detached.
#[derive(Debug)]
pub struct Copying {
    store: Store,
    id: OperationId,
    follows: Follows,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Follows {
    /// A run of this server; what came first is not told yet.
    Run(Caller, Option<State>),
    /// The row of another server's.
    Row(Box<Updates>),
    /// Nothing comes any more.
    Ended,
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
    /// unless it is detached or others asked for it, too.
    pub async fn copy(&self, request: CopyRequest, detached: bool, call: Call) -> Result<Copying> {
        let (id, deadline) = (request.id, call.deadline);
        // What comes too late does not begin.
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

    /// Attaches to the run of a copy, and starts its task where it is new.
    async fn attach(
        &self,
        request: &Arc<CopyRequest>,
        detached: bool,
        call: Call,
    ) -> Result<Caller> {
        let skip = &request.skip_files;
        let is_long = request.verify || !skip.is_empty();
        let load = Load { is_long, skip_bytes: skip.bytes_held() };
        let key = (request.id, request.fingerprint());
        loop {
            match self.0.runs.attach(key, load, (detached, call))? {
                Attached::New(run, caller) => {
                    self.spawn(task::own(self.clone(), run, Arc::clone(request)));
                    return Ok(caller);
                }
                Attached::Joined(caller) => return Ok(caller),
                // It was cancelled, and runs again when that is done.
                Attached::Ending(mut state) => {
                    let ended = state.wait_for(State::is_over);
                    match call.deadline {
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
    /// The next state; the last one has succeeded. Nothing after it.
    ///
    /// # Errors
    /// Why the copy failed or was cancelled; nothing has changed then. `Timeout` if the deadline
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
