//! Turns: how many of something go on at once, how many more wait, and for how long.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::timeout,
};

use crate::{
    error::{Error, Kind, Result},
    store::Call,
};

/// The turns of one kind of work.
#[derive(Debug)]
pub(super) struct Turns {
    what: &'static str,
    free: Arc<Semaphore>,
    waiting: Semaphore,
    wait: Duration,
}

impl Turns {
    /// Lets `at_once` go on, and `waiting` more wait, each for at most `wait`. `what` they are is
    /// what a refused caller reads.
    pub(super) fn new(what: &'static str, at_once: usize, waiting: usize, wait: Duration) -> Self {
        let (free, waiting) = (Arc::new(Semaphore::new(at_once)), Semaphore::new(waiting));
        Self { what, free, waiting, wait }
    }

    /// Takes a turn, in the order of those who wait. It lasts until the permit is dropped.
    ///
    /// # Errors
    /// `Busy` if too many wait, or for too long; `Timeout` if the call has no time left before.
    ///
    /// # Cancel safety
    /// Can be dropped; the place among those who wait is lost.
    pub(super) async fn take(&self, call: Call) -> Result<OwnedSemaphorePermit> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(turn) => return Ok(turn),
            Err(TryAcquireError::Closed) => return Err(self.busy()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| self.busy())?;
        let turn = timeout(self.wait, Arc::clone(&self.free).acquire_owned());
        let turn = call.until(async { turn.await.map_err(|_| self.busy()) }).await?;
        turn.map_err(|_| self.busy())
    }

    fn busy(&self) -> Error {
        let message = format!("too many {} run already; try again later", self.what);
        Error::new(Kind::Busy, message)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::join};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_the_deadline() {
        let turns = Turns::new("tests", 1, 1, Duration::from_secs(30));
        let _held = turns.take(Call::default()).await.expect("a turn");
        let call = Call::default().within(Some(Duration::from_secs(1)));
        let error = turns.take(call).await.expect_err("no turn is free");
        assert_eq!(error.kind(), Kind::Timeout);
        let call = Call::default().within(Some(Duration::from_mins(1)));
        assert_eq!(turns.take(call).await.expect_err("nor later").kind(), Kind::Busy);
    }

    #[tokio::test]
    async fn some_run_some_wait_and_the_rest_is_refused() {
        let wait = Duration::from_millis(20);
        let busy = |result: Result<OwnedSemaphorePermit>| {
            let error = result.expect_err("no turn is free");
            assert_eq!(error.kind(), Kind::Busy);
            assert_eq!(error.message(), "too many tests run already; try again later");
        };
        let turns = Turns::new("tests", 1, 1, wait);
        let first = turns.take(Call::default()).await.expect("a turn");
        // The second waits in vain, the third not at all.
        let begun = std::time::Instant::now();
        let (second, third) =
            join(turns.take(Call::default()), async { turns.take(Call::default()).now_or_never() })
                .await;
        assert!(begun.elapsed() >= wait);
        busy(second);
        busy(third.expect("an answer at once"));
        drop(first);
        let patient = Turns::new("tests", 1, 1, Duration::MAX);
        let first = patient.take(Call::default()).await.expect("a turn");
        let (second, ()) = join(patient.take(Call::default()), async { drop(first) }).await;
        drop(second.expect("the turn that came free"));
    }
}
