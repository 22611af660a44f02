//! What lets a server answer: its lease, and that it was not expelled.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    error::{Error, Kind, Result},
    namespace::{expelled::Expelled, server::boot_time},
};

/// The standing of a server in its store.
#[derive(Debug)]
pub(super) struct Standing {
    /// How long an answer may rely on the last commit; `None` for a server that has the store for itself.
    lease: Option<Duration>,
    /// When the last transaction that was committed had begun, in milliseconds of [`boot_time`].
    renewed: AtomicU64,
    /// How often the writer has connected to the database again.
    reconnects: AtomicU64,
    expelled: watch::Sender<Option<Expelled>>,
}

impl Standing {
    /// The standing of a server that has just registered.
    pub(super) fn new(lease: Option<Duration>) -> Self {
        let standing = Self {
            lease,
            renewed: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            expelled: watch::Sender::new(None),
        };
        standing.renew(now());
        standing
    }

    /// Takes note of a commit whose transaction began at `begun`, by [`now`].
    pub(super) fn renew(&self, begun: u64) {
        self.renewed.fetch_max(begun, Ordering::Release);
    }

    /// Takes note of how often the writer has connected to the database again.
    pub(super) fn reconnected(&self, count: u64) {
        self.reconnects.store(count, Ordering::Release);
    }

    /// How often the writer has connected to the database again. Who connected before that may be connected to another
    /// server of databases, which is no longer the primary one.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Acquire)
    }

    /// Takes note that the server is expelled.
    pub(super) fn expel(&self, why: Expelled) {
        self.expelled.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(why);
            is_first
        });
    }

    /// Waits until the server is expelled.
    pub(super) async fn expelled(&self) -> Expelled {
        let mut expelled = self.expelled.subscribe();
        let Ok(why) = expelled.wait_for(Option::is_some).await.map(|why| *why) else {
            return std::future::pending().await;
        };
        why.unwrap_or(Expelled::Dead)
    }

    /// Checks that the server is not expelled.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn check(&self) -> Result<()> {
        let why = *self.expelled.borrow();
        why.map_or(Ok(()), |why| Err(why.error()))
    }

    /// Checks that the server may answer from what it reads: that no other one has declared it dead yet.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn check_lease(&self) -> Result<()> {
        self.check()?;
        let Some(lease) = self.lease else { return Ok(()) };
        let age = now().saturating_sub(self.renewed.load(Ordering::Acquire));
        if Duration::from_millis(age) < lease {
            return Ok(());
        }
        let message =
            "this server has not reached the database for as long as its lease; try again";
        Err(Error::new(Kind::Busy, message))
    }
}

/// The milliseconds of [`boot_time`].
pub(super) fn now() -> u64 {
    u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_of_an_expulsion_stays() {
        let standing = Standing::new(None);
        standing.check().expect("not expelled");
        standing.expel(Expelled::Cloned);
        standing.expel(Expelled::Dead);
        assert_eq!(standing.expelled().await, Expelled::Cloned);
        assert_eq!(standing.check().expect_err("expelled").kind(), Kind::Busy);
    }

    #[test]
    fn an_answer_needs_a_commit_within_the_lease() {
        let standing = Standing::new(Some(Duration::from_hours(1)));
        standing.check_lease().expect("just registered");
        let standing = Standing::new(Some(Duration::ZERO));
        assert_eq!(standing.check_lease().expect_err("over").kind(), Kind::Busy);
        Standing::new(None).check_lease().expect("alone");
    }
}
