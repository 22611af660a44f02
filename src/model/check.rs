//! What a check of the store finds.

use crate::model::StorePath;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// An entry refers to a content or folder that is missing, or to both.
    EntryTarget,
    /// A file has another size than its content.
    EntrySize,
    /// The folded name is wrong, so that look-ups miss the entry.
    EntryFolded,
    /// Entries of a folder that is gone.
    EntryOrphan,
    /// The totals of a folder differ from a recount, or paths reach farther below it than it says.
    FolderTotals,
    /// A folder below the root holds nothing.
    FolderEmpty,
    /// The parts of a content are missing, have gaps, or are not those that were stored.
    ContentParts,
    /// A list of parts whose content is gone.
    ContentOrphan,
    /// Nothing refers to it, and it is not garbage.
    Unreferenced,
    /// A part has its bytes nowhere, or in two places.
    PartPlace,
    /// The object of a part is missing.
    PartMissing,
    /// The bytes of a part are not those that were stored.
    PartDamaged,
    /// An object that no row knows.
    ObjectUnknown,
    /// Objects that cannot be listed, so that those which no row knows are not found.
    ObjectsUnlisted,
    /// A session counts other bytes than its chunks have.
    SessionReceived,
    /// The chunks of a session overlap or are damaged.
    SessionChunks,
    /// Chunks whose session is gone.
    ChunkOrphan,
    /// A sum that the store keeps of itself differs from a recount.
    StoreSums,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The same for people. It names store paths and never an object key.
    pub message: String,
    /// The paths that it concerns, at most [`CHECK_PATHS_MAX`](crate::limits::CHECK_PATHS_MAX).
    pub paths: Vec<StorePath>,
    /// Whether it concerns more paths.
    pub more_paths: bool,
    /// Whether it is repaired.
    pub repaired: bool,
}

/// What a check does beside looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Reads every part and compares its digest.
    pub deep: bool,
    /// Repairs what is safe to repair.
    pub repair: bool,
}

/// How far a check is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows looked at.
    pub rows: u64,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes of parts that were read.
    pub bytes: u64,
    /// What was found since the report before.
    pub findings: Vec<Finding>,
    /// How much was found in all.
    pub total: u64,
    /// How much of it was repaired.
    pub repaired: u64,
    /// Whether this is the last report.
    pub done: bool,
}
