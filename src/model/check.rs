//! The request, reports and findings of a check of the store.

use crate::model::StorePath;

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// An entry refers to a content or folder that is missing, or to both.
    EntryTarget,
    /// The size in an entry of a file differs from that of its content.
    EntrySize,
    /// The folded name of an entry is wrong, so that look-ups miss the entry.
    EntryFolded,
    /// Entries of a folder that does not exist.
    EntryOrphan,
    /// The totals of a folder differ from a recount, or its reach is too small.
    FolderTotals,
    /// A folder below the root holds nothing.
    FolderEmpty,
    /// The list of parts of a content is missing, has gaps, or is not the one that was stored.
    ContentParts,
    /// A list of parts whose content does not exist.
    ContentOrphan,
    /// Nothing refers to a folder, content or part, and it is not queued as garbage.
    Unreferenced,
    /// The row of a part has neither inline bytes nor an object, or both.
    PartPlace,
    /// The object of a part is missing.
    PartMissing,
    /// The bytes of a part are not those that were stored.
    PartDamaged,
    /// An object that no row names.
    ObjectUnknown,
    /// Objects that cannot be listed, so that unknown ones among them are not found.
    ObjectsUnlisted,
    /// The received bytes of a session differ from those of its chunks.
    SessionReceived,
    /// The chunks of a session overlap or are damaged.
    SessionChunks,
    /// Chunks whose session does not exist.
    ChunkOrphan,
    /// A sum over the whole store differs from a recount.
    StoreSums,
}

/// An inconsistency that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of inconsistency.
    pub kind: FindingKind,
    /// A description for people. It names store paths and never an object key.
    pub message: String,
    /// The paths that are affected, at most [`CHECK_PATHS_MAX`](crate::limits::CHECK_PATHS_MAX).
    pub paths: Vec<StorePath>,
    /// Whether more paths are affected.
    pub more_paths: bool,
    /// Whether the check has repaired it.
    pub repaired: bool,
}

/// The options of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Reads every part and verifies its digest.
    pub deep: bool,
    /// Repairs the findings that are safe to repair.
    pub repair: bool,
}

/// The progress of a check. Counters are those since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows that were read.
    pub rows: u64,
    /// Parts in objects that were looked at.
    pub objects: u64,
    /// Bytes of parts that were read.
    pub bytes: u64,
    /// The findings since the previous report.
    pub findings: Vec<Finding>,
    /// The number of all findings.
    pub total: u64,
    /// The number of findings that were repaired.
    pub repaired: u64,
    /// Whether this is the last report.
    pub done: bool,
}
