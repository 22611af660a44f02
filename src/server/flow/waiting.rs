//! Tracks whether a response waits for the server or for its client.
//!
//! Only hyper polls the body of a response, and it does not poll while the client's window is closed. So the body
//! records in a task-local variable what it waits for, and the task that drives the call reads the variable: over
//! HTTP/2 the task of the call, over HTTP/1 the task of the connection.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll},
};

use tokio::task_local;
use tracing::debug;

use crate::budget::PermitHandle;

/// The side that a response waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// The server: the next piece is not ready.
    #[default]
    Server,
    /// The client: hyper has taken this many pieces and has not polled for the next one.
    Client(u64),
}

#[derive(Debug, Default)]
struct Answer {
    waiting_for: Cell<WaitingFor>,
    /// The permits of its call.
    holds: RefCell<Vec<PermitHandle>>,
}

task_local! {
    static ANSWER: Answer;
}

/// Runs the future that drives a call or a connection, with a variable for its response.
pub(in crate::server) async fn scope<T>(work: impl Future<Output = T>) -> T {
    ANSWER.scope(Answer::default(), work).await
}

/// Records the permits of the call whose response begins.
pub(super) fn begin_answer(holds: Vec<PermitHandle>) {
    ANSWER.try_with(|answer| answer.holds.replace(holds)).ok();
}

/// Records the side that the response waits for.
pub(super) fn set(waiting_for: WaitingFor) {
    ANSWER.try_with(|answer| answer.waiting_for.set(waiting_for)).ok();
}

/// The side that the response waits for.
pub(super) fn get() -> WaitingFor {
    ANSWER.try_with(|answer| answer.waiting_for.get()).unwrap_or_default()
}

/// Waits until a permit of the call is revoked.
pub(super) fn poll_revoked(cx: &mut Context<'_>) -> Poll<()> {
    let poll = |answer: &Answer| {
        let mut holds = answer.holds.borrow_mut();
        let error = holds.iter_mut().find_map(|hold| match hold.poll_revoked(cx) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        });
        error.map_or(Poll::Pending, |error| {
            debug!(%error, "an answer is cut");
            Poll::Ready(())
        })
    };
    ANSWER.try_with(poll).unwrap_or(Poll::Pending)
}
