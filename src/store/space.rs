//! The disk: what is free, and what has to stay free.
//!
//! Uploads, chunks and filtered copies keep away from the reserve, so that a full store still
//! starts, serves reads and deletes.

use std::path::PathBuf;

use crate::{
    error::{Error, Result},
    store::{Config, no_space},
};

/// The file system of the data folder.
#[derive(Clone, Debug)]
pub(super) struct Space {
    data: PathBuf,
    reserve_bytes: u64,
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
        Self { data: config.data.clone(), reserve_bytes: config.reserve_bytes }
    }

    /// Refuses to write `bytes` where that would touch the reserve.
    pub(super) fn check(&self, bytes: u64) -> Result<()> {
        let Disk { available, .. } = self.disk()?;
        if available < self.reserve_bytes.saturating_add(bytes) {
            return Err(no_space().with("available_bytes", available.to_string()));
        }
        Ok(())
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
