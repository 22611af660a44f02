//! Files on this side that are written whole.
//!
//! A file is filled under another name beside its target, synced, and given its name when it is whole;
//! so a target is either complete or not there, also after a power failure.
//!
//! **Invariants:** a folder that was opened stays the same one, whatever is put in the place of its path
//! meanwhile, and no link below it is followed. What has not got its name is removed by whoever drops the
//! [`Partials`], which stay with the work's future; a thread that still writes cannot begin another.

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

/// How the name of a file begins that is being filled.
const PARTIAL_BEGIN: &str = ".imagestore-";
/// How it ends.
const PARTIAL_END: &str = ".part";

/// What is done with a file that exists on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is not touched, and the work is refused.
    Refuse,
    /// The new file comes in its place, whole.
    Overwrite,
}

/// Whether a file has the name of one that was being filled; a client that is killed leaves it.
pub(super) fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_BEGIN) && name.ends_with(PARTIAL_END)
}

/// A folder that is open. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    file: Arc<File>,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder; links on the way to it are followed. Blocks.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // The folder of a file that is named without one.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = openat(rustix::fs::CWD, path, folder_flags() - OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { file: Arc::new(fd.into()), path: path.to_owned() })
    }

    /// Opens a folder, and makes it and its parents durably where they are missing. Blocks.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let missing = match Self::open(path) {
            Ok(folder) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => path,
            Err(error) => return Err(Error::local("make", path)(error)),
        };
        let parent = missing.parent().unwrap_or(Path::new("/"));
        match missing.file_name() {
            Some(name) => Self::make(parent)?.enter(name),
            // It ends in `..`, of what is not there.
            None => Err(Error::local("make", path)(Errno::NOENT.into())),
        }
    }

    /// Opens a folder in this one, or makes it durably. A link is not followed. Blocks.
    fn enter(&self, name: &OsStr) -> Result<Self> {
        let path = self.path.join(name);
        let open = || openat(&self.file, name, folder_flags(), Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match mkdirat(&self.file, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => {
                    self.sync()?;
                    open()
                }
                // Another file of the same folder was faster.
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

    /// What has a name in this folder; a link is not followed.
    fn look(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes the names in it durable, where the file system can. Blocks.
    pub(super) fn sync(&self) -> Result<()> {
        match self.file.sync_all() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced.map_err(Error::local("write", &self.path)),
        }
    }
}

/// How a folder is opened.
fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// What something is that is no regular file.
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

/// Where a file goes: a folder that is open, and a name in it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    folder: Folder,
    name: OsString,
}

impl Target {
    /// A path as the user named it, in a folder that exists. Blocks.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let folder = path.parent().map_or_else(|| Folder::open(path), Folder::open);
        let folder = folder.map_err(Error::local("write", path))?;
        Self::named(folder, path)
    }

    /// A path as the user named it; its folder is made where it is missing. Blocks.
    pub(super) fn make(path: &Path) -> Result<Self> {
        Self::named(Folder::make(path.parent().unwrap_or(path))?, path)
    }

    fn named(folder: Folder, path: &Path) -> Result<Self> {
        match path.file_name() {
            Some(name) => Ok(Self { folder, name: name.to_owned() }),
            None => Err(Error::Occupied { path: path.to_owned(), what: "a folder" }),
        }
    }

    /// A path below a folder; the folders between them are made where they are missing. Blocks.
    ///
    /// # Errors
    /// [`Error::NoFolder`] where one of them is something else, as a link is.
    pub(super) fn below(folder: &Folder, relative: &Path) -> Result<Self> {
        let mut folder = folder.clone();
        for name in relative.parent().into_iter().flat_map(Path::iter) {
            folder = folder.enter(name)?;
        }
        Self::named(folder, relative)
    }

    /// The path, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path.join(&self.name)
    }

    /// Refuses to overwrite a file, unless that is allowed, and what is none in any case: nobody means
    /// to put a file in the place of a device. Returns the file that there is. Blocks.
    pub(super) fn refuse(&self, existing: Existing) -> Result<Option<Stat>> {
        let found = self.folder.look(&self.name).map_err(Error::local("read", self.path()))?;
        let Some(found) = found else { return Ok(None) };
        if !FileType::from_raw_mode(found.st_mode).is_file() {
            return Err(Error::Occupied { path: self.path(), what: what(&found) });
        }
        match existing {
            Existing::Refuse => Err(Error::Exists(self.path())),
            Existing::Overwrite => Ok(Some(found)),
        }
    }

    /// Opens the file that there is, if it has so many bytes. Blocks.
    pub(super) fn open(&self, size: u64) -> Option<File> {
        // A pipe is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.folder.file, &self.name, flags, Mode::empty()).ok()?;
        let file = File::from(fd);
        let fits = file.metadata().is_ok_and(|found| found.is_file() && found.len() == size);
        fits.then_some(file)
    }
}

/// The files that one piece of work fills. Dropping it removes them.
#[derive(Debug, Default)]
pub(super) struct Partials(Arc<Register>);

impl Partials {
    /// Where threads of the work enter what they begin.
    pub(super) fn register(&self) -> Arc<Register> {
        Arc::clone(&self.0)
    }
}

impl Drop for Partials {
    fn drop(&mut self) {
        let mut entries = self.0.lock();
        entries.is_over = true;
        for (folder, name) in entries.files.drain(..) {
            unlinkat(&folder.file, name, AtFlags::empty()).ok();
        }
    }
}

/// Which files are being filled.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    is_over: bool,
    files: Vec<(Folder, OsString)>,
}

impl Register {
    /// Begins a file beside its target. Its name does not grow with that of the target, which may have
    /// all the length that the file system allows. One that replaces a file is for its owner alone
    /// until it has the rights of that one. Blocks.
    pub(super) fn create(self: Arc<Self>, target: Target, existing: Existing) -> Result<Partial> {
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
        Ok(Partial { register: self, target, name, file: fd.into() })
    }

    /// Strikes a file off. Whether it was there.
    fn strike(&self, name: &OsStr) -> bool {
        let mut entries = self.lock();
        let place = entries.files.iter().position(|(_, entered)| entered == name);
        place.map(|place| entries.files.swap_remove(place)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being filled, beside its target. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Partial {
    register: Arc<Register>,
    target: Target,
    name: OsString,
    file: File,
}

impl Partial {
    /// The error of a call that failed on it.
    pub(super) fn failed(&self, why: io::Error) -> Error {
        Error::local("write", self.target.path())(why)
    }

    /// Gives the file its name, and makes both durable. Blocks.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::Occupied`], also where the target came into being meanwhile.
    pub(super) fn keep(self, existing: Existing) -> Result<()> {
        let folder = self.target.folder.clone();
        self.name(existing)?;
        folder.sync()
    }

    /// Makes its bytes durable and gives the file its name; who needs the name to last syncs the
    /// folder. A file that it replaces leaves it its rights. Blocks.
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
                    // This file system does not know it.
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

    /// Gives the file its name where nothing has it, by a second name.
    fn link(&self) -> rustix::io::Result<()> {
        let (folder, name) = (&self.target.folder.file, &self.target.name);
        linkat(folder, &self.name, folder, name, AtFlags::empty())?;
        // Where this fails it has a name too many, and loses it when the register is dropped.
        if unlinkat(folder, &self.name, AtFlags::empty()).is_ok() {
            self.strike();
        }
        Ok(())
    }

    /// Forgets the first name, which no file has any more.
    fn strike(&self) {
        self.register.strike(&self.name);
    }

    /// Takes over the owner of a file, where that is allowed, and its mode. Where the group differs,
    /// it gets no more than everybody. What runs a program as its owner is not taken over, because it
    /// is another program.
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

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.register.strike(&self.name) {
            unlinkat(&self.target.folder.file, &self.name, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests;
