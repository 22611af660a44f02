//! What may be kept in memory for clients that take their time.

use std::sync::Arc;

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::timeout,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{KIB, ROOM_WAIT},
};

/// Bytes that some callers share. Clones are one pool.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    what: &'static str,
    free: Arc<Semaphore>,
}

/// Some bytes of a pool, until it is dropped.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

impl Pool {
    /// Makes a pool of some bytes; `what` they are for is what a refused caller reads.
    pub(super) fn new(what: &'static str, bytes: usize) -> Self {
        Self { what, free: Arc::new(Semaphore::new(bytes / KIB)) }
    }

    /// Takes bytes that are free.
    ///
    /// # Errors
    /// `Busy` if too many are taken.
    pub(super) fn take(&self, bytes: usize) -> Result<Room> {
        let free = Arc::clone(&self.free).try_acquire_many_owned(permits(bytes)?);
        free.map(Room).map_err(|_: TryAcquireError| self.full())
    }

    /// Takes bytes, or waits until they are free.
    ///
    /// # Errors
    /// `Busy` after [`ROOM_WAIT`].
    ///
    /// # Cancel safety
    /// Can be dropped; the place among those who wait is lost.
    pub(super) async fn wait(self, bytes: usize) -> Result<Room> {
        let free = Arc::clone(&self.free).acquire_many_owned(permits(bytes)?);
        match timeout(ROOM_WAIT, free).await {
            Ok(room) => room.map(Room).map_err(|_: AcquireError| self.full()),
            Err(_) => Err(self.full()),
        }
    }

    fn full(&self) -> Error {
        let message = format!("the server has too many bytes of {}; try again later", self.what);
        Error::new(Kind::Busy, message)
    }

    /// The bytes that are free.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.available_permits() * KIB
    }
}

impl Room {
    /// Takes more, until there are so many bytes.
    ///
    /// # Errors
    /// `Busy` if the pool has too few; what there is stays.
    pub(super) fn grow(&mut self, pool: &Pool, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.0.num_permits() * KIB);
        self.0.merge(pool.take(more)?.0);
        Ok(())
    }
}

fn permits(bytes: usize) -> Result<u32> {
    u32::try_from(bytes.div_ceil(KIB)).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_taken_and_given_back() {
        let pool = Pool::new("tests", 8 * KIB);
        let mut room = pool.take(1).expect("room");
        room.grow(&pool, KIB).expect("it has that");
        assert_eq!(pool.free(), 7 * KIB);
        room.grow(&pool, 3 * KIB - 1).expect("room");
        assert_eq!(pool.free(), 5 * KIB);
        let error = room.grow(&pool, 8 * KIB + 1).expect_err("too much");
        assert_eq!(error.message(), "the server has too many bytes of tests; try again later");
        assert_eq!((error.kind(), pool.free()), (Kind::Busy, 5 * KIB));
        assert_eq!(pool.take(6 * KIB).expect_err("too much").kind(), Kind::Busy);
        assert_eq!(pool.clone().wait(6 * KIB).await.expect_err("too much").kind(), Kind::Busy);
        let mut wait = Box::pin(pool.clone().wait(6 * KIB));
        assert!(wait.as_mut().now_or_never().is_none());
        drop(room);
        wait.await.expect("room again");
        assert_eq!(pool.free(), 8 * KIB);
    }
}
