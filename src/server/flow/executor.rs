//! The tasks that hyper spawns for the calls of an HTTP/2 connection, each with a stall timer.
//!
//! The timer runs while a piece of the response waits for the flow-control window of the client. When it expires,
//! or when the budget of the call is revoked, the task is dropped, which resets this stream and no other. Over
//! HTTP/1 a stalled response stalls the connection, which [`super::stream`] handles.
//!
//! hyper must poll a body for its next piece before it waits for capacity; otherwise a client that never opens its
//! window would count as one that waits for the server. hyper does so since 1.12.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use hyper::rt::Executor;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use super::waiting::{self, WaitingFor};

/// How many calls run, and how many have begun so far. The second number also counts calls that begin and end
/// between two looks at `running`.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    running: usize,
    begun: u64,
}

/// Runs the calls of one HTTP/2 connection, each in a task, and counts them.
#[derive(Clone, Debug)]
pub(in crate::server) struct StallExecutor {
    count: Arc<watch::Sender<Count>>,
    stall: Duration,
}

impl StallExecutor {
    /// Creates an executor that drops a call whose client takes nothing of the response for `stall`.
    pub(in crate::server) fn new(stall: Duration) -> Self {
        Self { count: Arc::default(), stall }
    }

    /// Waits until no call has run for `time`. Never resolves before the first call.
    pub(in crate::server) async fn idle(&self, time: Duration) {
        let mut count = self.count.subscribe();
        loop {
            let quiet = count.wait_for(|count| count.begun > 0 && count.running == 0).await;
            // Never an error: `self` holds the sender.
            let Ok(begun) = quiet.map(|count| count.begun) else { return };
            if timeout(time, count.wait_for(|count| count.begun > begun)).await.is_err() {
                return;
            }
        }
    }
}

/// Counts one call as running until it is dropped.
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

impl<F> Executor<F> for StallExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let (running, stall) = (Running::new(&self.count), self.stall);
        // Detached: when its connection ends, the call fails and the task ends.
        tokio::spawn(waiting::scope(async move {
            let _running = running;
            until_stalled(call, stall).await;
        }));
    }
}

/// Runs a call to its end, or until its client has taken nothing for `stall`, or a permit of the call is revoked
/// while the response waits for the client.
async fn until_stalled(call: impl Future<Output = ()>, stall: Duration) {
    let mut call = pin!(call);
    let mut timer = pin!(sleep(stall));
    let mut seen = WaitingFor::Server;
    poll_fn(|cx| {
        if call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let waiting_for = waiting::get();
        if waiting_for != seen {
            seen = waiting_for;
            timer.as_mut().reset(Instant::now() + stall);
        }
        if waiting_for == WaitingFor::Server {
            return Poll::Pending;
        }
        if timer.as_mut().poll(cx).is_ready() {
            debug!("a client took nothing of an answer for too long");
            return Poll::Ready(());
        }
        waiting::poll_revoked(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::{super::response_body::ResponseBody, *};
    use crate::{
        budget::{Budget, Peer},
        limits::{ANSWER_PIECE_BYTES, BUDGET_STALL, MIB},
    };

    const STALL: Duration = Duration::from_mins(1);

    fn answer(body: Body) -> ResponseBody {
        ResponseBody::new(body, (Peer::default(), None), &Budget::new("tests", MIB)).expect("room")
    }

    /// Runs a call that takes this many pieces of its response and then waits forever.
    async fn run(answer: impl FnOnce() -> ResponseBody, pieces: usize) {
        let call = async move {
            let mut body = answer();
            for _ in 0..pieces {
                body.frame().await;
            }
            std::future::pending::<()>().await;
        };
        waiting::scope(until_stalled(call, STALL)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_client_takes_nothing_is_given_up() {
        for pieces in [1, 2, 3] {
            let begun = Instant::now();
            run(|| answer(Body::from(vec![7; 3 * ANSWER_PIECE_BYTES])), pieces).await;
            assert_eq!(begun.elapsed(), STALL);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_for_the_server_does_so_without_end() {
        let silent = || Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
        assert!(timeout(STALL * 3, run(|| answer(silent()), 1)).await.is_err());
        let piece = stream::once(async { Ok::<_, axum::Error>(Bytes::from_static(b"a")) });
        let then = Body::from_stream(piece.chain(silent().into_data_stream()));
        assert!(timeout(STALL * 3, run(|| answer(then), 2)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_others_wait_for_is_given_up_while_it_stands_still() {
        let peer = |number| Peer::from(std::net::IpAddr::from([10, 0, 0, number]));
        let calls = Budget::new("calls", 8);
        let permits: Vec<_> =
            (0..7).map(|_| calls.try_acquire(peer(1), 1).expect("room")).collect();
        let hold = permits[0].hold().clone();
        let call = run(
            move || {
                let body = Body::from(vec![7; 2 * ANSWER_PIECE_BYTES]);
                let answers = Budget::new("tests", MIB);
                ResponseBody::new(body, (peer(1), Some(hold)), &answers).expect("room")
            },
            1,
        );
        let others = async {
            sleep(BUDGET_STALL).await;
            let begun = Instant::now();
            (calls.try_acquire(peer(2), 1).expect("of the reserve"), begun)
        };
        let ((), (_call, begun)) = tokio::join!(call, others);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_some_time_after_its_last_call() {
        let calls = StallExecutor::new(STALL);
        let mut idle = Box::pin(calls.idle(STALL));
        assert!(timeout(STALL * 3, &mut idle).await.is_err(), "none has come");
        let call = Running::new(&calls.count);
        assert!(timeout(STALL * 3, &mut idle).await.is_err(), "one runs");
        drop(call);
        idle.await;
        // A call that has ended before `idle` is called counts, too.
        let calls = StallExecutor::new(STALL);
        drop(Running::new(&calls.count));
        calls.idle(STALL).await;
    }
}
