//! An operation, as callers see it: a copy, a delete of a folder, or the commit of an upload session.

use std::fmt;

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    model::StorePath,
};

/// The id of an operation, a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(Uuid);

impl OperationId {
    /// Makes a new id (UUID version 7); later ids sort after earlier ones.
    #[expect(clippy::new_without_default, reason = "every call makes another value")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Parses a UUID. `field` names the argument in an error.
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

/// The state of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// It has not ended.
    Running,
    /// It ended, and its result is visible.
    Succeeded,
    /// It ended with an error, and changed nothing.
    Failed,
    /// It was cancelled, and changed nothing.
    Cancelled,
}

/// The progress and the result of an operation. Counters never decrease and never exceed their totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that are copied or verified so far.
    pub files_done: i64,
    /// Files of the source.
    pub files_total: i64,
    /// Bytes that are copied or verified so far.
    pub bytes_done: i64,
    /// Bytes of the source.
    pub bytes_total: i64,
    /// Files left out.
    pub files_skipped: i64,
    /// Bytes left out.
    pub bytes_skipped: i64,
    /// The path of the file in work.
    pub current_path: String,
    /// Files at the destination that were replaced; zero until the operation has succeeded.
    pub files_replaced: i64,
    /// Names of the skip list that matched no file, as
    /// [`SkipFiles::unmatched`](crate::model::SkipFiles::unmatched) returns them.
    pub skip_files_unmatched: Vec<String>,
}

/// Why an operation failed or was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationError {
    /// The kind of the error.
    pub kind: Kind,
    /// The message for people.
    pub message: String,
}

impl From<&Error> for OperationError {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), message: error.message().to_owned() }
    }
}

impl From<OperationError> for Error {
    fn from(error: OperationError) -> Self {
        // The task that ended the operation has logged the error.
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
    /// Its state.
    pub state: OperationState,
    /// The path that it copies or deletes; the root for the commit of a session.
    pub source: StorePath,
    /// The path that it writes; the root for a delete.
    pub destination: StorePath,
    /// Its progress and result.
    pub progress: Progress,
    /// When it started.
    pub started: i64,
    /// When it last changed.
    pub updated: i64,
    /// When it ended.
    pub finished: Option<i64>,
    /// Why it did not succeed.
    pub error: Option<OperationError>,
    /// The name of the caller that started it; empty for one of an earlier format.
    pub caller: String,
    /// The credential of that caller, which is shown to nobody; empty for one without.
    pub credential: String,
    /// The number of the last change of its state: a later change of any operation has a higher number.
    pub change: i64,
}

impl OperationState {
    /// Whether the operation has ended.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

impl Operation {
    /// The source and the destination, as far as an operation of its kind has them.
    pub fn ends(&self) -> [Option<&StorePath>; 2] {
        match self.kind {
            OperationKind::Copy => [Some(&self.source), Some(&self.destination)],
            OperationKind::Delete => [Some(&self.source), None],
            OperationKind::CommitUploadSession => [None, Some(&self.destination)],
        }
    }
}
