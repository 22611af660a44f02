//! Entries of the namespace, their listings, and the space that the store uses.

use crate::model::{Digest, StorePath};

/// The totals of a folder, or of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of files, at every depth.
    pub files: i64,
    /// The bytes of these files; each copy counts.
    pub bytes: i64,
}

/// The version of a file. Versions are compared field by field, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Set when the store is made, and raised when its database has lost commits.
    pub epoch_data_loss: i64,
    /// Set when the store is made.
    pub epoch_configuration: i64,
    /// Strictly increases with each write.
    pub number: i64,
}

/// The kind of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its version.
        version: FileVersion,
        /// When it was uploaded, in microseconds since 1970.
        modified: i64,
    },
}

/// A file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: StorePath,
    /// Whether it is a file or a folder.
    pub kind: EntryKind,
    /// Its totals; for a file: one file and its size.
    pub totals: Totals,
}

/// The metadata of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file or folder.
    pub entry: Entry,
    /// BLAKE3 of the bytes of a file, if the store has computed it.
    pub digest: Option<Digest>,
    /// The entity tag of a file: the digest of its list of parts. None for a folder.
    pub etag: Option<Digest>,
    /// Whether a folder has its mark file.
    pub has_mark_file: bool,
    /// The change tag of a folder, see [`Listing::change_tag`].
    pub change_tag: Option<String>,
}

/// A page of the entries of a folder, or the one file of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entries of the page.
    pub items: Vec<Entry>,
    /// The token of the next page; none on the last page.
    pub next: Option<String>,
    /// An opaque version of a folder: two reads with the same tag show the same entries with the same totals.
    /// None for a file, and for a partial listing.
    pub change_tag: Option<String>,
    /// Whether entries that the caller may not see were left out.
    pub is_partial: bool,
}

impl Listing {
    /// A listing from which entries were left out, without entries so far.
    pub fn partial() -> Self {
        Self { items: Vec::new(), next: None, change_tag: None, is_partial: true }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The records of the page.
    pub items: Vec<T>,
    /// The token of the next page; none on the last page.
    pub next: Option<String>,
}

/// A number of files, parts or objects, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: i64,
    /// Number of files, parts or objects.
    pub count: i64,
}

/// The space that the store uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Files and logical bytes, each copy counted.
    pub logical: Usage,
    /// Distinct parts.
    pub unique: Usage,
    /// Objects; the bytes are those of objects and of the namespace database.
    pub on_disk: Usage,
    /// The chunks of upload sessions.
    pub staging: Usage,
    /// The queue of garbage; its bytes are an upper bound.
    pub garbage: Usage,
    /// The files below `Store`.
    pub registered: Usage,
    /// Bytes of the namespace database.
    pub metadata_bytes: u64,
    /// Distinct folders.
    pub folders: i64,
    /// The size in bytes of the file system with the data folder.
    pub disk_capacity: u64,
    /// The free bytes of that file system.
    pub disk_available: u64,
}
