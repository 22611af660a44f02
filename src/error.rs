//! The one domain error and its kinds. What an interface makes of a kind is said there: the status codes
//! of gRPC in [`wire::status`](crate::wire::status), those of HTTP and the codes of REST in
//! [`rest::codes`](crate::rest::codes).
//!
//! **Invariant:** `Display` is what a caller may see. It names the offending value and never a local
//! path, an object key, a statement or another library's text; those are in the source, for the log.

mod report;

use std::{fmt, sync::Arc};

pub use report::chain;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// What went wrong, as the interfaces tell it apart.
///
/// The mappings of the interfaces have no wildcard arm: a new kind does not compile until it is decided. Its
/// reason on the wire is its name.
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
    /// A range of a chunk that cannot be stored.
    BadRange,
    /// A range of a download that begins beyond the end.
    UnsatisfiableRange,
    /// A write that a page of another origin asked for.
    Forbidden,
    /// The source or the file does not exist.
    FileNotFound,
    /// The folder does not exist.
    FolderNotFound,
    /// Nothing is at a path.
    PathNotFound,
    /// No operation has this id, or no longer.
    OperationNotFound,
    /// No upload session has this id, or no longer.
    SessionNotFound,
    /// A file or folder is in the way.
    AlreadyExists,
    /// The id of an operation was used with other arguments.
    WriteConflict,
    /// The upload session belongs to another path, or has other bytes.
    SessionConflict,
    /// The file is no longer the one that is read.
    Changed,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// The operation has ended, so that it cannot be cancelled.
    Finished,
    /// The changes since a number are not kept any more.
    ChangesForgotten,
    /// A value exceeds a bound of the store.
    TooLarge,
    /// A message exceeds a bound of the interface.
    MessageTooLarge,
    /// The server does all it can; the same call succeeds later.
    Busy,
    /// The deadline passed.
    Timeout,
    /// Cancelled by another client, or by its caller.
    Cancelled,
    /// The disk is full but for its reserve.
    NoSpace,
    /// Stored bytes are not what was stored.
    Corrupt,
    /// The bytes of an upload that came are not those that its sender said.
    DataLoss,
    /// A body is encoded, where its bytes themselves are asked for.
    UnsupportedEncoding,
    /// A call that does not exist.
    Unimplemented,
    /// A fault of the server.
    Internal,
}

impl Kind {
    /// Every kind, for tables and laws.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The reason of `google.rpc.ErrorInfo`: the join key on the wire.
    pub fn reason(self) -> &'static str {
        self.into()
    }

    /// The kind that has this reason.
    pub fn from_reason(reason: &str) -> Option<Self> {
        reason.parse().ok()
    }

    /// Whether the same call can succeed when it is simply repeated.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// A cause that only the log sees.
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

/// What the calls of the domain return.
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

    /// Creates an error for what its caller's deadline has kept from happening.
    pub fn late() -> Self {
        Self::new(Kind::Timeout, "the deadline passed; nothing has changed")
    }

    /// Creates an error for a fault of the server; the caller sees a fixed sentence.
    pub fn internal(source: impl Into<Source>) -> Self {
        let mut error = Self::new(Kind::Internal, "the server failed; its log says why");
        error.source = Some(Arc::from(source.into()));
        error
    }

    /// Names the argument that is at fault.
    #[must_use]
    pub fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Adds a value of the message in a form that programs can read.
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

    /// Says that its cause is in the log already.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.is_logged = true;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the caller sees.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The argument that is at fault, named as in the proto.
    pub fn violated_field(&self) -> Option<&'static str> {
        self.field
    }

    /// The values of the message.
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
            UNSATISFIABLE_RANGE FORBIDDEN FILE_NOT_FOUND FOLDER_NOT_FOUND PATH_NOT_FOUND \
            OPERATION_NOT_FOUND SESSION_NOT_FOUND ALREADY_EXISTS WRITE_CONFLICT SESSION_CONFLICT \
            CHANGED PRECONDITION_FAILED FINISHED CHANGES_FORGOTTEN TOO_LARGE MESSAGE_TOO_LARGE BUSY \
            TIMEOUT CANCELLED NO_SPACE CORRUPT DATA_LOSS UNSUPPORTED_ENCODING UNIMPLEMENTED INTERNAL";
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
