//! The timeouts of a client's calls and streams.
//!
//! A wait ends when the server has been silent for too long, and at the client's deadline. Silence is time without
//! progress while the client waits for the server; time in which the client itself works, such as to read a file, does
//! not count. Progress is only what exceeds the furthest point reached so far: bytes that are sent again after a lost
//! connection are none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    client::error::{Error, Result},
    limits,
};

/// The deadline of all calls of a client, and the timeout that it was computed from, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    time: Duration,
    grace: Duration,
}

impl Deadline {
    /// The deadline `time` from now; `None` if that is beyond the range of the clock.
    pub(super) fn after(time: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(time)?;
        Some(Self { at, time, grace: Duration::ZERO })
    }

    /// The same deadline, after which the client waits `grace` longer for the server's response that the deadline has
    /// passed.
    pub(super) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
}

/// The wait for one piece of work. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Timeout(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: String,
    /// What the server is to do: a verb and its object.
    what: String,
    deadline: Option<Deadline>,
    /// The silence that ends the wait.
    silence_max: Duration,
    turn: Mutex<SilenceTimer>,
}

/// The state of a wait: whether it is the server's turn, that is whether the client waits for the server.
#[derive(Debug)]
struct SilenceTimer {
    /// The begin of the server's current turn; `None` while it is the client's turn.
    since: Option<Instant>,
    /// The sum of the server's earlier turns since the last progress.
    silent: Duration,
    /// The furthest progress so far, in bytes or messages.
    reached: u64,
}

impl SilenceTimer {
    fn silence(&self, now: Instant) -> Duration {
        let this = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.silent.saturating_add(this)
    }
}

impl Timeout {
    /// Begins a wait for the server; the server has the first turn.
    pub(super) fn begin(
        (server, what): (&str, String),
        deadline: Option<Deadline>,
        silence_max: Duration,
    ) -> Self {
        let now = Instant::now();
        let turn = SilenceTimer { since: Some(now), silent: Duration::ZERO, reached: 0 };
        let server = server.to_owned();
        Self(Arc::new(Inner { server, what, deadline, silence_max, turn: Mutex::new(turn) }))
    }

    /// Notes that it is the client's turn: silence does not grow.
    pub(super) fn pause(&self) {
        let mut turn = self.turn();
        turn.silent = turn.silence(Instant::now());
        turn.since = None;
    }

    /// Notes that it is the server's turn, and the progress of the work. New progress resets the silence.
    pub(super) fn resume(&self, reached: u64) {
        let (mut turn, now) = (self.turn(), Instant::now());
        if reached > turn.reached {
            *turn = SilenceTimer { since: Some(now), silent: Duration::ZERO, reached };
        } else {
            turn.since.get_or_insert(now);
        }
    }

    /// Passes request messages on, and notes the turns: it is the server's turn while the connection does not take the
    /// next message, and the client's while there is none.
    pub(super) fn paced<S>(&self, mut messages: S) -> impl Stream<Item = S::Item> + use<S>
    where
        S: Stream + Unpin,
    {
        let (wait, mut taken) = (self.clone(), 0);
        stream::poll_fn(move |cx| {
            let next = messages.poll_next_unpin(cx);
            if next.is_pending() {
                wait.pause();
            } else {
                taken += 1;
                wait.resume(taken);
            }
            next
        })
    }

    /// The end of the wait if the server stays silent from now on; `None` without an end. While it is the client's
    /// turn, the end moves on.
    pub(super) fn end(&self) -> Option<Instant> {
        let (turn, now) = (self.turn(), Instant::now());
        let rest = self.0.silence_max.saturating_sub(turn.silence(now));
        let deadline = self.0.deadline.map(|deadline| deadline.at + deadline.grace);
        now.checked_add(rest).into_iter().chain(deadline).min()
    }

    /// Waits until the server has been silent for `time`.
    pub(super) async fn silent_for(&self, time: Duration) {
        loop {
            let rest = time.saturating_sub(self.silence());
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }

    /// Awaits `work` until the wait is over. A result that is ready at that moment is returned.
    ///
    /// # Errors
    /// That of `work`; [`Error::Waited`] when the wait is over, also instead of an [`Error::Lost`] that silence caused.
    pub(super) async fn over<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = tokio::select! {
            biased;
            result = work => result,
            () = self.passed() => Err(self.error("")),
        };
        // The keep-alive of HTTP/2 also closes a connection because of silence.
        let dead = self.0.silence_max.min(limits::CLIENT_DEAD);
        match result {
            Err(Error::Lost { why, .. }) if self.silence() >= dead || self.is_past() => {
                Err(self.error(&why))
            }
            result => result,
        }
    }

    /// The error of a wait that is over; `why` is the cause from the network, or empty.
    pub(super) fn error(&self, why: &str) -> Error {
        let time = match self.0.deadline {
            Some(deadline) if self.is_past() => deadline.time,
            _ => Duration::from_secs(self.silence().as_secs()),
        };
        let colon = if why.is_empty() { "" } else { ": " };
        let (server, what) = (self.0.server.clone(), self.0.what.clone());
        Error::Waited { server, what, time, why: format!("{colon}{why}") }
    }

    async fn passed(&self) {
        loop {
            match self.end() {
                Some(end) if end <= Instant::now() => return,
                Some(end) => sleep_until(end).await,
                None => sleep(self.0.silence_max).await,
            }
        }
    }

    /// Whether the deadline has passed, without its grace.
    pub(super) fn is_past(&self) -> bool {
        self.0.deadline.is_some_and(|deadline| deadline.at <= Instant::now())
    }

    fn silence(&self) -> Duration {
        self.turn().silence(Instant::now())
    }

    fn turn(&self) -> MutexGuard<'_, SilenceTimer> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(deadline: Option<u32>) -> Timeout {
        let deadline = deadline.and_then(|seconds| Deadline::after(seconds * SECOND));
        Timeout::begin(("http://there", "list a".to_owned()), deadline, 10 * SECOND)
    }

    /// The error message of a wait that ends, and the time until then.
    async fn end(wait: &Timeout) -> (String, Duration) {
        let begun = Instant::now();
        let error = wait.over(pending::<Result<()>>()).await.expect_err("it ends");
        (error.to_string(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_after_a_silence_or_at_its_deadline() {
        let said = |time: u32| format!("http://there did not list a within {time}s");
        for (deadline, time) in [(None, 10), (Some(3), 3), (Some(20), 10)] {
            let (text, waited) = end(&wait(deadline)).await;
            assert_eq!(text, said(time));
            assert!(waited >= time * SECOND && waited < (time + 1) * SECOND, "{waited:?}");
        }
        let (whole, alive) = (wait(Some(12)), wait(None));
        let work = async {
            for reached in 1.. {
                sleep(9 * SECOND).await;
                whole.resume(reached);
            }
            Ok(())
        };
        let error = whole.over(work).await.expect_err("all of it has a time");
        assert_eq!(error.to_string(), said(12));
        drop(alive);
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_of_the_server_counts() {
        let slow = wait(None);
        let work = async {
            sleep(4 * SECOND).await;
            slow.pause();
            sleep(60 * SECOND).await;
            slow.resume(0);
            pending().await
        };
        let begun = Instant::now();
        let error: Result<()> = slow.over(work).await;
        assert!(error.is_err() && begun.elapsed() >= 70 * SECOND, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 71 * SECOND, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_again_is_no_sign_of_life() {
        let again = wait(None);
        let work = async {
            loop {
                for reached in [1, 2] {
                    sleep(SECOND).await;
                    again.pause();
                    again.resume(reached);
                }
            }
        };
        let begun = Instant::now();
        let error: Result<()> = again.over(work).await;
        assert!(error.is_err() && begun.elapsed() < 13 * SECOND, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_lost_for_silence_is_a_wait() {
        let lost = |time| async move {
            sleep(time).await;
            Err::<(), _>(Error::Lost { server: "there".to_owned(), why: "no ping".to_owned() })
        };
        let error = wait(None).over(lost(SECOND)).await.expect_err("lost");
        assert!(error.is_lost(), "{error}");
        let error = wait(Some(1)).over(lost(SECOND)).await.expect_err("lost");
        assert_eq!(error.to_string(), "http://there did not list a within 1s: no ping");
    }

    #[tokio::test(start_paused = true)]
    async fn messages_say_whose_turn_it_is() {
        let sent = wait(None);
        let (sender, messages) = tokio::sync::mpsc::channel(1);
        let mut paced = sent.paced(tokio_stream::wrappers::ReceiverStream::new(messages));
        let pause = async {
            sleep(30 * SECOND).await;
            sender.send(()).await.ok();
        };
        let (next, ()) = tokio::join!(paced.next(), pause);
        assert_eq!((next, sent.silence()), (Some(()), Duration::ZERO), "this side had nothing");
        sleep(3 * SECOND).await;
        assert_eq!(sent.silence(), 3 * SECOND, "the server takes no more");
    }
}
