//! Lookup and cancellation of operations. The state is read from the row; the progress of an operation that runs
//! on this server comes from its run.

use tokio::sync::watch;

use crate::{
    access::Role,
    error::{Error, Kind, Result},
    limits::CANCEL_TIME,
    model::{Operation, OperationError, OperationId, OperationState, Page, StorePath},
    namespace::{operation, sql::Tx},
    store::{Call, Store, run::State, runs::in_doubt},
};

impl Store {
    /// Returns an operation; a running one with its latest progress. One whose paths the caller may not read is
    /// unknown to the caller.
    ///
    /// # Errors
    /// `OperationNotFound`, `Timeout`.
    pub async fn operation(&self, id: OperationId, call: &Call) -> Result<Operation> {
        let mut operation =
            self.0.engine.read(call.deadline(), move |tx| operation::get(tx, id)).await?;
        self.add_progress(&mut operation);
        if call.may_see(&operation) { Ok(operation) } else { Err(operation::unknown(id)) }
    }

    /// A page of operations, the newest first, without those that the caller may not see; running ones with their
    /// latest progress. Also returns the number of
    /// the last change of any operation when the page was read.
    ///
    /// # Errors
    /// `InvalidArgument` for a malformed token, `Timeout`, `Busy` if too many listings wait.
    pub async fn operations(
        &self,
        state: Option<OperationState>,
        size: usize,
        token: String,
        call: &Call,
    ) -> Result<(Page<Operation>, i64)> {
        let list = move |tx: &mut Tx<'_>| operation::list(tx, state, size, &token);
        let (mut page, change) = self.read_listing(call, list).await?;
        page.items.retain(|operation| call.may_see(operation));
        page.items.iter_mut().for_each(|operation| self.add_progress(operation));
        Ok((page, change))
    }

    /// Replaces a running operation, as read from its row, by its latest progress, unless its state has changed.
    pub(super) fn add_progress(&self, operation: &mut Operation) {
        if operation.state.is_final() {
            return;
        }
        if let Some(latest) = self.0.runs.latest(operation.id)
            && latest.change == operation.change
        {
            *operation = latest;
        }
    }

    /// Cancels a running operation, and returns it when it has ended. The cancellation continues if the caller leaves
    /// or its deadline passes.
    ///
    /// # Errors
    /// `Forbidden` if the caller may see it, but may not write its destination; `Finished` if it has ended or ends first, `OperationNotFound`, `Timeout`, `Busy` if it is not
    /// known yet whether the operation has begun.
    pub async fn cancel(&self, id: OperationId, why: Error, call: &Call) -> Result<Operation> {
        self.check_cancel(id, call).await?;
        loop {
            let Some(mut states) = self.0.runs.cancel(id, why.clone()) else {
                match self.cancel_row(id, &why, call).await? {
                    Some(cancelled) => return Ok(cancelled),
                    // A run of this server has begun meanwhile.
                    None => continue,
                }
            };
            let state = outcome(&mut states, call).await?;
            return match state {
                State::Known(operation) if operation.state == OperationState::Cancelled => {
                    Ok(*operation)
                }
                State::Known(_) => Err(operation::finished(id)),
                State::Refused(_) if self.0.runs.has(id) => Err(in_doubt(id)),
                State::Starting | State::Refused(_) => Err(operation::unknown(id)),
                State::Elsewhere => continue,
            };
        }
    }

    /// Checks that the caller may cancel an operation.
    async fn check_cancel(&self, id: OperationId, call: &Call) -> Result<()> {
        // The row of a run may not be written yet.
        let ([source, destination], starter) = if let Some(run) = self.0.runs.get(id) {
            (run.ends.clone().map(Some), run.credential().to_owned())
        } else {
            let read = move |tx: &mut Tx<'_>| operation::get(tx, id);
            let operation = self.0.engine.read(call.deadline(), read).await?;
            (operation.ends().map(<Option<&_>>::cloned), operation.credential)
        };
        call.note_paths(source.iter().chain(&destination));
        let root = StorePath::root();
        if call.caller().has_started(&starter) || call.may(Role::Admin, &root) {
            return Ok(());
        }
        if !source.iter().chain(&destination).all(|path| call.may(Role::Reader, path)) {
            return Err(operation::unknown(id));
        }
        call.require(Role::Writer, destination.as_ref().or(source.as_ref()).unwrap_or(&root))
    }

    /// Cancels an operation that no run of this server has. `None` if a run has begun meanwhile.
    async fn cancel_row(
        &self,
        id: OperationId,
        why: &Error,
        call: &Call,
    ) -> Result<Option<Operation>> {
        let (error, store) = (OperationError::from(why), self.clone());
        let recorder = self.clone();
        let cancel = move |tx: &mut Tx<'_>| {
            // A run is in the registry before its row is written.
            if store.0.runs.has(id) {
                return Ok(None);
            }
            operation::cancel(tx, id, &error).map(Some)
        };
        let record = move |cancelled: &Option<Operation>| {
            if let Some(operation) = cancelled {
                recorder.0.runs.record(operation);
            }
        };
        self.0.engine.write_and(call.deadline(), cancel, record).await
    }

    /// Cancels all runs of this server for a stop, and waits for their end for at most [`CANCEL_TIME`].
    pub(super) async fn cancel_all(&self) {
        let why = Error::new(Kind::Cancelled, "the server stopped while the operation ran");
        let mut running = self.0.runs.close(&why);
        let ended = async {
            for states in &mut running {
                // An error means that the run is gone, so it has ended.
                states.wait_for(State::is_over).await.ok();
            }
        };
        if tokio::time::timeout(CANCEL_TIME, ended).await.is_err() {
            tracing::warn!("operations are left to the next start, which fails them");
        }
    }
}

/// Waits for the last state of a run that is being cancelled.
async fn outcome(states: &mut watch::Receiver<State>, call: &Call) -> Result<State> {
    let over = states.wait_for(State::is_over);
    let over = match call.deadline() {
        None => over.await,
        Some(deadline) => tokio::time::timeout_at(deadline, over).await.map_err(|_| {
            let message =
                "the deadline passed while the operation is being cancelled; look at it again";
            Error::new(Kind::Timeout, message)
        })?,
    };
    over.map(|state| state.clone()).map_err(Error::internal)
}
