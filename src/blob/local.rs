//! The folder of a local blob store, for two things that `object_store` does not do.
//!
//! Key folders: the 256 folders of the first two digits of keys are made and synced at the start, and never
//! removed. If they were made on demand, a put could use a folder that another put has made and not synced
//! yet, and return before its own object is durable. Removing empty ones would race with puts.
//!
//! Staging files: a put writes to `<key>#<n>` and then renames that file. A crash leaves the file, and the
//! listing of `object_store` hides it, so it is swept here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use object_store::local::LocalFileSystem;

use super::{Error, durable, is_key, prefixes};
use crate::crash::{self, Point};

/// The prefix of the name of the mark; the id of the store follows, in hexadecimal.
pub const MARK: &str = "store-";

/// The folder, by its path.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder and its key folders, durably, and opens an object store on it.
    pub(super) fn open(dir: &Path) -> Result<(Self, LocalFileSystem), Error> {
        durable::create_dir_all(dir)?;
        for prefix in prefixes() {
            fs::create_dir_all(dir.join(prefix))?;
        }
        durable::sync_dir(dir)?;
        let store = LocalFileSystem::new_with_prefix(dir)
            .map_err(|error| Error::from_store("", error))?
            .with_fsync(true);
        Ok((Self(dir.to_owned()), store))
    }

    /// The id of the store that has marked the folder. The mark is a folder, because every file here is a
    /// part.
    pub(super) fn owner(&self) -> Result<Option<i64>, Error> {
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(MARK));
            if let Some(id) = id.and_then(|id| i64::from_str_radix(id, 16).ok()) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Marks the folder as that of a store.
    pub(super) fn mark(&self, owner: i64) -> Result<(), Error> {
        let mark = self.0.join(format!("{MARK}{owner:016x}"));
        fs::create_dir_all(&mark)?;
        durable::sync_dir(&self.0).inspect_err(|_| {
            // A mark that may be lost in a power failure does not count, so it is removed. If the removal
            // fails, the mark stays and counts.
            fs::remove_dir(&mark).ok();
        })?;
        Ok(())
    }

    /// Deletes the staging files of keys that are not `in_use`, and returns their number. An error in one
    /// folder does not keep the others from being swept; the first error is returned.
    pub(super) fn sweep_staging(&self, in_use: &dyn Fn(&str) -> bool) -> Result<u64, Error> {
        let (mut swept, mut failure) = (0, None);
        for prefix in prefixes() {
            match self.sweep_folder(&prefix, in_use) {
                Ok(files) => swept += files,
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(swept), |error| Err(error.into()))
    }

    fn sweep_folder(&self, prefix: &str, in_use: &dyn Fn(&str) -> bool) -> io::Result<u64> {
        let mut swept = 0;
        for entry in fs::read_dir(self.0.join(prefix))? {
            let entry = entry?;
            let key = entry.file_name().to_str().and_then(|name| staged_key(prefix, name));
            if key.is_some_and(|key| !in_use(&key)) {
                crash::reach(Point::Sweep);
                remove(&entry.path())?;
                crash::reach(Point::Swept);
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// The key whose put has the staging file of this name.
fn staged_key(prefix: &str, name: &str) -> Option<String> {
    let (base, n) = name.split_once('#')?;
    let key = format!("{prefix}/{base}");
    let is_number = !n.is_empty() && n.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && is_key(&key)).then_some(key)
}

/// Removes a file; a missing one is no error, since its put may have renamed it meanwhile.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
