//! Where backups are kept: a folder that many share, or one file each.
//!
//! A folder has the parts of all its backups once, `parts/ab/<digest>`, and for each backup the stream
//! of its records, `snapshots/<time>.manifest`. A file has the records with the bytes of each part
//! behind its record. Either is a sequence of messages of `Restore`, each with its length before it.
//!
//! **Invariants:** a file gets its name when all its bytes are on disk, and a manifest when all its
//! parts are. Nothing that has its name changes.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    client::{
        download::{Existing, Partial},
        error::{Error, Result},
    },
    wire::v1::BackupPart,
};

const PARTS: &str = "parts";
const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = ".manifest";

/// A place for backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A file.
    File(PathBuf),
}

impl Place {
    /// A folder if there is one or the path ends with a slash, else a file.
    pub fn of(path: &Path) -> Self {
        let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if is_folder { Self::Folder(path.to_owned()) } else { Self::File(path.to_owned()) }
    }
}

/// A folder of backups.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes what is missing of it, durably. Blocks.
    pub(super) fn create(&self) -> Result<()> {
        let failed = |path: &Path, error| Error::local("make", path)(error);
        for folder in [self.0.join(PARTS), self.0.join(SNAPSHOTS)] {
            fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        }
        let absolute = std::path::absolute(&self.0).map_err(|error| failed(&self.0, error))?;
        for above in [Some(absolute.as_path()), absolute.parent()].into_iter().flatten() {
            sync(above)?;
        }
        Ok(())
    }

    /// Where the bytes of a part are.
    pub(super) fn part(&self, digest: &[u8; 32]) -> PathBuf {
        let [first, ..] = digest;
        let digest = blake3::Hash::from_bytes(*digest).to_hex();
        self.0.join(PARTS).join(format!("{first:02x}")).join(digest.as_str())
    }

    /// Which parts of an offer are missing. Blocks.
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

    /// Keeps the bytes of a part; its folder is synced later. Blocks.
    pub(super) fn keep(&self, digest: &[u8; 32], pieces: &[Bytes]) -> Result<()> {
        let path = self.part(digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::local("make", folder))?;
        }
        let (partial, mut file) = Partial::create(&path)?;
        for piece in pieces {
            file.write_all(piece).map_err(Error::local("write", &path))?;
        }
        file.sync_all().map_err(Error::local("write", &path))?;
        partial.keep(&path, Existing::Overwrite)
    }

    /// Makes the names of all parts durable, or of those with these first bytes. Blocks.
    pub(super) fn sync_parts(&self, firsts: impl Iterator<Item = u8>) -> Result<()> {
        let parts = self.0.join(PARTS);
        for first in firsts {
            sync(&parts.join(format!("{first:02x}")))?;
        }
        sync(&parts)
    }

    /// The file of a snapshot.
    pub(super) fn manifest(&self, name: &str) -> PathBuf {
        self.0.join(SNAPSHOTS).join(format!("{name}{MANIFEST}"))
    }

    /// The snapshot of a name, or the newest one. Blocks.
    pub(super) fn find(&self, name: Option<&str>) -> Result<PathBuf> {
        let folder = self.0.join(SNAPSHOTS);
        let mut names = Vec::new();
        let unfit = |why: String| Error::Backup { path: self.0.clone(), why };
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
        // That of the file, as it is listed and told, is as good.
        match name.map(|name| name.strip_suffix(MANIFEST).unwrap_or(name)) {
            None => Ok(self.manifest(newest)),
            Some(name) if names.iter().any(|found| found == name) => Ok(self.manifest(name)),
            Some(name) => {
                Err(unfit(format!("it has no snapshot {name:?}; the newest one is {newest}")))
            }
        }
    }
}

/// The digest of a part of the server.
pub(super) fn digest(part: &BackupPart) -> Result<[u8; 32]> {
    let digest = <[u8; 32]>::try_from(part.digest.as_ref());
    digest.map_err(|_| Error::Answer("the digest of a part has not 32 bytes".to_owned()))
}

/// Makes the names in a folder durable. Blocks.
pub(super) fn sync(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::local("write", folder))
}

/// Makes the name of a file durable. Blocks.
pub(super) fn sync_name(file: &Path) -> Result<()> {
    match std::path::absolute(file).map_err(Error::local("write", file))?.parent() {
        Some(folder) => sync(folder),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        folder.create().expect("made");
        folder.create().expect("there already");
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
        folder.keep(blake3::hash(b"one").as_bytes(), &["o".into(), "ne".into()]).expect("kept");
        folder.keep(blake3::hash(b"three").as_bytes(), &["thr".into()]).expect("kept");
        assert_eq!(folder.missing(&offer).expect("looked"), [false, true]);
    }
}
