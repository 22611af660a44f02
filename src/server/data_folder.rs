//! The data folder: made and locked.
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
}
