//! What goes out: the body of an answer, and the task that sends it over HTTP/2.
//!
//! An HTTP/2 connection takes whatever it is handed and keeps it until its client makes room. So a
//! body is handed over in small pieces, and the task of a call whose client makes no room for the
//! next one is dropped, which resets that call and no other. Over HTTP/1 the connection itself
//! stands still then, which [`super::linger`] sees.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task_local,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use crate::limits::ANSWER_PIECE_BYTES;

/// Whose turn it is in the task of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The server's: it works, or waits for something to send.
    Ours,
    /// The client's: it was handed so many pieces, and none more was asked for.
    Theirs(u64),
}

task_local! {
    static TURN: Cell<Turn>;
}

/// The body of an answer, in pieces. The call counts as one until it is dropped.
pub(super) struct Outgoing {
    body: Body,
    rest: Bytes,
    pieces: u64,
    _call: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// Cuts a body, and keeps the place of its call.
    pub(super) fn new(body: Body, call: Option<OwnedSemaphorePermit>) -> Self {
        Self { body, rest: Bytes::new(), pieces: 0, _call: call }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(ANSWER_PIECE_BYTES));
        self.pieces += 1;
        // HTTP/1 has no task of its own.
        TURN.try_with(|turn| turn.set(Turn::Theirs(self.pieces))).ok();
        Frame::data(piece)
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        TURN.try_with(|turn| turn.set(Turn::Ours)).ok();
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

/// How many calls run, and how many have begun so far: a short one is seen by the second alone.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    running: usize,
    begun: u64,
}

/// Runs the calls of one HTTP/2 connection, each in a task, and counts them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    count: Arc<watch::Sender<Count>>,
    stall: Duration,
}

impl Calls {
    /// Gives a call up whose client takes nothing for `stall`.
    pub(super) fn new(stall: Duration) -> Self {
        Self { count: Arc::default(), stall }
    }

    /// Waits until the last call was so long ago. Never, where none has come.
    pub(super) async fn idle(&self, time: Duration) {
        let mut count = self.count.subscribe();
        loop {
            let quiet = count.wait_for(|count| count.begun > 0 && count.running == 0).await;
            // The sender is here, so there is always a next state.
            let Ok(begun) = quiet.map(|count| count.begun) else { return };
            if timeout(time, count.wait_for(|count| count.begun > begun)).await.is_err() {
                return;
            }
        }
    }
}

/// Counts a call that runs.
struct Running(Arc<watch::Sender<Count>>);

impl Running {
    fn new(count: &Arc<watch::Sender<Count>>) -> Self {
        count.send_modify(|count| {
            count.running += 1;
            count.begun += 1;
        });
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.running -= 1);
    }
}

impl<F> Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let (running, stall) = (Running::new(&self.count), self.stall);
        // Detached: it ends when its connection does, which drops what it waits for.
        tokio::spawn(TURN.scope(Cell::new(Turn::Ours), async move {
            let _running = running;
            until_stalled(call, stall).await;
        }));
    }
}

/// Runs a call to its end, or until its client has taken nothing for so long.
async fn until_stalled(call: impl Future<Output = ()>, stall: Duration) {
    let mut call = pin!(call);
    let mut timer = pin!(sleep(stall));
    let mut seen = Turn::Ours;
    poll_fn(|cx| {
        if call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let turn = TURN.with(Cell::get);
        if turn != seen {
            seen = turn;
            timer.as_mut().reset(Instant::now() + stall);
        }
        if turn == Turn::Ours || timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        debug!("a client took nothing of an answer for too long");
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::*;

    const STALL: Duration = Duration::from_millis(50);

    fn body(bytes: usize) -> Outgoing {
        Outgoing::new(Body::from(vec![7; bytes]), None)
    }

    #[tokio::test]
    async fn a_body_goes_out_in_pieces_and_whole() {
        let mut body = body(3 * ANSWER_PIECE_BYTES + 1);
        let mut left = 3 * ANSWER_PIECE_BYTES + 1;
        while left > 0 {
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert!(!body.is_end_stream());
            let piece = body.frame().await.expect("a frame").expect("a piece").into_data();
            let piece = piece.expect("data");
            assert!((1..=ANSWER_PIECE_BYTES).contains(&piece.len()), "{}", piece.len());
            left -= piece.len();
        }
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }

    /// Runs a call that takes so many pieces of a body and then waits for ever.
    async fn run(mut body: Outgoing, pieces: usize) {
        let call = async move {
            for _ in 0..pieces {
                body.frame().await;
            }
            std::future::pending::<()>().await;
        };
        TURN.scope(Cell::new(Turn::Ours), until_stalled(call, STALL)).await;
    }

    #[tokio::test]
    async fn a_call_whose_client_takes_nothing_is_given_up() {
        for pieces in [1, 2, 3] {
            let begun = Instant::now();
            run(body(3 * ANSWER_PIECE_BYTES), pieces).await;
            assert!(begun.elapsed() >= STALL);
        }
    }

    #[tokio::test]
    async fn a_call_that_waits_for_the_server_does_so_without_end() {
        let silent = || Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        assert!(timeout(STALL * 3, run(Outgoing::new(silent(), None), 1)).await.is_err());
        let piece = stream::once(async { Ok::<_, axum::Error>(Bytes::from_static(b"a")) });
        let then = Body::from_stream(piece.chain(silent().into_data_stream()));
        assert!(timeout(STALL * 3, run(Outgoing::new(then, None), 2)).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_is_idle_some_time_after_its_last_call() {
        let calls = Calls::new(STALL);
        let mut idle = Box::pin(calls.idle(STALL));
        assert!(timeout(STALL * 3, &mut idle).await.is_err(), "none has come");
        let call = Running::new(&calls.count);
        assert!(timeout(STALL * 3, &mut idle).await.is_err(), "one runs");
        drop(call);
        idle.await;
        // One that was over before anybody looked counts, too.
        let calls = Calls::new(STALL);
        drop(Running::new(&calls.count));
        calls.idle(STALL).await;
    }
}
