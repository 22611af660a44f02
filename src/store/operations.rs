//! Lookup and cancellation of operations. The state is read from the row; the progress of an operation that runs
//! on this server comes from its run.

use tokio::sync::watch;

use crate::{
    error::{Error, Kind, Result},
    limits::DRAIN_TIME,
    model::{Operation, OperationError, OperationId, OperationState, Page},
    namespace::{operation, sql::Tx},
    store::{Call, Store, run::State, runs::unsettled},
};

impl Store {
    /// Returns an operation.
    ///
    /// # Errors
    /// `OperationNotFound`.
    pub async fn operation(&self, id: OperationId, call: Call) -> Result<Operation> {
        let mut operation =
            self.0.engine.read(call.deadline, move |tx| operation::get(tx, id)).await?;
        self.add_progress(&mut operation);
        Ok(operation)
    }

    /// Lists operations, the newest first; running ones with their latest progress. Also tells the number of
    /// the last change of any operation before that.
    ///
    /// # Errors
    /// `InvalidArgument` for a token that no page gave.
    pub async fn operations(
        &self,
        state: Option<OperationState>,
        size: usize,
        token: String,
        call: Call,
    ) -> Result<(Page<Operation>, i64)> {
        let _turn = self.listing_turn(call).await?;
        let list = move |tx: &mut Tx<'_>| operation::list(tx, state, size, &token);
        let (mut page, change) = self.0.engine.read(call.deadline, list).await?;
        page.items.iter_mut().for_each(|operation| self.add_progress(operation));
        Ok((page, change))
    }

    /// Adds the latest progress to what the row of a running operation says.
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

    /// Cancels a running operation and returns it when it is cancelled. Once this is called, the cancel
    /// goes on also where the caller leaves or its deadline passes.
    ///
    /// # Errors
    /// `Finished` if it has ended or ends first, `OperationNotFound`, `Timeout`.
    pub async fn cancel(&self, id: OperationId, why: Error, call: Call) -> Result<Operation> {
        loop {
            let Some(mut states) = self.0.runs.cancel(id, why.clone()) else {
                match self.cancel_row(id, &why, call).await? {
                    Some(cancelled) => return Ok(cancelled),
                    // It has just begun here.
                    None => continue,
                }
            };
            let state = outcome(&mut states, call).await?;
            return match state {
                State::Known(operation) if operation.state == OperationState::Cancelled => {
                    Ok(*operation)
                }
                State::Known(_) => Err(operation::finished(id)),
                State::Refused(_) if self.0.runs.has(id) => Err(unsettled(id)),
                State::Starting | State::Refused(_) => Err(operation::unknown(id)),
                State::Elsewhere => continue,
            };
        }
    }

    /// Cancels an operation that no task of this server runs. `None`: one does by now.
    async fn cancel_row(
        &self,
        id: OperationId,
        why: &Error,
        call: Call,
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
        self.0.engine.write_and(call.deadline, cancel, record).await
    }

    /// Cancels everything that runs here, for a stop, and waits for it up to [`DRAIN_TIME`].
    pub(super) async fn cancel_all(&self) {
        let why = Error::new(Kind::Cancelled, "the server stopped while the operation ran");
        let mut running = self.0.runs.close(&why);
        let ended = async {
            for states in &mut running {
                // One that is gone has ended.
                states.wait_for(State::is_over).await.ok();
            }
        };
        if tokio::time::timeout(DRAIN_TIME, ended).await.is_err() {
            tracing::warn!("operations are left to the next start, which fails them");
        }
    }
}

/// Waits until a run that is cancelled is over.
async fn outcome(states: &mut watch::Receiver<State>, call: Call) -> Result<State> {
    let over = states.wait_for(State::is_over);
    let over = match call.deadline {
        None => over.await,
        Some(deadline) => tokio::time::timeout_at(deadline, over).await.map_err(|_| {
            let message =
                "the deadline passed while the operation is being cancelled; look at it again";
            Error::new(Kind::Timeout, message)
        })?,
    };
    over.map(|state| state.clone()).map_err(Error::internal)
}
