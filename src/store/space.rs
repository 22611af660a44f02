//! Free space: what is free on the disk and inside the database file, and what has to stay free.
//!
//! Uploads, chunks and filtered copies leave the reserve free, so that a full store still starts, serves reads
//! and deletes. Beside the reserve, space for the write-ahead log of the database stays free, which only
//! deletes may use.
//!
//! A network file system may take long to report its free space. So the file system is queried on the blocking
//! pool, one query at a time: callers that arrive during a query share the next one. A caller never uses a
//! query that began before its request, since bytes that were claimed then may be written by now.
//!
//! Deletes leave free pages in the database file. Inline files can use these pages although the disk is full,
//! and pages above a bound are given back to the disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::io::Errno;
use tokio::{sync::Mutex, task::spawn_blocking, time::Instant};

use crate::{
    error::{Error, Kind, Result},
    limits::{
        DATABASE_PAGE_BYTES, FREE_BYTES_KEPT, FREE_BYTES_RESERVED, INLINE_BYTES_MAX, RECLAIM_REST,
        WAL_ROOM_BYTES,
    },
    namespace::{Database, sql::Tx},
    store::{Config, Store},
};

/// The free space of the file system with the data folder, and of the database file.
#[derive(Clone, Debug)]
pub(super) struct Space {
    data: PathBuf,
    /// The bytes for the write-ahead log that changes which add rows leave free.
    room_bytes: u64,
    /// The bytes that uploads leave free beside that.
    reserve_bytes: u64,
    /// The bytes that are being written, which the file system may not count as used yet.
    claimed: Arc<AtomicU64>,
    /// The free bytes inside the database file when they were last read, less those that were claimed since.
    inside: Arc<AtomicU64>,
    /// The number of requests for the free space of the disk so far.
    askers: Arc<AtomicU64>,
    /// The last answer of the file system. Locked during a query.
    said: Arc<Mutex<Option<Said>>>,
}

/// An answer of the file system, and the number of requests that came before its query.
#[derive(Debug)]
struct Said {
    askers: u64,
    disk: Result<Disk, Errno>,
}

/// A claim of free bytes on the disk for bytes that are being written. Dropped when the write has ended.
#[derive(Debug)]
pub(super) struct Claim {
    bytes: u64,
    claimed: Arc<AtomicU64>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The size and the free space of a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The size of the file system.
    pub(super) capacity: u64,
    /// The free bytes.
    pub(super) available: u64,
}

impl Space {
    pub(super) fn new(config: &Config) -> Self {
        let room_bytes = match config.database {
            Database::Sqlite(_) => WAL_ROOM_BYTES,
            Database::Postgres(_) => 0,
        };
        Self {
            data: config.data.clone(),
            room_bytes,
            reserve_bytes: config.reserve_bytes,
            claimed: Arc::default(),
            inside: Arc::default(),
            askers: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Checks that `bytes` of a file can be written without touching the reserve. `NoSpace` otherwise.
    pub(super) async fn check(&self, bytes: u64) -> Result<()> {
        if bytes <= INLINE_BYTES_MAX as u64 && self.has_inside(cost(bytes)) {
            return Ok(());
        }
        self.claim_outside(bytes).await.map(drop)
    }

    /// The same for rows that take `bytes` in the database.
    pub(super) async fn check_rows(&self, bytes: u64) -> Result<()> {
        if self.has_inside(bytes) {
            return Ok(());
        }
        self.claim_outside(bytes).await.map(drop)
    }

    /// Checks that a change which adds a few rows can be written. Such a change may use the reserve, but not the
    /// space that only deletes may use.
    pub(super) async fn check_change(&self) -> Result<()> {
        // With PostgreSQL the log is not on this disk.
        let is_free = self.room_bytes == 0 || self.has_inside(cost(0));
        if is_free || self.disk().await?.available >= self.room_bytes {
            return Ok(());
        }
        Err(no_space())
    }

    /// Like [`Space::check`], and claims the bytes, so that concurrent writes together leave the reserve free.
    ///
    /// # Cancel safety
    /// Can be dropped; nothing is claimed then.
    pub(super) async fn claim(&self, bytes: u64) -> Result<Claim> {
        self.claim_outside(bytes).await.or_else(|full| {
            let is_inline = full.kind() == Kind::NoSpace && bytes <= INLINE_BYTES_MAX as u64;
            let take = |room: u64| room.checked_sub(cost(bytes)).filter(|_| is_inline);
            match self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                Ok(_) => Ok(Claim { bytes: 0, claimed: Arc::clone(&self.claimed) }),
                Err(_) => Err(full),
            }
        })
    }

    /// The bytes that are claimed.
    #[cfg(test)]
    pub(super) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    async fn claim_outside(&self, bytes: u64) -> Result<Claim> {
        let before = self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { bytes, claimed: Arc::clone(&self.claimed) };
        let kept = self.reserve_bytes.saturating_add(self.room_bytes);
        let needed = kept.saturating_add(before).saturating_add(bytes);
        let Disk { available, .. } = self.disk().await?;
        if available < needed {
            return Err(no_space().with("available_bytes", available.to_string()));
        }
        Ok(claim)
    }

    fn has_inside(&self, bytes: u64) -> bool {
        self.inside.load(Ordering::Relaxed) >= bytes
    }

    /// Notes the free bytes inside the database file.
    fn set_inside(&self, bytes: u64) {
        let bytes = bytes.saturating_sub(FREE_BYTES_RESERVED);
        self.inside.store(bytes, Ordering::Relaxed);
    }

    /// The answer to a query of the file system that begins after this call.
    ///
    /// # Cancel safety
    /// Can be dropped. A query that has begun continues, and the next one begins after it.
    pub(super) async fn disk(&self) -> Result<Disk> {
        let number = self.askers.fetch_add(1, Ordering::Release);
        let mut last = Arc::clone(&self.said).lock_owned().await;
        if let Some(said) = last.as_ref().filter(|said| said.askers > number) {
            return said.disk.map_err(Error::internal);
        }
        let (askers, data) = (Arc::clone(&self.askers), self.data.clone());
        let ask = move || {
            let said = Said { askers: askers.load(Ordering::Acquire), disk: ask(&data) };
            last.insert(said).disk
        };
        spawn_blocking(ask).await.map_err(Error::internal)?.map_err(Error::internal)
    }
}

fn ask(data: &Path) -> Result<Disk, Errno> {
    let stat = rustix::fs::statvfs(data)?;
    Ok(Disk {
        capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
        available: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// The most bytes that a file of `bytes` takes in the database, with its rows and the rest of its last page.
fn cost(bytes: u64) -> u64 {
    2 * bytes + 4 * DATABASE_PAGE_BYTES as u64
}

impl Store {
    /// Reads the free bytes inside the database file, and gives those above [`FREE_BYTES_KEPT`] back to the
    /// disk, in steps with rests between them.
    pub(super) async fn tend_free_pages(&self) -> Result<()> {
        loop {
            let free = self.0.engine.read(None, |tx: &mut Tx<'_>| tx.free()).await?;
            self.0.space.set_inside(free.bytes);
            if free.bytes <= FREE_BYTES_KEPT || !free.can_go {
                return Ok(());
            }
            let (engine, started) = (self.0.engine.clone(), Instant::now());
            let step = move |tx: &mut Tx<'_>| {
                tx.give_back(FREE_BYTES_KEPT, &|| engine.has_waiting_writers())
            };
            self.0.engine.write(None, step).await?;
            tokio::time::sleep(started.elapsed() * RECLAIM_REST).await;
        }
    }
}

fn no_space() -> Error {
    let message = "the disk is full but for its reserve; delete something and try again";
    Error::new(Kind::NoSpace, message)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::limits::MIB;

    #[tokio::test]
    async fn those_who_write_at_once_leave_the_reserve_alone_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        let free = Space::new(&config).disk().await.expect("a disk").available;
        // Leaves room for other programs that use the disk during the test.
        config.reserve_bytes = free / 2;
        let space = Space::new(&config);
        let third = free / 3;
        assert!(third > MIB as u64);
        let first = space.claim(third).await.expect("room");
        let error = space.claim(third).await.expect_err("no room beside the first");
        assert_eq!(error.kind(), Kind::NoSpace);
        assert_eq!(space.check(third).await.expect_err("nor to look").kind(), Kind::NoSpace);
        drop(first);
        space.claim(third).await.expect("room again");
    }

    #[tokio::test]
    async fn what_fits_into_free_pages_of_the_database_needs_no_room_on_the_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        config.reserve_bytes = u64::MAX;
        let space = Space::new(&config);
        let small = INLINE_BYTES_MAX as u64;
        let full = |error: Error| assert_eq!(error.kind(), Kind::NoSpace);
        full(space.claim(small).await.expect_err("nothing is free"));
        full(space.check(small).await.expect_err("nothing is free"));
        full(space.check_rows(small).await.expect_err("nothing is free"));
        space.set_inside(FREE_BYTES_RESERVED + cost(small));
        space.check(small).await.expect("room");
        space.check_rows(small).await.expect("room");
        full(space.claim(small + 1).await.expect_err("it is kept elsewhere"));
        drop(space.claim(small).await.expect("room"));
        full(space.claim(1).await.expect_err("it is taken"));
    }

    #[tokio::test]
    async fn a_change_may_touch_the_reserve_and_not_the_room_of_the_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        config.reserve_bytes = u64::MAX;
        let mut space = Space::new(&config);
        space.check_change().await.expect("there is room beside the reserve");
        space.room_bytes = u64::MAX;
        assert_eq!(space.check_change().await.expect_err("no room").kind(), Kind::NoSpace);
        space.set_inside(FREE_BYTES_RESERVED + cost(0));
        space.check_change().await.expect("room in the database");
    }

    /// Runs work on a runtime whose only blocking thread is blocked until `open` is dropped.
    fn with_blocked<F: Future<Output = ()>>(work: impl FnOnce(Space, Open) -> F) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        runtime.block_on(async { work(Space::new(&Config::new(dir.path())), block().0).await });
    }

    type Open = mpsc::Sender<()>;

    /// Queues a job that blocks the pool until the returned sender is dropped. The returned receiver resolves
    /// when the job has begun.
    fn block() -> (Open, oneshot::Receiver<()>) {
        let (open, opened) = mpsc::channel();
        let (begin, begun) = oneshot::channel();
        drop(spawn_blocking(move || {
            begin.send(()).ok();
            opened.recv().ok()
        }));
        (open, begun)
    }

    #[test]
    fn a_disk_that_does_not_answer_blocks_no_thread_of_the_runtime() {
        with_blocked(|space, open| async move {
            let mut claiming = Box::pin(space.claim(MIB as u64));
            assert!(futures::poll!(&mut claiming).is_pending());
            assert!(space.check(0).now_or_never().is_none());
            assert!(space.check_rows(1).now_or_never().is_none());
            assert!(space.check_change().now_or_never().is_none());
            let claimed = || space.claimed.load(Ordering::Relaxed);
            assert_eq!(claimed(), MIB as u64);
            drop(claiming);
            assert_eq!(claimed(), 0, "who leaves keeps no room");
            drop(open);
            let claim = space.claim(MIB as u64).await.expect("room");
            assert_eq!(claimed(), MIB as u64);
            drop(claim);
        });
    }

    #[test]
    fn those_who_wait_for_the_disk_share_its_next_answer() {
        with_blocked(|space, open| async move {
            let mut first = Box::pin(space.disk());
            assert!(futures::poll!(&mut first).is_pending());
            let mut second = Box::pin(space.disk());
            assert!(futures::poll!(&mut second).is_pending());
            // The pool blocks again right after the first answer.
            let (reopen, _) = block();
            drop(open);
            first.await.expect("an answer");
            second.now_or_never().expect("it is there").expect("the same");
            let mut late = Box::pin(space.disk());
            assert!(futures::poll!(&mut late).is_pending(), "what was said before is too old");
            drop(reopen);
            late.await.expect("another");
        });
    }

    #[test]
    fn a_disk_that_does_not_answer_is_asked_once() {
        with_blocked(|space, open| async move {
            let mut gone = Box::pin(space.disk());
            assert!(futures::poll!(&mut gone).is_pending());
            drop(gone);
            let mut next = Box::pin(space.disk());
            assert!(futures::poll!(&mut next).is_pending());
            let (_reopen, is_answered) = block();
            drop(open);
            is_answered.await.expect("blocked");
            next.now_or_never().expect("it is there").expect("the answer to who is gone");
        });
    }
}
