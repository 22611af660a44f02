//! Why a call of the client failed.
//!
//! The texts are for the person at the terminal: they name paths of both sides, and the cause stands
//! in the text, so that one line says all.

use std::{io, path::PathBuf, time::Duration};

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{error::Kind, wire::status};

/// What the calls of the client return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the call or failed; the message is its own.
    #[error("{message}")]
    Server {
        /// What went wrong.
        kind: Kind,
        /// The server's words.
        message: String,
        /// How long it wants to be left alone.
        pause: Option<Duration>,
    },
    /// No answer: the server cannot be reached, or the connection broke.
    #[error("cannot reach {server}: {why}")]
    Lost {
        /// The address of the server.
        server: String,
        /// What the network said.
        why: String,
    },
    /// The server did not do in time what it was to do. Whether it does so later is not known.
    #[error("{server} did not {what} within {time:?}{why}")]
    Waited {
        /// The address of the server.
        server: String,
        /// What it was to do.
        what: String,
        /// How long that was waited for.
        time: Duration,
        /// What the network said, after a colon.
        why: String,
    },
    /// The address of a server is not one.
    #[error("{address:?} is not the address of a server: {why}; write http://HOST:PORT")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file or folder on this side cannot be read or written.
    #[error("cannot {action} {}: {why}", path.display())]
    Local {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A file or folder on this side that the store cannot keep.
    #[error("cannot upload {}: {why}", path.display())]
    Unfit {
        /// The file or folder.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A file on this side that a download would overwrite.
    #[error("{} exists already; --force overwrites it", .0.display())]
    Exists(PathBuf),
    /// What a file cannot be put in the place of.
    #[error("{} is {what}, which is not overwritten; choose another path", path.display())]
    Occupied {
        /// Where the file was to go.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// What is no folder where one is to be, such as a link, which could lead elsewhere.
    #[error("{} is {what}, where a folder is to be; choose another path, or move it away", path.display())]
    NoFolder {
        /// Where the folder is to be.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A file whose digest does not come, so that nobody knows whether its bytes are right.
    #[error("{path} cannot be checked: the server has not computed its digest yet; fetch it again")]
    Unchecked {
        /// The path in the store.
        path: String,
    },
    /// A place on this side that takes no backup.
    #[error("cannot back up into {}: {why}", path.display())]
    Place {
        /// The place.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The bytes on one side are not those of the other.
    #[error("{path}: checksum mismatch after the transfer: {why}")]
    Damaged {
        /// The path in the store.
        path: String,
        /// What differs.
        why: String,
    },
    /// A backup on this side that cannot be restored.
    #[error("{} cannot be restored: {why}", path.display())]
    Backup {
        /// The file that is at fault.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// An answer that the server must not give.
    #[error("the server gave an answer that makes no sense: {0}")]
    Answer(String),
}

impl Error {
    /// Makes the error of a file or folder on this side; `action` is the verb that failed.
    pub(super) fn local(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |why| Self::Local { action, path, why }
    }

    /// Makes the error of a status: an answer of the server, or the loss of the connection.
    pub(super) fn from_status(server: &str, status: &Status) -> Self {
        if status::is_transport(status) {
            return Self::Lost { server: server.to_owned(), why: root_cause(status) };
        }
        let pause = status.get_details_retry_info().and_then(|hint| hint.retry_delay);
        let message = status.message().to_owned();
        Self::Server { kind: status::kind(status), message, pause }
    }

    /// The server's kind, where the server answered.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Server { kind, .. } => Some(*kind),
            Self::Lost { .. }
            | Self::Waited { .. }
            | Self::Address { .. }
            | Self::Local { .. }
            | Self::Unfit { .. }
            | Self::Exists(_)
            | Self::Occupied { .. }
            | Self::NoFolder { .. }
            | Self::Unchecked { .. }
            | Self::Place { .. }
            | Self::Damaged { .. }
            | Self::Backup { .. }
            | Self::Answer(_) => None,
        }
    }

    /// Whether the connection was lost.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the server did not do in time what it was to do.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Waited { .. })
    }

    /// How long the server wants to be left alone.
    pub(super) fn pause(&self) -> Duration {
        if let Self::Server { pause: Some(pause), .. } = self { *pause } else { Duration::ZERO }
    }

    /// Whether the same call can succeed when it is simply repeated.
    pub fn retryable(&self) -> bool {
        self.is_lost() || self.kind().is_some_and(Kind::retryable)
    }
}

/// The innermost cause of an error: of "transport error, connection error, connection refused" the
/// part that says something.
pub(super) fn root_cause(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wire::status::from_error;

    #[test]
    fn an_answer_of_the_server_keeps_its_kind_and_words() {
        for &kind in Kind::ALL {
            let status = from_error(&crate::error::Error::new(kind, "words"));
            let error = Error::from_status("http://there", &status);
            assert_eq!(error.kind(), Some(kind), "{error:?}");
            assert_eq!(error.to_string(), "words");
            assert_eq!(error.retryable(), kind == Kind::Busy);
            let pause = if kind == Kind::Busy { status::RETRY_AFTER } else { Duration::ZERO };
            assert_eq!(error.pause(), pause);
        }
    }

    #[test]
    fn a_broken_connection_is_told_from_an_answer() {
        let mut status = Status::unknown("transport error");
        status.set_source(Arc::new(io::Error::other("connection reset")));
        let error = Error::from_status("http://there", &status);
        assert!(error.is_lost() && error.retryable());
        assert_eq!(error.to_string(), "cannot reach http://there: connection reset");
        assert!(!Error::from_status("http://there", &Status::not_found("x")).is_lost());
    }
}
