//! The data folder: made, locked, and measured.
//!
//! **Invariant:** while a [`DataFolder`] lives, no other process has one of the same path. The lock
//! is the kernel's, so a killed server leaves none.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::Error;
use crate::blob::durable;

/// A data folder that this process alone has open.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

/// The space of the file system that holds the data folder, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub capacity_bytes: u64,
    /// What this process may still fill.
    pub available_bytes: u64,
}

impl DataFolder {
    /// Makes the folder where it is missing, with its parents, and locks it.
    ///
    /// Blocks for some syncs of the disk where it makes the folder.
    ///
    /// # Errors
    ///
    /// A folder that another server has open, or that cannot be made or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::new(format!("cannot open the data folder {}", path.display())).because(error)
        };
        durable::create_dir_all(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::new(format!(
                "another server has the data folder {} open; stop it, or choose another --data",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the file system for its space. Takes microseconds on a local disk.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn space(&self) -> io::Result<Space> {
        space(&self.path)
    }
}

/// Asks for the space of the file system that holds a path.
///
/// # Errors
///
/// Those of the file system.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        capacity_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_open_once() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("new/data");
        let first = DataFolder::open(&path).expect("opened");
        let error = DataFolder::open(&path).expect_err("locked").to_string();
        assert!(error.contains("another server has the data folder"), "{error}");
        assert!(error.contains(path.to_str().expect("text")), "{error}");
        drop(first);
        DataFolder::open(&path).expect("opened again");
    }

    #[test]
    fn a_file_is_no_folder() {
        let temp = tempfile::NamedTempFile::new().expect("a file");
        let error = DataFolder::open(temp.path()).expect_err("refused");
        assert!(error.to_string().starts_with("cannot open the data folder"), "{error}");
    }

    #[test]
    fn space_is_measured() {
        let temp = tempfile::tempdir().expect("a folder");
        let space = DataFolder::open(temp.path()).expect("opened").space().expect("measured");
        assert!(0 < space.available_bytes && space.available_bytes <= space.capacity_bytes);
    }
}
