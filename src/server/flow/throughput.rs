//! Minimum throughput of a client.
//!
//! The clock counts only the time in which the server waits for the client, and starts again when the client has
//! transferred [`THROUGHPUT_BYTES_MIN`]. A client that transfers nothing times out after the limit, and so does one that
//! sends single bytes to look alive.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::THROUGHPUT_BYTES_MIN;

/// The time that is left for the next [`THROUGHPUT_BYTES_MIN`], and the bytes that are transferred of them.
#[derive(Clone, Copy, Debug)]
struct Account {
    left: Duration,
    moved: usize,
}

impl Account {
    fn new(limit: Duration) -> Self {
        Self { left: limit, moved: 0 }
    }

    /// Records transferred bytes and the time that was spent waiting for them.
    fn enter(&mut self, limit: Duration, waited: Duration, bytes: usize) {
        self.left = self.left.saturating_sub(waited);
        self.moved += bytes;
        if self.moved >= THROUGHPUT_BYTES_MIN {
            *self = Self::new(limit);
        }
    }
}

/// Tells when a client is below the minimum throughput.
#[derive(Debug)]
pub(super) struct MinThroughput {
    limit: Duration,
    account: Account,
    /// When the current wait has begun; `None` while the server does not wait for the client.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl MinThroughput {
    /// Creates a full account; `limit` is the time for each [`THROUGHPUT_BYTES_MIN`].
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, account: Account::new(limit), since: None, timer: None }
    }

    /// Ends the current wait and records the bytes that were transferred.
    pub(super) fn record(&mut self, bytes: usize) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.account.enter(self.limit, waited, bytes);
    }

    /// Starts the time limit again, whatever was transferred.
    pub(super) fn renew(&mut self) {
        self.since = None;
        self.account = Account::new(self.limit);
    }

    /// Waits for the client; ready when the time limit has passed.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = Instant::now();
            let until = now + self.account.left;
            self.since = Some(now);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_given_anew_for_enough_bytes_and_not_for_a_trickle() {
        let limit = Duration::from_mins(1);
        let mut account = Account::new(limit);
        for _ in 0..10 {
            account.enter(limit, limit * 9 / 10, THROUGHPUT_BYTES_MIN - 1);
            assert_eq!(account.left, limit / 10);
            account.enter(limit, limit / 20, 1);
            assert_eq!(account.left, limit);
        }
        for part in 1..=60_u32 {
            account.enter(limit, limit / 60, 1);
            assert_eq!(account.left, limit - limit / 60 * part);
        }
        account.enter(limit, limit, 1);
        assert_eq!(account.left, Duration::ZERO);
    }
}
