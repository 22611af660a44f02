//! The locks on the data folder, the SQLite database file and the blob folder of a server.
//!
//! Each resource has a lock file: in the folder, or beside the database file. The lock file is found by the real
//! path of the resource, so that another spelling or a symbolic link leads to the same lock. The resources have
//! separate locks, so that two servers with different data folders cannot share a database.
//!
//! **Invariants:** while a [`Locks`] lives, no other process holds a lock of the same resource. The locks belong
//! to the kernel, so a killed server leaves none. The lock files stay after a stop. A start that fails removes the
//! files that it has made, lock files included, while it holds the locks; so a process that has just locked a file
//! checks that the path still names that file.
//!
//! A PostgreSQL database has no lock here: the connection to the database takes it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{Error, config::Config};
use crate::{
    blob::{self, durable},
    namespace::Database,
    store,
};

/// The lock file of a folder.
pub(super) const IN_FOLDER: &str = "lock";
/// The suffix of a database's lock file.
const BESIDE_DATABASE: &str = ".lock";
/// The suffixes of the files that SQLite makes beside a database.
const OF_DATABASE: [&str; 3] = ["-journal", SHARED_MEMORY, "-wal"];
/// That of the index of the log, which is made anew from the log.
const SHARED_MEMORY: &str = "-shm";

/// The locks of a server. Dropping it releases them.
#[derive(Debug)]
pub struct Locks {
    /// The locked lock files.
    files: Vec<File>,
    /// The paths that did not exist before this start, each after its folder. Removed on drop.
    new: Vec<PathBuf>,
    /// The files that did not exist beside a database that did. Removed on drop, unless its log has something: what the
    /// start has committed is only there until the database file has it.
    logs: Vec<PathBuf>,
}

impl Locks {
    /// Locks the resources of a server with these settings, and creates missing folders and a missing database
    /// file. Unless [`Locks::keep`] is called, dropping the locks removes what was created.
    ///
    /// Blocks the thread for a few disk syncs.
    ///
    /// # Errors
    ///
    /// A resource that another server uses, that cannot be created or opened, or that is on a file system
    /// without locks; a database file with several hard links.
    pub fn take(config: &Config) -> Result<Self, Error> {
        let mut locks = Self::without_blobs(config)?;
        // The mark of a bucket keeps the servers of other stores out, and those of the same one have its database.
        if let Some(blobs) = config.blobs.folder() {
            locks.folder(&Place::blobs(blobs))?;
            locks.new.extend(missing(blob::prefixes().map(|prefix| blobs.join(prefix))));
        }
        Ok(locks)
    }

    /// [`Locks::take`] without the blob folder, for a server whose parts are stored elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Locks::take`].
    pub fn without_blobs(config: &Config) -> Result<Self, Error> {
        let mut locks = Self { files: Vec::new(), new: Vec::new(), logs: Vec::new() };
        locks.folder(&Place::data(&config.data))?;
        locks.new.extend(missing(std::iter::once(config.data.join(store::ID_FILE))));
        if let Database::Sqlite(file) = &config.database {
            locks.database(&Place::database(file))?;
        }
        Ok(locks)
    }

    /// Keeps the created files when the locks are dropped. Called when the server has started.
    pub fn keep(&mut self) {
        self.new.clear();
        self.logs.clear();
    }

    /// Creates a folder if it is missing, with its parents, and locks it.
    fn folder(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let path = std::path::absolute(place.path).map_err(|error| place.failed(error))?;
        let mut new: Vec<_> = missing(path.ancestors().map(Path::to_owned)).collect();
        new.reverse();
        self.new.extend(new);
        durable::create_dir_all(place.path).map_err(|error| place.failed(error))?;
        let real = place.path.canonicalize().map_err(|error| place.failed(error))?;
        self.lock(place, &real.join(IN_FOLDER))
    }

    /// Creates a database file if it is missing, and locks it.
    ///
    /// A file with a second hard link is refused: SQLite keeps a write-ahead log beside the name by which the
    /// file was opened, and a server that opens the other name would miss the changes in that log.
    fn database(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let (real, is_new) = real_file(place.path).map_err(|error| place.failed(error))?;
        let names = fs::metadata(&real).map_err(|error| place.failed(error))?.nlink();
        if names > 1 && real.is_file() {
            return Err(Error::new(format!(
                "the database {} is one of {names} names (hard links) of a file, and a server at another \
                 name would destroy it; keep one name, or make copies of the file",
                place.path.display()
            )));
        }
        self.lock(place, &beside(&real, BESIDE_DATABASE))?;
        // A new file that is still empty belongs to this start: another server may have written to any other.
        let is_own = is_new && fs::metadata(&real).is_ok_and(|found| found.len() == 0);
        self.new.extend(is_own.then(|| real.clone()));
        let made = if is_own { &mut self.new } else { &mut self.logs };
        made.extend(missing(OF_DATABASE.iter().map(|suffix| beside(&real, suffix))));
        Ok(())
    }

    /// Creates a lock file if it is missing, and locks it. Does nothing if these locks have it already, which
    /// is so where the blob folder is the data folder.
    fn lock(&mut self, place: &Place<'_>, lock: &Path) -> Result<(), Error> {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        loop {
            let (file, is_new) = make_file(lock).map_err(|error| place.failed(error))?;
            let wanted = file.metadata().map(identity).map_err(|error| place.failed(error))?;
            let is_same =
                |found: io::Result<fs::Metadata>| found.map(identity).ok() == Some(wanted);
            if self.files.iter().any(|held| is_same(held.metadata())) {
                return Ok(());
            }
            file.try_lock().map_err(|error| place.refused(lock, error))?;
            // Another start that failed may have removed the file before it was locked here: then try again.
            if is_same(fs::metadata(lock)) {
                self.files.push(file);
                self.new.extend(is_new.then(|| lock.to_owned()));
                return Ok(());
            }
        }
    }
}

impl Drop for Locks {
    /// Removes what a failed start has created. A folder that is not empty stays.
    fn drop(&mut self) {
        let is_shared_memory = |path: &&PathBuf| path.to_string_lossy().ends_with(SHARED_MEMORY);
        let has_log = self.logs.iter().filter(|path| !is_shared_memory(path)).any(|path| {
            // Unknown is not empty.
            fs::metadata(path)
                .map_or_else(|e| e.kind() != io::ErrorKind::NotFound, |it| it.len() > 0)
        });
        if !has_log {
            self.new.append(&mut self.logs);
        }
        for path in self.new.iter().rev() {
            fs::remove_file(path).or_else(|_| fs::remove_dir(path)).ok();
        }
    }
}

/// A resource to lock, as error messages name it.
#[derive(Debug)]
struct Place<'a> {
    what: &'static str,
    path: &'a Path,
    flag: &'static str,
}

impl<'a> Place<'a> {
    fn data(path: &'a Path) -> Self {
        Self { what: "data folder", path, flag: "--data" }
    }

    fn database(path: &'a Path) -> Self {
        Self { what: "database", path, flag: "--database" }
    }

    fn blobs(path: &'a Path) -> Self {
        Self { what: "blob folder", path, flag: "--blobs" }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::new(format!("cannot open the {} {}", self.what, self.path.display())).because(error)
    }

    /// The error for a lock file that could not be locked.
    fn refused(&self, lock: &Path, error: TryLockError) -> Error {
        let Self { what, path, flag } = self;
        let (path, lock) = (path.display(), lock.display());
        let error = match error {
            TryLockError::WouldBlock => {
                return Error::new(format!(
                    "another server has the {what} {path} open, and holds {lock}; stop it, or choose \
                     another {flag}"
                ));
            }
            TryLockError::Error(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS) => Error::new(format!(
                "the file system of the {what} {path} cannot lock {lock}, so that a second server \
                 could destroy the store; choose a {flag} on another file system"
            ))
            .because(error),
            _ => self.failed(error),
        }
    }
}

/// The real path of a file, and whether the file was created. A missing file is created. An existing file is not
/// opened: closing it would release the POSIX locks that this process has on it.
fn real_file(path: &Path) -> io::Result<(PathBuf, bool)> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (_, is_new) = make_file(path)?;
            Ok((path.canonicalize()?, is_new))
        }
        found => Ok((found?, false)),
    }
}

/// A database file, and the files that are made beside it.
pub(super) fn database_files(database: &Path) -> Vec<PathBuf> {
    let real = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let suffixes = OF_DATABASE.iter().chain([&BESIDE_DATABASE]);
    let mut files: Vec<_> = suffixes.map(|suffix| beside(&real, suffix)).collect();
    files.push(real);
    files
}

/// Opens a file, and creates it if it is missing. Returns whether it was missing.
fn make_file(path: &Path) -> io::Result<(File, bool)> {
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    Ok((file, is_new))
}

/// A path with a suffix added to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = OsString::from(path);
    beside.push(suffix);
    beside.into()
}

/// The paths that do not exist.
fn missing(paths: impl Iterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    paths.filter(|path| path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound))
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
