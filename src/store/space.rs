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
    database: PathBuf,
    reserve_bytes: u64,
}

/// What the disk says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The size of the file system.
    pub(super) capacity: u64,
    /// What is free.
    pub(super) available: u64,
    /// The bytes of the database and its log.
    pub(super) database_bytes: u64,
}

impl Space {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            data: config.data.clone(),
            database: config.database.clone(),
            reserve_bytes: config.reserve_bytes,
        }
    }

    /// Refuses to write `bytes` where that would touch the reserve. A call of the kernel that reads
    /// no disk.
    pub(super) fn check(&self, bytes: u64) -> Result<()> {
        let (_, available) = self.file_system()?;
        if available < self.reserve_bytes.saturating_add(bytes) {
            return Err(no_space().with("available_bytes", available.to_string()));
        }
        Ok(())
    }

    fn file_system(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.data).map_err(Error::internal)?;
        Ok((
            stat.f_blocks.saturating_mul(stat.f_frsize),
            stat.f_bavail.saturating_mul(stat.f_frsize),
        ))
    }

    /// Asks the disk. Blocks.
    pub(super) fn disk(&self) -> Result<Disk> {
        let (capacity, available) = self.file_system()?;
        let size = |suffix: &str| {
            let mut file = self.database.clone().into_os_string();
            file.push(suffix);
            std::fs::metadata(file).map_or(0, |file| file.len())
        };
        Ok(Disk { capacity, available, database_bytes: size("") + size("-wal") + size("-shm") })
    }
}
