//! The context of a call beside its arguments: its deadline and its peer.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    budget::Peer,
    error::{Error, Result},
};

/// The context of a call of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// The time after which the caller no longer waits. Work that has not begun by then does not begin.
    pub deadline: Option<Instant>,
    /// The client, to whose share of the budgets the work counts.
    pub peer: Peer,
}

impl Call {
    /// The same call with a deadline after `time`, unless its own is earlier. A time that overflows [`Instant`]
    /// sets no deadline.
    #[must_use]
    pub fn within(self, time: Option<Duration>) -> Self {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        Self { deadline: self.deadline.into_iter().chain(end).min(), ..self }
    }

    /// Checks the deadline.
    ///
    /// # Errors
    /// `Timeout` if the deadline has passed.
    pub fn check(self) -> Result<()> {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_over { Err(Error::late()) } else { Ok(()) }
    }

    /// Awaits `work`, and drops it at the deadline: only for work that changes nothing when it is dropped. A
    /// large future should be boxed, since the returned future contains it.
    ///
    /// # Errors
    /// `Timeout`, and those of the work.
    ///
    /// # Cancel safety
    /// That of the work.
    pub async fn until<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // Pinned here, since a move into `timeout_at` would make this future twice as large.
        let mut work = pin!(work);
        match self.deadline {
            None => work.await,
            Some(deadline) => {
                timeout_at(deadline, &mut work).await.unwrap_or_else(|_| Err(Error::late()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_end_counts() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let ends = |deadline: Option<Duration>, time| {
            let deadline = deadline.map(|deadline| now + deadline);
            let call = Call { deadline, ..Call::default() };
            call.within(time).deadline.map(|end| end - now)
        };
        assert_eq!(ends(None, None), None);
        assert_eq!(ends(None, Some(second)), Some(second));
        assert_eq!(ends(Some(second), None), Some(second));
        assert_eq!(ends(Some(second), Some(2 * second)), Some(second));
        assert_eq!(ends(Some(2 * second), Some(second)), Some(second));
        assert_eq!(ends(Some(second), Some(Duration::MAX)), Some(second));
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_at_the_deadline() {
        let call = Call::default().within(Some(Duration::from_secs(1)));
        assert!(call.check().is_ok());
        let error = call.until(std::future::pending::<Result<()>>()).await.expect_err("late");
        assert_eq!(error.kind(), Kind::Timeout);
        assert_eq!(call.check().expect_err("late").kind(), Kind::Timeout);
        assert!(Call::default().check().is_ok());
    }
}
