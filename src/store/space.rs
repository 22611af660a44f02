//! The disk: what is free, and what has to stay free.
//!
//! Uploads, chunks and filtered copies keep away from the reserve, so that a full store still
//! starts, serves reads and deletes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    error::{Error, Result},
    store::{Config, no_space},
};

/// The file system of the data folder.
#[derive(Clone, Debug)]
pub(super) struct Space {
    data: PathBuf,
    reserve_bytes: u64,
    /// What is being written, which the disk does not count yet.
    claimed: Arc<AtomicU64>,
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
        let claimed = Arc::default();
        Self { data: config.data.clone(), reserve_bytes: config.reserve_bytes, claimed }
    }

    /// Refuses to write `bytes` where that would touch the reserve.
    pub(super) fn check(&self, bytes: u64) -> Result<()> {
        self.claim(bytes).map(drop)
    }

    /// The same, and keeps the room for it, so that those who write at once leave the reserve alone
    /// together.
    pub(super) fn claim(&self, bytes: u64) -> Result<Claim> {
        let before = self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { bytes, claimed: Arc::clone(&self.claimed) };
        let needed = self.reserve_bytes.saturating_add(before).saturating_add(bytes);
        let Disk { available, .. } = self.disk()?;
        if available < needed {
            return Err(no_space().with("available_bytes", available.to_string()));
        }
        Ok(claim)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Kind, limits::MIB};

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
}
