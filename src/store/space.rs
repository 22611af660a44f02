//! The disk: what is free, and what has to stay free.
//!
//! Uploads, chunks and filtered copies keep away from the reserve, so that a full store still
//! starts, serves reads and deletes. Nothing but what deletes touches what the log of the database may
//! need beside it.
//!
//! What was deleted from the database leaves pages in its file: files that are kept there go into them
//! although the disk is full, and pages that are too many go back to the disk.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use crate::{
    error::{Error, Kind, Result},
    limits::{
        DATABASE_PAGE_BYTES, FREE_BYTES_KEPT, FREE_BYTES_RESERVED, INLINE_BYTES_MAX, RECLAIM_REST,
        WAL_ROOM_BYTES,
    },
    namespace::{Database, sql::Tx},
    store::{Config, Store, no_space},
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
        }
    }

    /// Refuses to write `bytes` of a file where that would touch the reserve.
    pub(super) fn check(&self, bytes: u64) -> Result<()> {
        if bytes <= INLINE_BYTES_MAX as u64 && self.has_inside(cost(bytes)) {
            return Ok(());
        }
        self.claim_outside(bytes).map(drop)
    }

    /// The same for rows, which are `bytes` in the database.
    pub(super) fn check_rows(&self, bytes: u64) -> Result<()> {
        if self.has_inside(bytes) {
            return Ok(());
        }
        self.claim_outside(bytes).map(drop)
    }

    /// Refuses a change that adds a few rows where the disk is full. It may touch the reserve, but
    /// not what is left to those that delete.
    pub(super) fn check_change(&self) -> Result<()> {
        if self.disk()?.available >= self.room_bytes || self.has_inside(cost(0)) {
            return Ok(());
        }
        Err(no_space())
    }

    /// Like [`Space::check`], and keeps the room for it, so that those who write at once leave the
    /// reserve alone together.
    pub(super) fn claim(&self, bytes: u64) -> Result<Claim> {
        self.claim_outside(bytes).or_else(|full| {
            let is_inline = full.kind() == Kind::NoSpace && bytes <= INLINE_BYTES_MAX as u64;
            let take = |room: u64| room.checked_sub(cost(bytes)).filter(|_| is_inline);
            match self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                Ok(_) => Ok(Claim { bytes: 0, claimed: Arc::clone(&self.claimed) }),
                Err(_) => Err(full),
            }
        })
    }

    fn claim_outside(&self, bytes: u64) -> Result<Claim> {
        let before = self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { bytes, claimed: Arc::clone(&self.claimed) };
        let kept = self.reserve_bytes.saturating_add(self.room_bytes);
        let needed = kept.saturating_add(before).saturating_add(bytes);
        let Disk { available, .. } = self.disk()?;
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

    /// Asks the kernel, which reads no disk for that.
    pub(super) fn disk(&self) -> Result<Disk> {
        let stat = rustix::fs::statvfs(&self.data).map_err(Error::internal)?;
        Ok(Disk {
            capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
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
            let step =
                move |tx: &mut Tx<'_>| tx.give_back(FREE_BYTES_KEPT, &|| engine.is_pressed());
            self.0.engine.write(None, step).await?;
            tokio::time::sleep(started.elapsed() * RECLAIM_REST).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MIB;

    #[test]
    fn those_who_write_at_once_leave_the_reserve_alone_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        let free = Space::new(&config).disk().expect("a disk").available;
        // So much else may happen to the disk meanwhile.
        config.reserve_bytes = free / 2;
        let space = Space::new(&config);
        let third = free / 3;
        assert!(third > MIB as u64);
        let first = space.claim(third).expect("room");
        let error = space.claim(third).expect_err("no room beside the first");
        assert_eq!(error.kind(), Kind::NoSpace);
        assert_eq!(space.check(third).expect_err("nor to look").kind(), Kind::NoSpace);
        drop(first);
        space.claim(third).expect("room again");
    }

    #[test]
    fn what_fits_into_free_pages_of_the_database_needs_no_room_on_the_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        config.reserve_bytes = u64::MAX;
        let space = Space::new(&config);
        let small = INLINE_BYTES_MAX as u64;
        let full = |error: Error| assert_eq!(error.kind(), Kind::NoSpace);
        full(space.claim(small).expect_err("nothing is free"));
        full(space.check(small).expect_err("nothing is free"));
        full(space.check_rows(small).expect_err("nothing is free"));
        space.set_inside(FREE_BYTES_RESERVED + cost(small));
        space.check(small).expect("room");
        space.check_rows(small).expect("room");
        full(space.claim(small + 1).expect_err("it is kept elsewhere"));
        drop(space.claim(small).expect("room"));
        full(space.claim(1).expect_err("it is taken"));
    }

    #[test]
    fn a_change_may_touch_the_reserve_and_not_the_room_of_the_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = Config::new(dir.path());
        config.reserve_bytes = u64::MAX;
        let mut space = Space::new(&config);
        space.check_change().expect("there is room beside the reserve");
        space.room_bytes = u64::MAX;
        assert_eq!(space.check_change().expect_err("no room").kind(), Kind::NoSpace);
        space.set_inside(FREE_BYTES_RESERVED + cost(0));
        space.check_change().expect("room in the database");
    }
}
