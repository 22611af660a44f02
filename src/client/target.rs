//! Local files that are written atomically.
//!
//! A file is written under a temporary name beside its target, synced when it is complete, and then renamed. So a
//! target is either complete or absent, also after a power failure.
//!
//! **Invariants:** folders are used by their descriptor: a [`Folder`] stays the same one even if its path is replaced,
//! and no symbolic link below it is followed. Dropping [`TempFiles`], which the future of the work owns, removes all
//! temporary files; a blocking task that still runs cannot create another one after that.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat,
        linkat, mkdirat, openat, renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};
use uuid::Uuid;

use crate::client::error::{Error, Result};

/// The prefix of the names of temporary files.
const PARTIAL_BEGIN: &str = ".imagestore-";
/// The suffix of the names of temporary files.
const PARTIAL_END: &str = ".part";

/// What is done if the target file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The existing file stays, and the work fails with [`Error::Exists`].
    Refuse,
    /// The new file replaces the existing one atomically.
    Overwrite,
}

/// Whether a name is that of a temporary file, which a killed client leaves behind.
pub(super) fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_BEGIN) && name.ends_with(PARTIAL_END)
}

/// An open folder. Clones share the descriptor.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    file: Arc<File>,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; symbolic links in the path are followed. Blocks.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // The parent of a file name without a folder is the current folder.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = openat(rustix::fs::CWD, path, folder_flags() - OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { file: Arc::new(fd.into()), path: path.to_owned() })
    }

    /// Opens a folder; creates it and its parents durably if they are missing. Blocks.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let missing = match Self::open(path) {
            Ok(folder) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path,
            Err(error) => return Err(Error::local("make", path)(error)),
        };
        let parent = missing.parent().unwrap_or(Path::new("/"));
        match missing.file_name() {
            Some(name) => Self::make(parent)?.enter(name),
            // The path ends in `..` after a folder that does not exist.
            None => Err(Error::local("make", path)(Errno::NOENT.into())),
        }
    }

    /// Opens a subfolder, or creates it durably. A symbolic link is not followed. Blocks.
    fn enter(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let open = || openat(&self.file, name, folder_flags(), Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match mkdirat(&self.file, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => {
                    self.sync()?;
                    open()
                }
                // A parallel download into the same folder has created it.
                Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            opened => opened,
        };
        match opened {
            Ok(fd) => Ok(Self { file: Arc::new(fd.into()), path }),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => match self.look(name) {
                Ok(Some(found)) => Err(Error::NoFolder { path, what: what(&found) }),
                Ok(None) | Err(_) => Err(Error::local("make", path)(errno.into())),
            },
            Err(errno) => Err(Error::local("make", path)(errno.into())),
        }
    }

    /// The metadata of an entry of this folder, if it exists; a symbolic link is not followed.
    fn look(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the names in this folder durable, if the file system supports that. Blocks.
    pub(super) fn sync(&self) -> Result<()> {
        match self.file.sync_all() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(Error::local("write", &self.path)),
        }
    }
}

/// The flags with which a folder is opened.
fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The type of an entry, as text for an error.
fn what(found: &Stat) -> &'static str {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::Directory => "a folder",
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => "a device, a pipe or a socket",
    }
}

/// The target of a file: an open folder, and a name in it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    folder: Folder,
    name: OsString,
}

impl Target {
    /// The target of a local path, whose parent folder must exist. Blocks.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let folder = path.parent().map_or_else(|| Folder::open(path), Folder::open);
        let folder = folder.map_err(Error::local("write", path))?;
        Self::named(folder, path)
    }

    /// The target of a local path, whose parent folder is created if it is missing. Blocks.
    pub(super) fn make(path: &Path) -> Result<Self> {
        Self::named(Folder::make(path.parent().unwrap_or(path))?, path)
    }

    fn named(folder: Folder, path: &Path) -> Result<Self> {
        match path.file_name() {
            Some(name) => Ok(Self { folder, name: name.to_owned() }),
            None => Err(Error::NotReplaceable { path: path.to_owned(), what: "a folder" }),
        }
    }

    /// The target of a relative path below a folder; missing folders between them are created. Blocks.
    ///
    /// # Errors
    /// [`Error::NoFolder`] if a file or a symbolic link is in the place of one of those folders.
    pub(super) fn below(folder: &Folder, relative: &Path) -> Result<Self> {
        let mut folder = folder.clone();
        for name in relative.parent().into_iter().flat_map(Path::iter) {
            folder = folder.enter(name)?;
        }
        Self::named(folder, relative)
    }

    /// The path, for messages: the folder may have been moved since.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }

    /// Checks that the target may be written. Returns the metadata of the file to be overwritten, if there is one.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Exists`] for a file, unless `existing` allows to overwrite it; [`Error::NotReplaceable`] for anything else,
    /// such as a folder or a device, in either case.
    pub(super) fn refuse(&self, existing: Existing) -> Result<Option<Stat>> {
        let found = self.folder.look(&self.name).map_err(Error::local("read", self.path()))?;
        let Some(found) = found else { return Ok(None) };
        if !FileType::from_raw_mode(found.st_mode).is_file() {
            return Err(Error::NotReplaceable { path: self.path(), what: what(&found) });
        }
        match existing {
            Existing::Refuse => Err(Error::Exists(self.path())),
            Existing::Overwrite => Ok(Some(found)),
        }
    }

    /// Opens the target for reading, if it is a regular file of `size` bytes. Blocks.
    pub(super) fn open(&self, size: u64) -> Option<File> {
        // NONBLOCK: the open of a pipe does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.folder.file, &self.name, flags, Mode::empty()).ok()?;
        let file = File::from(fd);
        let fits = file.metadata().is_ok_and(|found| found.is_file() && found.len() == size);
        fits.then_some(file)
    }
}

/// The temporary files of one piece of work. Dropping it removes them.
#[derive(Debug, Default)]
pub(super) struct TempFiles(Arc<Register>);

impl TempFiles {
    /// The register in which blocking tasks enter the files that they create.
    pub(super) fn register(&self) -> Arc<Register> {
        Arc::clone(&self.0)
    }
}

impl Drop for TempFiles {
    fn drop(&mut self) {
        let mut entries = self.0.lock();
        entries.is_over = true;
        for (folder, name) in entries.files.drain(..) {
            unlinkat(&folder.file, name, AtFlags::empty()).ok();
        }
    }
}

/// The temporary files that exist.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    is_over: bool,
    files: Vec<(Folder, OsString)>,
}

impl Register {
    /// Creates a temporary file beside its target. The temporary name is of fixed length, because the target's name may
    /// be as long as the file system allows. A file that will replace another one is accessible to its owner only,
    /// until it takes over the permissions of the replaced file. Blocks.
    pub(super) fn create(self: Arc<Self>, target: Target, existing: Existing) -> Result<TempFile> {
        let replaced = target.refuse(existing)?;
        let mode = replaced.map_or(0o666, |old| old.st_mode & 0o700);
        let name = format!("{PARTIAL_BEGIN}{}{PARTIAL_END}", Uuid::new_v4().simple());
        let name = OsString::from(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut entries = self.lock();
        if entries.is_over {
            return Err(Error::local("write", target.path())(io::ErrorKind::Interrupted.into()));
        }
        let fd = openat(&target.folder.file, &name, flags, Mode::from_raw_mode(mode));
        let fd = fd.map_err(|errno| Error::local("write", target.path())(errno.into()))?;
        entries.files.push((target.folder.clone(), name.clone()));
        drop(entries);
        Ok(TempFile { register: self, target, name, file: fd.into() })
    }

    /// Removes a file from the register. Returns whether the file was in it.
    fn strike(&self, name: &OsStr) -> bool {
        let mut entries = self.lock();
        let place = entries.files.iter().position(|(_, entered)| entered == name);
        place.map(|place| entries.files.swap_remove(place)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A temporary file beside its target. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct TempFile {
    register: Arc<Register>,
    target: Target,
    name: OsString,
    file: File,
}

impl TempFile {
    /// The error of a failed write to the file; it names the target.
    pub(super) fn failed(&self, why: io::Error) -> Error {
        Error::local("write", self.target.path())(why)
    }

    /// Renames the file to its target, and makes the file and its name durable. Blocks.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::NotReplaceable`], also if the target was created after [`Register::create`].
    pub(super) fn keep(self, existing: Existing) -> Result<()> {
        let folder = self.target.folder.clone();
        self.name(existing)?;
        folder.sync()
    }

    /// Syncs the file and renames it to its target. The name is durable only after a sync of the folder. The file takes
    /// over the owner and permissions of a file that it replaces. Blocks.
    pub(super) fn name(self, existing: Existing) -> Result<()> {
        let failed = |why| self.failed(why);
        if let Some(old) = self.target.refuse(existing)? {
            self.take_over(&old).map_err(failed)?;
        }
        self.file.sync_all().map_err(failed)?;
        let (folder, name) = (&self.target.folder.file, &self.target.name);
        let named = match existing {
            Existing::Overwrite => {
                renameat(folder, &self.name, folder, name).inspect(|()| self.strike())
            }
            Existing::Refuse => {
                let flags = RenameFlags::NOREPLACE;
                match renameat_with(folder, &self.name, folder, name, flags) {
                    // The file system does not support NOREPLACE.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link(),
                    named => named.inspect(|()| self.strike()),
                }
            }
        };
        match named {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                self.target.refuse(existing)?;
                Err(Error::Exists(self.target.path()))
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Renames the file to its target if the target does not exist: adds a hard link, and removes the temporary name.
    fn link(&self) -> rustix::io::Result<()> {
        let (folder, name) = (&self.target.folder.file, &self.target.name);
        linkat(folder, &self.name, folder, name, AtFlags::empty())?;
        // If this fails, the file keeps both names until `TempFiles` is dropped.
        if unlinkat(folder, &self.name, AtFlags::empty()).is_ok() {
            self.strike();
        }
        Ok(())
    }

    /// Removes the temporary name from the register: no file has this name any more.
    fn strike(&self) {
        self.register.strike(&self.name);
    }

    /// Takes over the owner, if that is permitted, and the mode of the replaced file. If the group cannot be taken
    /// over, the group gets the permissions of others. The setuid and setgid bits are dropped, because the new file may
    /// be another program.
    fn take_over(&self, old: &Stat) -> io::Result<()> {
        let own = fstat(&self.file)?;
        let group = Some(Gid::from_raw(old.st_gid)).filter(|_| own.st_gid != old.st_gid);
        let user = Some(Uid::from_raw(old.st_uid)).filter(|_| own.st_uid != old.st_uid);
        let mut mode = old.st_mode & 0o777;
        if fchown(&self.file, user, group).is_err() && fchown(&self.file, None, group).is_err() {
            mode &= 0o707 | ((mode & 0o007) << 3);
        }
        if own.st_mode & 0o777 != mode {
            fchmod(&self.file, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.register.strike(&self.name) {
            unlinkat(&self.target.folder.file, &self.name, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests;
