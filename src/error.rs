//! The one error type of the domain, and its kinds. Each interface maps a kind to its own codes: gRPC in
//! [`wire::status`](crate::wire::status), HTTP and REST in [`rest::codes`](crate::rest::codes).
//!
//! **Invariant:** `Display` is what a caller may see. It names the offending value and never a local
//! path, an object key, a statement or another library's text; those are in the source, for the log.

mod report;

use std::{fmt, sync::Arc};

pub use report::chain;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The class of an error, as far as the interfaces distinguish it.
///
/// The mappings of the interfaces have no wildcard arm: a new kind does not compile until each interface maps
/// it. The reason of a kind on the wire is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Kind {
    /// An argument is malformed, or two arguments contradict each other.
    InvalidArgument,
    /// A path is longer or deeper than the store keeps.
    PathTooLong,
    /// A top-level name that is reserved by convention.
    Reserved,
    /// An upload session id that is not a UUID.
    InvalidSessionId,
    /// The range of a chunk is malformed, or does not fit its file, its session or its bytes.
    BadRange,
    /// A range of a download that begins beyond the end.
    UnsatisfiableRange,
    /// The call has no credential, or one that is refused, or that was revoked.
    Unauthenticated,
    /// The caller may not make the call, or a web page of another origin sent a write.
    Forbidden,
    /// The source or the file does not exist.
    FileNotFound,
    /// The folder does not exist.
    FolderNotFound,
    /// Nothing is at a path.
    PathNotFound,
    /// No operation has this id, or it was forgotten.
    OperationNotFound,
    /// No upload session has this id, or it was forgotten.
    SessionNotFound,
    /// No token has this name.
    TokenNotFound,
    /// A file or folder at the path, or a file above it, prevents the write.
    AlreadyExists,
    /// The id of an operation was used with other arguments.
    WriteConflict,
    /// The upload session belongs to another path, or has other bytes.
    SessionConflict,
    /// The file was replaced or deleted since the read of it began.
    Changed,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The operation has ended, so it cannot be cancelled.
    Finished,
    /// Some of the changes after a given number are no longer kept.
    ChangesForgotten,
    /// A value exceeds a bound of the store.
    TooLarge,
    /// A message exceeds a bound of the interface.
    MessageTooLarge,
    /// The server is overloaded, or does not reach its database or blob store; the same call can succeed later.
    Busy,
    /// The connection to the database was lost while it made a change, and it is not known whether it did.
    VerdictUnknown,
    /// The client has sent too many credentials that are refused.
    TooManyFailures,
    /// The deadline passed.
    Timeout,
    /// The server that ran the operation was lost. The operation can be started again, under its id, too.
    ServerLost,
    /// Cancelled by another client, or by its caller.
    Cancelled,
    /// The disk is full but for its reserve.
    NoSpace,
    /// Stored bytes are missing, or do not match their digest.
    Corrupt,
    /// The received bytes of an upload do not match the size or digest that its sender announced.
    DataLoss,
    /// A request body has a content encoding, where only plain bytes are accepted.
    UnsupportedEncoding,
    /// The call does not exist.
    Unimplemented,
    /// A fault of the server.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The reason of the kind in `google.rpc.ErrorInfo`, by which clients identify it.
    pub fn reason(self) -> &'static str {
        self.into()
    }

    /// The kind that has this reason.
    pub fn from_reason(reason: &str) -> Option<Self> {
        reason.parse().ok()
    }

    /// Whether the same call can succeed when it is repeated unchanged.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// The cause of an error, for the log only.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed. Clones share the cause.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    field: Option<&'static str>,
    metadata: Vec<(&'static str, String)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    is_logged: bool,
}

/// The result of a call of the domain.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error; `message` is what the caller sees.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            field: None,
            metadata: Vec::new(),
            source: None,
            is_logged: false,
        }
    }

    /// Creates an error about one argument, named as in the proto.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidArgument, message).field(field)
    }

    /// Creates a `Timeout` for a call that has changed nothing because its deadline passed.
    pub fn late() -> Self {
        Self::new(Kind::Timeout, "the deadline passed; nothing has changed")
    }

    /// Creates a `Busy` for a call that the stop of the server ends.
    pub fn stopping() -> Self {
        Self::new(Kind::Busy, "the server is stopping; try again")
    }

    /// Creates an `Internal` error; the caller sees a fixed sentence, and the log the source.
    pub fn internal(source: impl Into<Source>) -> Self {
        let mut error = Self::new(Kind::Internal, "the server failed; its log says why");
        error.source = Some(Arc::from(source.into()));
        error
    }

    /// Names the argument that is wrong, as in the proto.
    #[must_use]
    pub fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Adds a value of the message as machine-readable metadata.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks the error as logged, so that it is not logged again.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.is_logged = true;
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the caller sees.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The argument that is wrong, named as in the proto.
    pub fn violated_field(&self) -> Option<&'static str> {
        self.field
    }

    /// The values of the message, as machine-readable metadata.
    pub fn metadata(&self) -> &[(&'static str, String)] {
        &self.metadata
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_for_ever() {
        let reasons: Vec<_> = Kind::ALL.iter().map(|kind| kind.reason()).collect();
        let expected = "INVALID_ARGUMENT PATH_TOO_LONG RESERVED INVALID_SESSION_ID BAD_RANGE \
            UNSATISFIABLE_RANGE UNAUTHENTICATED FORBIDDEN FILE_NOT_FOUND FOLDER_NOT_FOUND PATH_NOT_FOUND \
            OPERATION_NOT_FOUND SESSION_NOT_FOUND TOKEN_NOT_FOUND ALREADY_EXISTS WRITE_CONFLICT SESSION_CONFLICT \
            CHANGED PRECONDITION_FAILED FINISHED CHANGES_FORGOTTEN TOO_LARGE MESSAGE_TOO_LARGE BUSY \
            VERDICT_UNKNOWN TOO_MANY_FAILURES TIMEOUT SERVER_LOST CANCELLED NO_SPACE CORRUPT DATA_LOSS \
            UNSUPPORTED_ENCODING UNIMPLEMENTED INTERNAL";
        assert_eq!(reasons.join(" "), expected);
    }

    #[test]
    fn a_reason_names_one_kind() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_reason(kind.reason()), Some(kind));
        }
        assert_eq!(Kind::from_reason("NO_SUCH_REASON"), None);
    }

    #[test]
    fn an_internal_error_keeps_its_cause_from_the_caller() {
        let error = Error::internal("/var/lib/secret is gone");
        assert!(!error.to_string().contains("secret"));
        assert!(std::error::Error::source(&error).is_some());
    }
}
