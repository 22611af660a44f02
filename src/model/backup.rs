//! The records of a backup.
//!
//! Parts, contents and folders are numbered in the order of their records, each kind from 0, and a
//! record refers only to earlier records. So a backup is written and read in one pass and keeps what folders
//! and contents share: a tree of 10^15 files that consists of copies is as small as in the store.

use crate::model::{Digest, FileVersion, Totals};

/// The header of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHeader {
    /// The format of the records.
    pub format: u32,
    /// The snapshot that the backup contains.
    pub taken: Taken,
    /// An estimate of the contents and the bytes of parts to come, for progress.
    pub expected: Totals,
    /// The store and its state, if the backup is for a copy of the store.
    pub source: Option<CopySource>,
}

/// The store of which another one is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// Its id, which is never 0.
    pub store: i64,
    /// The number of its changes.
    pub changes: i64,
}

/// The state of a folder. Folders of one store with the same tag are equal, with everything below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderTag {
    /// Its id, which is never used twice.
    pub id: i64,
    /// The number of changes of the folder and below it.
    pub changes: i64,
}

/// The identity and size of a snapshot of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When it was taken, in microseconds since 1970.
    pub at: i64,
    /// The version of the last write.
    pub version: FileVersion,
    /// The totals of the root.
    pub totals: Totals,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupPart {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: i64,
}

/// The target of an entry, by its number in the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupTarget {
    /// A folder.
    Folder(u64),
    /// A file.
    File {
        /// The number of its content.
        content: u64,
        /// The number of its version.
        version: i64,
        /// When it was uploaded, in microseconds since 1970.
        modified: i64,
    },
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupEntry {
    /// Its name.
    pub name: String,
    /// Its target.
    pub target: BackupTarget,
}

/// The numbers of records in a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupCounts {
    /// Parts.
    pub parts: u64,
    /// Bytes of the parts.
    pub part_bytes: u64,
    /// Contents.
    pub contents: u64,
    /// Folders.
    pub folders: u64,
    /// Entries.
    pub entries: u64,
}

impl BackupCounts {
    /// Counts a record.
    pub fn add(&mut self, record: &BackupRecord) {
        match record {
            BackupRecord::Part(part) => {
                self.parts += 1;
                self.part_bytes += part.size as u64;
            }
            BackupRecord::Content { .. } => self.contents += 1,
            BackupRecord::Folder(_) => self.folders += 1,
            BackupRecord::Entries(entries) => self.entries += entries.len() as u64,
            BackupRecord::Header(_)
            | BackupRecord::List(_)
            | BackupRecord::Known(_)
            | BackupRecord::Tag(_)
            | BackupRecord::Footer(_) => {}
        }
    }
}

/// A record of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRecord {
    /// The first record.
    Header(BackupHeader),
    /// A part.
    Part(BackupPart),
    /// The numbers of parts of the next content, in order; a long list takes several records.
    List(Vec<u64>),
    /// A content.
    Content {
        /// BLAKE3 of its bytes, if the store has computed it.
        digest: Option<Digest>,
        /// Its size in bytes.
        size: i64,
    },
    /// Entries of the next folder; many entries take several records.
    Entries(Vec<BackupEntry>),
    /// A folder, with its totals; the last folder is the root.
    Folder(Totals),
    /// For a copy: a folder that the reader of the backup has. It has the next number of a folder.
    Known(FolderTag),
    /// For a copy: the tag of the folder before.
    Tag(FolderTag),
    /// The last record.
    Footer(BackupCounts),
}

/// What a migration has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many times the source was read.
    pub passes: u32,
    /// The totals of both stores at the end.
    pub totals: Totals,
    /// The parts, and their bytes, that were moved; the others were in the target.
    pub parts: u64,
    /// The bytes of these parts.
    pub bytes: u64,
    /// The folders that were moved; the others were in the target.
    pub folders: u64,
    /// The number of tokens that the target took over, from a source that was stopped.
    pub tokens: Option<u64>,
}
