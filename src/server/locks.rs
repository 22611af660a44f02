//! The locks on what a server uses: its data folder, its database file and its blob folder.
//!
//! Each is locked by a file beside or in what it stands for, found by its real path, so that neither
//! another spelling nor a symbolic link leads past it. Which settings named it does not matter: two
//! data folders with one database are one store.
//!
//! **Invariants:** while [`Locks`] live, no other process has any of the same. The locks are the
//! kernel's, so a killed server leaves none. The files stay after a stop. A start that fails removes what
//! it has made, while it holds the locks; so whoever has locked a file looks whether it still has its
//! name.
//!
//! **Deliberately absent:** a lock of a PostgreSQL database; its own connection takes that.

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
};

/// The lock file of a folder.
const IN_FOLDER: &str = "lock";
/// What the name of a database's lock file adds to that of the database.
const BESIDE_DATABASE: &str = ".lock";
/// What the names of the files that SQLite makes beside a database add to that.
const OF_DATABASE: [&str; 3] = ["-journal", "-shm", "-wal"];

/// What this process alone uses.
#[derive(Debug)]
pub struct Locks {
    /// Held for their locks.
    files: Vec<File>,
    /// What was not there before, each behind the folder that it is in.
    new: Vec<PathBuf>,
}

impl Locks {
    /// Locks all that a server with these settings uses, and makes the folders and the database file
    /// where they are missing. Unless [`Locks::keep`] is called, what was made is removed in the end.
    ///
    /// Blocks for some syncs of the disk.
    ///
    /// # Errors
    ///
    /// Something that another server uses, that cannot be made or written, or that lies on a file
    /// system without locks; a database file with several names.
    pub fn take(config: &Config) -> Result<Self, Error> {
        let mut locks = Self::without_blobs(config)?;
        locks.folder(&Place::blobs(&config.blobs))?;
        locks.new.extend(missing(blob::prefixes().map(|prefix| config.blobs.join(prefix))));
        Ok(locks)
    }

    /// The same but for the blob folder, where the parts are kept elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Locks::take`].
    pub fn without_blobs(config: &Config) -> Result<Self, Error> {
        let mut locks = Self { files: Vec::new(), new: Vec::new() };
        locks.folder(&Place::data(&config.data))?;
        if let Database::Sqlite(file) = &config.database {
            locks.database(&Place::database(file))?;
        }
        Ok(locks)
    }

    /// Keeps what was made: the server has started.
    pub fn keep(&mut self) {
        self.new.clear();
    }

    /// Makes a folder where it is missing, with its parents, and locks it.
    fn folder(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let path = std::path::absolute(place.path).map_err(|error| place.failed(error))?;
        let mut new: Vec<_> = missing(path.ancestors().map(Path::to_owned)).collect();
        new.reverse();
        self.new.extend(new);
        durable::create_dir_all(place.path).map_err(|error| place.failed(error))?;
        let real = place.path.canonicalize().map_err(|error| place.failed(error))?;
        self.lock(place, &real.join(IN_FOLDER))
    }

    /// Makes a database file where it is missing, and locks it.
    ///
    /// A file with a second hard link is refused: SQLite keeps a log beside each name, and what is in one
    /// log is missing at the other name.
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
        // It is this start's own if nobody has written to it before it was locked.
        if is_new && fs::metadata(&real).is_ok_and(|found| found.len() == 0) {
            self.new.push(real.clone());
        }
        self.new.extend(missing(OF_DATABASE.iter().map(|suffix| beside(&real, suffix))));
        Ok(())
    }

    /// Locks a file, which is made where it is missing, unless this process holds it already: the parts
    /// may be in the data folder itself.
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
            // A start that failed may have removed it before it was locked here.
            if is_same(fs::metadata(lock)) {
                self.files.push(file);
                self.new.extend(is_new.then(|| lock.to_owned()));
                return Ok(());
            }
        }
    }
}

impl Drop for Locks {
    /// Removes what a start that failed has made. A folder in which something else is stays.
    fn drop(&mut self) {
        for path in self.new.iter().rev() {
            fs::remove_file(path).or_else(|_| fs::remove_dir(path)).ok();
        }
    }
}

/// What is locked, in the words of its errors.
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

    /// Why a lock file could not be locked.
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

/// The real path of a file, which is made where it is missing, and whether it was. One that is there is not
/// opened: closing it would drop the locks that this process has on it.
fn real_file(path: &Path) -> io::Result<(PathBuf, bool)> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (_, is_new) = make_file(path)?;
            Ok((path.canonicalize()?, is_new))
        }
        found => Ok((found?, false)),
    }
}

/// Opens a file, and makes it where it is missing. Tells whether it was.
fn make_file(path: &Path) -> io::Result<(File, bool)> {
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    Ok((file, is_new))
}

/// A path with something added to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = OsString::from(path);
    beside.push(suffix);
    beside.into()
}

/// Those of some paths at which there is nothing.
fn missing(paths: impl Iterator<Item = PathBuf>) -> impl Iterator<Item = PathBuf> {
    paths.filter(|path| path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound))
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
