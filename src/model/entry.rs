//! What is at a path.

use crate::model::{Digest, StorePath};

/// The recursive totals of a folder, or of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files, at every depth.
    pub files: i64,
    /// Their logical bytes.
    pub bytes: i64,
}

/// The version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Fixed when the store is made.
    pub epoch_data_loss: i64,
    /// Fixed when the store is made.
    pub epoch_configuration: i64,
    /// Strictly rises with each write.
    pub number: i64,
}

/// What an entry is.
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
    /// Where it is.
    pub path: StorePath,
    /// Which it is.
    pub kind: EntryKind,
    /// Its totals; of a file: one file and its size.
    pub totals: Totals,
}

/// Everything about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file or folder.
    pub entry: Entry,
    /// BLAKE3 of the file's bytes, once it is known.
    pub digest: Option<Digest>,
    /// The digest of the file's list of parts.
    pub etag: Option<Digest>,
    /// Whether the folder has its mark file.
    pub has_mark_file: bool,
    /// The change tag of a folder, as [`Listing::change_tag`].
    pub change_tag: Option<String>,
}

/// A page of the entries of a folder, or the one file of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The entries of the page.
    pub items: Vec<Entry>,
    /// Where the next page begins; nothing after the last.
    pub next: Option<String>,
    /// Says nothing by itself. Two reads of a folder with the same tag show the same entries, with the same
    /// totals. None for a file.
    pub change_tag: Option<String>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The records of the page.
    pub items: Vec<T>,
    /// Where the next page begins; nothing after the last.
    pub next: Option<String>,
}

/// A number of files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: i64,
    /// Files, parts or objects.
    pub count: i64,
}

/// The space that the store uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Files and logical bytes, each copy counted.
    pub logical: Usage,
    /// Distinct parts.
    pub unique: Usage,
    /// Objects, and the bytes on disk of objects and namespace.
    pub on_disk: Usage,
    /// What upload sessions hold.
    pub staging: Usage,
    /// What waits to be freed; its bytes are an upper bound.
    pub garbage: Usage,
    /// The files below `Store`.
    pub registered: Usage,
    /// Bytes of the namespace database.
    pub metadata_bytes: u64,
    /// Distinct folders.
    pub folders: i64,
    /// The size of the file system.
    pub disk_capacity: u64,
    /// What is free there.
    pub disk_available: u64,
}
