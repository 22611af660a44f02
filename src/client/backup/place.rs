//! The places of backups: a folder for many backups, or a file for one.
//!
//! A folder has each distinct part of its backups once, as `parts/ab/<digest>`, and the records of each backup as
//! `snapshots/<time>.manifest`. A file has the records, and the bytes of each part after the record of the part. Both
//! manifests and files are sequences of length-delimited `RestoreRequest` messages.
//!
//! **Invariants:** a file gets its name after its bytes are synced, and a manifest gets its name after all its parts
//! are durable. A file does not change after it has its name.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    client::{
        error::{Error, Result},
        target::{self, Existing, Register, Target, is_partial},
    },
    wire::v1::BackupPart,
};

const PARTS: &str = "parts";
const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = ".manifest";
/// The file that a running backup locks. The kernel releases the lock of a process that is killed.
const LOCK: &str = "lock";
/// The folder that a new, empty file system may have.
const LOST_AND_FOUND: &str = "lost+found";

/// A place for backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A file.
    File(PathBuf),
}

impl Place {
    /// A folder if the path is an existing folder or ends in `/`, else a file. Blocks.
    pub fn of(path: &Path) -> Self {
        let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if is_folder { Self::Folder(path.to_owned()) } else { Self::File(path.to_owned()) }
    }
}

/// A folder of backups.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The locked file; dropping the last clone releases the lock.
    _lock: Option<Arc<File>>,
}

impl Folder {
    /// A folder for reading, without the lock.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// Opens a folder for a backup: locks it, durably creates the missing subfolders, and removes unfinished files of
    /// backups that were killed. Blocks.
    ///
    /// # Errors
    /// [`Error::Place`] if the folder has other files and is no folder of backups, or another backup holds the lock.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let unfit = |why: &str| Error::Place { path: path.to_owned(), why: why.to_owned() };
        if !takes_backups(path)? {
            return Err(unfit(
                "it has files that are of no backup; name a folder of backups, an empty one, or a \
                 new one with a / at its end",
            ));
        }
        let folder = target::Folder::make(path)?;
        let lock = path.join(LOCK);
        let options = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = options.map_err(Error::local("write", &lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(unfit("another backup writes into it; wait until that has ended"));
            }
            Err(TryLockError::Error(error)) => return Err(Error::local("lock", lock)(error)),
        }
        let parts = target::Folder::make(&path.join(PARTS))?;
        target::Folder::make(&path.join(SNAPSHOTS))?;
        // An earlier backup may have been killed after it created the subfolders and before it synced them.
        parts.sync()?;
        folder.sync()?;
        let opened = Self { path: path.to_owned(), _lock: Some(Arc::new(file)) };
        opened.sweep()?;
        Ok(opened)
    }

    /// Removes the unfinished files of backups that were killed. The lock excludes those of a running backup.
    fn sweep(&self) -> Result<()> {
        let parts = self.path.join(PARTS);
        let mut folders = vec![self.path.join(SNAPSHOTS), parts.clone()];
        for (path, kind) in entries(&parts)? {
            if kind.is_dir() {
                folders.push(path);
            }
        }
        for folder in folders {
            for (path, kind) in entries(&folder)? {
                let name = path.file_name().and_then(|name| name.to_str());
                if kind.is_file() && name.is_some_and(is_partial) {
                    fs::remove_file(&path).map_err(Error::local("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// The file of a part.
    pub(super) fn part(&self, digest: &[u8; 32]) -> PathBuf {
        let [first, ..] = digest;
        let digest = blake3::Hash::from_bytes(*digest).to_hex();
        self.path.join(PARTS).join(format!("{first:02x}")).join(digest.as_str())
    }

    /// For each part of an offer, whether its file is missing or has another size. Blocks.
    pub(super) fn missing(&self, offer: &[BackupPart]) -> Result<Vec<bool>> {
        let mut missing = Vec::with_capacity(offer.len());
        for part in offer {
            let path = self.part(&digest(part)?);
            let there = match fs::metadata(&path) {
                Ok(found) => found.is_file() && found.len() == part.size_bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(Error::local("read", path)(error)),
            };
            missing.push(!there);
        }
        Ok(missing)
    }

    /// Writes and syncs the file of a part. [`Self::sync_parts`] makes its name durable. Blocks.
    pub(super) fn keep(
        &self,
        digest: &[u8; 32],
        pieces: &[Bytes],
        register: Arc<Register>,
    ) -> Result<()> {
        let path = self.part(digest);
        let mut file = register.create(Target::make(&path)?, Existing::Overwrite)?;
        for piece in pieces {
            file.write_all(piece).map_err(Error::local("write", &path))?;
        }
        file.name(Existing::Overwrite)
    }

    /// Makes the names of the parts whose digests have these first bytes durable. Blocks.
    pub(super) fn sync_parts(&self, firsts: impl Iterator<Item = u8>) -> Result<()> {
        let parts = self.path.join(PARTS);
        for first in firsts {
            sync(&parts.join(format!("{first:02x}")))?;
        }
        sync(&parts)
    }

    /// The file of the records of a snapshot.
    pub(super) fn manifest(&self, name: &str) -> PathBuf {
        self.path.join(SNAPSHOTS).join(format!("{name}{MANIFEST}"))
    }

    /// The manifest of the snapshot with this name, or of the newest one. Blocks.
    pub(super) fn find(&self, name: Option<&str>) -> Result<PathBuf> {
        let folder = self.path.join(SNAPSHOTS);
        let mut names = Vec::new();
        let unfit = |why: String| Error::Backup { path: self.path.clone(), why };
        let found = match fs::read_dir(&folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unfit("it is no folder of backups".to_owned()));
            }
            Err(error) => return Err(Error::local("read", folder)(error)),
        };
        for entry in found {
            let entry = entry.map_err(Error::local("read", &folder))?;
            let file = entry.file_name();
            names.extend(
                file.to_str().and_then(|name| name.strip_suffix(MANIFEST)).map(str::to_owned),
            );
        }
        names.sort_unstable();
        let Some(newest) = names.last() else {
            return Err(unfit("it has no snapshot that was finished".to_owned()));
        };
        // The file name of the manifest is accepted too, because folder listings and results show it.
        match name.map(|name| name.strip_suffix(MANIFEST).unwrap_or(name)) {
            None => Ok(self.manifest(newest)),
            Some(name) if names.iter().any(|found| found == name) => Ok(self.manifest(name)),
            Some(name) => {
                Err(unfit(format!("it has no snapshot {name:?}; the newest one is {newest}")))
            }
        }
    }
}

/// The digest of a part from the server or a backup; it must have 32 bytes.
pub(super) fn digest(part: &BackupPart) -> Result<[u8; 32]> {
    let digest = <[u8; 32]>::try_from(part.digest.as_ref());
    digest.map_err(|_| Error::Answer("the digest of a part has not 32 bytes".to_owned()))
}

/// Whether backups may go into a folder: one that does not exist, is empty, or has the files that backups create.
fn takes_backups(path: &Path) -> Result<bool> {
    let found = match entries(path) {
        Ok(found) => found,
        Err(Error::Local { why, .. }) if why.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let is_folder = |name| found.iter().any(|(path, kind)| path.ends_with(name) && kind.is_dir());
    let ours =
        |path: &Path| [PARTS, SNAPSHOTS, LOCK, LOST_AND_FOUND].iter().any(|it| path.ends_with(it));
    let begun = is_folder(PARTS) && is_folder(SNAPSHOTS);
    Ok(begun || found.iter().all(|(path, _)| ours(path)))
}

/// The entries of a folder: path and type.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, fs::FileType)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.path(), entry.file_type()?))
    };
    let found = fs::read_dir(folder).and_then(|found| found.map(entry).collect());
    found.map_err(Error::local("read", folder))
}

/// Makes the names in a folder durable. Blocks.
fn sync(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::local("write", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::target::TempFiles;

    #[test]
    fn only_a_folder_of_backups_or_an_empty_one_is_taken() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("new");
        fs::create_dir_all(path.join(LOST_AND_FOUND)).expect("an empty disk");
        drop(Folder::open(&path).expect("empty"));
        fs::write(path.join("notes"), "").expect("written");
        drop(Folder::open(&path).expect("a folder of backups"));
        fs::remove_dir(path.join(PARTS)).expect("removed");
        for other in [&path, temp.path()] {
            let why = Folder::open(other).expect_err("other files").to_string();
            assert!(why.contains("it has files that are of no backup"), "{why}");
            assert!(!other.join(PARTS).exists());
        }
    }

    #[test]
    fn a_second_backup_waits_and_then_sweeps() {
        let temp = tempfile::tempdir().expect("a folder");
        let first = Folder::open(temp.path()).expect("made");
        let part = first.part(blake3::hash(b"a").as_bytes());
        fs::create_dir(part.parent().expect("a folder")).expect("made");
        fs::write(&part, "a").expect("written");
        let left = [part.with_file_name("x"), first.manifest("x")]
            .map(|path| path.with_file_name(".imagestore-1.part"));
        for path in &left {
            fs::write(path, "").expect("written");
        }
        let why = Folder::open(temp.path()).expect_err("locked").to_string();
        assert!(why.contains("another backup writes into it"), "{why}");
        assert!(left.iter().all(|path| path.exists()));
        drop(first);
        Folder::open(temp.path()).expect("open");
        assert!(!left.iter().any(|path| path.exists()));
        assert!(part.exists());
    }

    #[test]
    fn a_slash_or_a_folder_makes_a_folder() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a");
        assert_eq!(Place::of(&path), Place::File(path.clone()));
        let slash = path.join("");
        assert_eq!(Place::of(&slash), Place::Folder(slash.clone()));
        fs::create_dir(&path).expect("made");
        assert_eq!(Place::of(&path), Place::Folder(path.clone()));
    }

    #[test]
    fn the_newest_snapshot_is_found() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(&temp.path().join("new"));
        let why = |name| folder.find(name).expect_err("none").to_string();
        assert!(why(None).ends_with("it is no folder of backups"), "{}", why(None));
        drop(Folder::open(&temp.path().join("new")).expect("made"));
        drop(Folder::open(&temp.path().join("new")).expect("there already"));
        assert!(why(None).ends_with("it has no snapshot that was finished"), "{}", why(None));
        for name in ["2026-01-02", "2027-01-01", "2026-12-31"] {
            fs::write(folder.manifest(name), b"").expect("written");
        }
        fs::write(temp.path().join("new/snapshots/.imagestore-x.part"), b"").expect("written");
        assert_eq!(folder.find(None).expect("one"), folder.manifest("2027-01-01"));
        let named = folder.find(Some("2026-12-31")).expect("one");
        assert_eq!(named, folder.manifest("2026-12-31"));
        assert_eq!(folder.find(Some("2026-12-31.manifest")).expect("one"), named);
        assert!(why(Some("2025")).contains("the newest one is 2027-01-01"));
    }

    #[test]
    fn only_a_part_of_the_right_size_is_there() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(temp.path());
        let part = |bytes: &[u8]| BackupPart {
            digest: Bytes::copy_from_slice(blake3::hash(bytes).as_bytes()),
            size_bytes: bytes.len() as u64,
        };
        let offer = [part(b"one"), part(b"three")];
        assert_eq!(folder.missing(&offer).expect("looked"), [true, true]);
        let partials = TempFiles::default();
        for (bytes, pieces) in
            [("one", vec!["o".into(), "ne".into()]), ("three", vec!["thr".into()])]
        {
            let digest = blake3::hash(bytes.as_bytes());
            folder.keep(digest.as_bytes(), &pieces, partials.register()).expect("kept");
        }
        assert_eq!(folder.missing(&offer).expect("looked"), [false, true]);
    }
}
