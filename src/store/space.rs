//! The disk: what is free, and what has to stay free.
//!
//! Uploads, chunks and filtered copies keep away from the reserve, so that a full store still
//! starts, serves reads and deletes. Nothing but what deletes touches what the log of the database may
//! need beside it.
//!
//! A file system of another machine may take long to say what is free. So it is asked on the blocking
//! pool, by one at a time: whoever comes meanwhile waits for the next answer, which all of them share.
//! Never one that was asked for before they came, since what was claimed before may be written by then.
//!
//! What was deleted from the database leaves pages in its file: files that are kept there go into them
//! although the disk is full, and pages that are too many go back to the disk.

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

/// The file system of the data folder, and the room inside the database file.
#[derive(Clone, Debug)]
pub(super) struct Space {
    data: PathBuf,
    /// What changes that add rows leave free, which the log of the database may need.
    room_bytes: u64,
    /// What uploads leave free beside that.
    reserve_bytes: u64,
    /// What is being written, which the disk does not count yet.
    claimed: Arc<AtomicU64>,
    /// What is free inside the database file, less what was let in since that was asked.
    inside: Arc<AtomicU64>,
    /// Those who have asked what is free on the disk.
    askers: Arc<AtomicU64>,
    /// What it said last. Locked while it is asked.
    said: Arc<Mutex<Option<Said>>>,
}

/// What the disk said, and to how many of those who have asked.
#[derive(Debug)]
struct Said {
    askers: u64,
    disk: Result<Disk, Errno>,
}

/// Room on the disk for what is being written. Dropped when it is written, or never will be.
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

/// What the disk says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The size of the file system.
    pub(super) capacity: u64,
    /// What is free.
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

    /// Refuses to write `bytes` of a file where that would touch the reserve.
    pub(super) async fn check(&self, bytes: u64) -> Result<()> {
        if bytes <= INLINE_BYTES_MAX as u64 && self.has_inside(cost(bytes)) {
            return Ok(());
        }
        self.claim_outside(bytes).await.map(drop)
    }

    /// The same for rows, which are `bytes` in the database.
    pub(super) async fn check_rows(&self, bytes: u64) -> Result<()> {
        if self.has_inside(bytes) {
            return Ok(());
        }
        self.claim_outside(bytes).await.map(drop)
    }

    /// Refuses a change that adds a few rows where the disk is full. It may touch the reserve, but
    /// not what is left to those that delete.
    pub(super) async fn check_change(&self) -> Result<()> {
        // PostgreSQL keeps its log elsewhere.
        let is_free = self.room_bytes == 0 || self.has_inside(cost(0));
        if is_free || self.disk().await?.available >= self.room_bytes {
            return Ok(());
        }
        Err(no_space())
    }

    /// Like [`Space::check`], and keeps the room for it, so that those who write at once leave the
    /// reserve alone together.
    ///
    /// # Cancel safety
    /// Dropped, it keeps no room.
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

    /// Notes what is free inside the database file.
    fn set_inside(&self, bytes: u64) {
        let bytes = bytes.saturating_sub(FREE_BYTES_RESERVED);
        self.inside.store(bytes, Ordering::Relaxed);
    }

    /// What the disk says from now on.
    ///
    /// # Cancel safety
    /// Can be dropped. The disk that is being asked is asked by nobody else until it has answered.
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

/// What a file of `bytes` takes in the database at most, with what its last page leaves and its rows.
fn cost(bytes: u64) -> u64 {
    2 * bytes + 4 * DATABASE_PAGE_BYTES as u64
}

impl Store {
    /// Looks at what is free inside the database file, and gives what it need not keep back to the
    /// disk, in steps between which it rests.
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
        // So much else may happen to the disk meanwhile.
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

    /// Runs work while the one thread that may block does so, until `open` is dropped.
    fn with_blocked<F: Future<Output = ()>>(work: impl FnOnce(Space, Open) -> F) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        runtime.block_on(async { work(Space::new(&Config::new(dir.path())), block().0).await });
    }

    type Open = mpsc::Sender<()>;

    /// Blocks the pool after the work that it has, until what this returns is dropped. Returns also what
    /// resolves when it does so.
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
            // From the first answer on, there is none.
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
