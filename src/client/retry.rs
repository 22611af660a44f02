//! Retries with exponential backoff, for calls that are safe to repeat: a bounded number, after a lost connection
//! or when the server is busy.
//!
//! Each pause is random below a bound that doubles (full jitter), so that clients which were refused or disconnected
//! together do not return together. If the server gives a delay (`RetryInfo`), the pause is that delay plus the random
//! part.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{
        error::{Error, Result},
        wait::Timeout,
    },
    limits,
};

/// A callback that is called once, before the first retry after a lost connection. Clones share the callback.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Callback>>);

struct Callback {
    was_called: AtomicBool,
    call: Box<dyn Fn(&Error) + Send + Sync>,
}

impl Listener {
    pub(super) fn new(call: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Callback { was_called: AtomicBool::new(false), call: Box::new(call) })))
    }

    fn notify(&self, error: &Error) {
        if let Some(callback) = self.0.as_ref().filter(|_| error.is_lost())
            && !callback.was_called.swap(true, Relaxed)
        {
            (callback.call)(error);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.0.is_some()).finish()
    }
}

/// The backoff of one piece of work: counts its consecutive failures, and pauses before each retry.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    listener: Listener,
}

impl Backoff {
    /// A backoff without failures; `listener` is called before the first retry after a lost connection.
    pub(super) fn new(listener: &Listener) -> Self {
        Self { failures: 0, listener: listener.clone() }
    }

    /// Pauses before a retry.
    ///
    /// # Errors
    /// The error itself, without a pause: if a retry cannot help, after [`limits::RETRIES`] consecutive failures, and
    /// if the pause would outlast the wait or [`limits::CALL_TIME`].
    ///
    /// # Cancel safety
    /// The failure is counted before the pause. When the future is dropped, only the rest of the pause is lost.
    pub(super) async fn after(&mut self, error: Error, wait: &Timeout) -> Result<()> {
        if !error.retryable() || self.failures >= limits::RETRIES || wait.is_past() {
            return Err(error);
        }
        let pause = error.pause().saturating_add(self.lot());
        let end = wait.end();
        if pause > limits::CALL_TIME || end.is_some_and(|end| Instant::now() + pause >= end) {
            return Err(error);
        }
        self.listener.notify(&error);
        self.failures += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// A random pause below the current bound.
    fn lot(&self) -> Duration {
        let most = limits::RETRY_PAUSE.saturating_mul(1 << self.failures);
        most.min(limits::RETRY_PAUSE_MAX).mul_f64(fastrand::f64())
    }

    /// Resets the count of failures, because the work has made progress.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::wait::Deadline, error::Kind};

    fn lost() -> Error {
        Error::Lost { server: "http://there".to_owned(), why: "reset".to_owned() }
    }

    fn refused(kind: Kind, pause: Option<Duration>) -> Error {
        Error::Server { kind, message: "no".to_owned(), pause }
    }

    fn wait(time: Duration) -> Timeout {
        Timeout::begin(("http://there", "answer".to_owned()), Deadline::after(time), Duration::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_bounded() {
        let (mut backoff, wait) = (Backoff::default(), wait(Duration::MAX));
        let begun = Instant::now();
        for _ in 0..limits::RETRIES {
            backoff.after(lost(), &wait).await.expect("a repeat");
        }
        assert!(begun.elapsed() < limits::RETRY_PAUSE_MAX * limits::RETRIES);
        assert!(backoff.after(lost(), &wait).await.is_err());
        backoff.renew();
        backoff.after(lost(), &wait).await.expect("a repeat");
    }

    #[test]
    fn pauses_differ_and_grow_up_to_a_bound() {
        for (failures, most) in [(0, 250), (3, 2_000), (5, 8_000), (limits::RETRIES, 8_000)] {
            let backoff = Backoff { failures, ..Backoff::default() };
            let lots: Vec<_> = (0..1_000).map(|_| backoff.lot().as_millis()).collect();
            let mean = lots.iter().sum::<u128>() / 1_000;
            assert!(lots.iter().all(|lot| *lot <= most), "{failures}: {lots:?}");
            // About five standard deviations of the mean of 1,000 draws.
            assert!((most * 9 / 20..most * 11 / 20).contains(&mean), "{failures}: {mean}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_heeded_and_the_end_of_the_wait_too() {
        let second = Duration::from_secs(1);
        let (mut backoff, long) = (Backoff::default(), wait(Duration::MAX));
        let begun = Instant::now();
        backoff.after(refused(Kind::Busy, Some(7 * second)), &long).await.expect("a repeat");
        let waited = begun.elapsed();
        assert!(waited >= 7 * second && waited < 8 * second, "{waited:?}");
        let begun = Instant::now();
        for (wait, hint) in [(wait(5 * second), 6), (long, 61)] {
            let error = refused(Kind::Busy, Some(hint * second));
            let error = backoff.after(error, &wait).await.expect_err("too long");
            assert_eq!(error.kind(), Some(Kind::Busy), "the reason is told, not the wait");
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_answer_is_final() {
        let mut backoff = Backoff::default();
        let gone = refused(Kind::FileNotFound, None);
        assert!(backoff.after(gone, &wait(Duration::MAX)).await.is_err());
        assert_eq!(backoff.failures, 0);
    }
}
