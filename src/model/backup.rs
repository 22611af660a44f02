//! The records of a backup.
//!
//! Parts, contents and folders are numbered in the order of their records, each kind from 0, and a
//! record refers only to those before it. So a backup is written and read in one pass, sharing
//! survives, and a tree of 10^15 files of copies of copies is as small as the store has it.

use crate::model::{Digest, FileVersion, Totals};

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHeader {
    /// The format of the records.
    pub format: u32,
    /// The snapshot that it shows.
    pub taken: Taken,
    /// About how many contents and bytes of parts will come, for progress.
    pub expected: Totals,
}

/// A snapshot of the whole store.
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
    /// Its size.
    pub size: i64,
}

/// What an entry refers to, by its number in the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupTarget {
    /// A folder.
    Folder(u64),
    /// A file.
    File {
        /// Its content.
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
    /// What it refers to.
    pub target: BackupTarget,
}

/// How much a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupCounts {
    /// Parts.
    pub parts: u64,
    /// Their bytes.
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
            BackupRecord::Header(_) | BackupRecord::List(_) | BackupRecord::Footer(_) => {}
        }
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRecord {
    /// The first one.
    Header(BackupHeader),
    /// A part.
    Part(BackupPart),
    /// Parts of the content that comes next.
    List(Vec<u64>),
    /// A content.
    Content {
        /// BLAKE3 of its bytes, once it is known.
        digest: Option<Digest>,
        /// Its size.
        size: i64,
    },
    /// Entries of the folder that comes next.
    Entries(Vec<BackupEntry>),
    /// A folder, with its totals; the last one is the root.
    Folder(Totals),
    /// The last one.
    Footer(BackupCounts),
}
