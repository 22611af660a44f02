//! Tracks whether a response waits for the server or for its client.
//!
//! Only hyper polls the body of a response, and it does not poll while the client has no window. So the body
//! records what it waits for, and whoever drives the call reads that: over HTTP/2 the task of the call, over
//! HTTP/1 the connection.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll},
};

use tokio::task_local;
use tracing::debug;

use crate::budget::Hold;

/// Whom an answer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// The server: it works, or waits for something to send.
    #[default]
    Server,
    /// The client: it was handed so many pieces, and none more was asked for.
    Client(u64),
}

#[derive(Debug, Default)]
struct Answer {
    waiting_for: Cell<WaitingFor>,
    /// What its call holds.
    holds: RefCell<Vec<Hold>>,
}

task_local! {
    static ANSWER: Answer;
}

/// Runs what drives calls.
pub(in crate::server) async fn scope<T>(work: impl Future<Output = T>) -> T {
    ANSWER.scope(Answer::default(), work).await
}

/// Notes what the call holds whose answer begins.
pub(super) fn begin_answer(holds: Vec<Hold>) {
    ANSWER.try_with(|answer| answer.holds.replace(holds)).ok();
}

/// Notes for whom the answer waits.
pub(super) fn set(waiting_for: WaitingFor) {
    ANSWER.try_with(|answer| answer.waiting_for.set(waiting_for)).ok();
}

/// For whom the answer waits.
pub(super) fn get() -> WaitingFor {
    ANSWER.try_with(|answer| answer.waiting_for.get()).unwrap_or_default()
}

/// Waits until others need what the call holds.
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
