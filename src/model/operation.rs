//! A long-running piece of work, as everybody may see it.

use std::fmt;

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    model::StorePath,
};

/// The id of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(Uuid);

impl OperationId {
    /// Makes a new id; later ones sort after earlier ones.
    #[expect(clippy::new_without_default, reason = "every call makes another value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Parses a UUID.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn parse(text: &str, field: &'static str) -> Result<Self> {
        let uuid = Uuid::try_parse(text);
        uuid.map(Self)
            .map_err(|_| Error::invalid(field, format!("{field} \"{text}\" is not a UUID")))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Copies a file or folder.
    Copy,
    /// Deletes a folder.
    Delete,
    /// Commits an upload session.
    CommitUploadSession,
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It runs.
    Running,
    /// Its result is visible.
    Succeeded,
    /// Nothing has changed.
    Failed,
    /// Nothing has changed.
    Cancelled,
}

/// How far an operation is, and what came of it. Counters never go back and never pass their totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files done.
    pub files_done: i64,
    /// Files of the source.
    pub files_total: i64,
    /// Bytes done.
    pub bytes_done: i64,
    /// Bytes of the source.
    pub bytes_total: i64,
    /// Files left out.
    pub files_skipped: i64,
    /// Bytes left out.
    pub bytes_skipped: i64,
    /// What it works on.
    pub current_path: String,
    /// Files that were at the destination and are replaced; known when it has succeeded.
    pub files_replaced: i64,
    /// Names of its skip list by which no file was left out, as
    /// [`SkipFiles::unmatched`](crate::model::SkipFiles::unmatched) tells them.
    pub skip_files_unmatched: Vec<String>,
}

/// Why an operation failed or was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationError {
    /// What went wrong.
    pub kind: Kind,
    /// The same for people.
    pub message: String,
}

impl From<&Error> for OperationError {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.message().to_owned() }
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Self {
        // Whoever ended the operation has logged why.
        Self::new(error.kind, error.message).logged()
    }
}

/// One operation. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Where it stands.
    pub state: OperationState,
    /// What it reads.
    pub source: StorePath,
    /// What it writes.
    pub destination: StorePath,
    /// How far it is.
    pub progress: Progress,
    /// When it started.
    pub started: i64,
    /// When it last changed.
    pub updated: i64,
    /// When it ended.
    pub finished: Option<i64>,
    /// Why it did not succeed.
    pub error: Option<OperationError>,
    /// The number of the last change of its state: a later change of any operation has a higher one.
    pub change: i64,
}

impl OperationState {
    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}
