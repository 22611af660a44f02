//! What goes out: the body of an answer, and the task that sends it over HTTP/2.
//!
//! An answer that is whole and large takes its bytes from a pool until its client has it, or is
//! refused.
//!
//! An HTTP/2 connection takes whatever it is handed and keeps it until its client makes room. So a
//! body is handed over in small pieces, and the task of a call whose client makes no room for the
//! next one is dropped, which resets that call and no other. Over HTTP/1 the connection itself
//! stands still then, which [`super::linger`] sees.

use std::{
    cell::Cell,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::rt::Executor;
use tokio::{
    sync::watch,
    task_local,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use super::pool::{Pool, Room};
use crate::{
    error,
    limits::{ANSWER_FREE_BYTES, ANSWER_PIECE_BYTES, ANSWER_POOL_BYTES},
};

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

/// What a body gives next.
type Next = Option<Result<Frame<Bytes>, axum::Error>>;

/// The body of an answer, in pieces.
pub(super) struct Outgoing {
    body: Body,
    /// The first frame, where it was there at once.
    first: Poll<Next>,
    rest: Bytes,
    /// What the first frame takes.
    room: Option<Room>,
    pieces: u64,
}

impl Outgoing {
    /// Cuts a body. A first frame of more than [`ANSWER_FREE_BYTES`]
    /// takes room: what is there as a whole is one. What takes its time has bounds of its own.
    ///
    /// # Errors
    /// `Busy` if there is no room.
    pub(super) fn new(mut body: Body, pool: &Pool) -> error::Result<Self> {
        let first = body.frame().now_or_never().map_or(Poll::Pending, Poll::Ready);
        let bytes = data_bytes(&first).min(ANSWER_POOL_BYTES);
        let room = (bytes > ANSWER_FREE_BYTES).then(|| pool.take(bytes)).transpose()?;
        Ok(Self { body, first, rest: Bytes::new(), room, pieces: 0 })
    }

    /// The bytes that have left the body and not this one.
    fn in_hand(&self) -> usize {
        self.rest.len() + data_bytes(&self.first)
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
        let mut next = mem::replace(&mut self.first, Poll::Pending);
        if next.is_pending() {
            self.room = None;
            next = Pin::new(&mut self.body).poll_frame(cx);
        }
        let frame = match ready!(next) {
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
        self.rest.is_empty()
            && match self.first {
                Poll::Ready(None) => true,
                Poll::Ready(Some(_)) => false,
                Poll::Pending => self.body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, in_hand) = (self.body.size_hint(), self.in_hand() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(in_hand));
        }
        hint.set_lower(hint.lower().saturating_add(in_hand));
        hint
    }
}

/// The bytes of data in what a body gives.
fn data_bytes(next: &Poll<Next>) -> usize {
    match next {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
        Poll::Ready(_) | Poll::Pending => 0,
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

    use super::*;
    use crate::{error::Kind, limits::MIB};

    const STALL: Duration = Duration::from_millis(50);

    fn body(bytes: usize) -> Outgoing {
        outgoing(Body::from(vec![7; bytes]))
    }

    fn outgoing(body: Body) -> Outgoing {
        Outgoing::new(body, &Pool::new("tests", MIB)).expect("room for it")
    }

    #[tokio::test]
    async fn an_answer_without_a_body_ends_with_its_head() {
        assert!(outgoing(Body::empty()).is_end_stream());
        assert!(
            outgoing(Body::from_stream(stream::empty::<Result<Bytes, axum::Error>>()))
                .is_end_stream()
        );
        assert!(!outgoing(Body::from("a")).is_end_stream());
    }

    #[tokio::test]
    async fn a_large_answer_takes_room_until_its_last_piece_is_taken() {
        let pool = Pool::new("tests", MIB);
        let answer = |bytes| Outgoing::new(Body::from(vec![7; bytes]), &pool);
        let _small = answer(ANSWER_FREE_BYTES).expect("it needs no room");
        assert_eq!(pool.free(), MIB);
        let mut large = answer(MIB).expect("room for it");
        let error = answer(ANSWER_FREE_BYTES + 1).err().expect("no room");
        assert_eq!(error.kind(), Kind::Busy);
        let mut taken = 0;
        while let Some(piece) = large.frame().await {
            assert_eq!(pool.free(), 0);
            taken += piece.expect("a piece").into_data().expect("data").len();
        }
        assert_eq!((taken, pool.free()), (MIB, MIB));
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
        assert!(timeout(STALL * 3, run(outgoing(silent()), 1)).await.is_err());
        let piece = stream::once(async { Ok::<_, axum::Error>(Bytes::from_static(b"a")) });
        let then = Body::from_stream(piece.chain(silent().into_data_stream()));
        assert!(timeout(STALL * 3, run(outgoing(then), 2)).await.is_err());
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
