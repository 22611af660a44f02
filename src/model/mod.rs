//! Plain values of the domain, independent of database, runtime and wire format.

mod backup;
mod blob_owner;
mod check;
mod conditions;
mod copy;
mod digest;
mod entry;
mod operation;
mod path;
mod position;
mod session;
mod token;
mod upgrade;

pub use backup::{
    BackupCounts, BackupEntry, BackupHeader, BackupPart, BackupRecord, BackupTarget, CopySource,
    FolderTag, Moved, Taken,
};
pub use blob_owner::BlobOwner;
pub use check::{CheckReport, CheckRequest, Finding, FindingKind};
pub use conditions::{Conditions, Found, Tags};
pub use copy::{CopyRequest, IfExists, Replaces, SkipFiles, reserved};
pub use digest::Digest;
pub use entry::{Entry, EntryKind, FileVersion, Info, Listing, Page, Stat, Totals, Usage};
pub use operation::{
    Operation, OperationError, OperationId, OperationKind, OperationState, Progress,
};
pub use path::{MARK_FILE, StorePath, folded};
pub use position::Position;
pub use session::{ByteRange, ChunkRange, Session, SessionId};
pub use token::Token;
pub use upgrade::Formats;
