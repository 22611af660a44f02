//! The errors of the client.
//!
//! The messages are for the user at the terminal: they name the path, local or in the store, and include the cause, so
//! that one line is enough.

use std::{io, path::PathBuf, time::Duration};

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{error::Kind, wire::status};

/// The result of a call of the client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with an error.
    #[error("{message}")]
    Server {
        /// The kind of the server's error.
        kind: Kind,
        /// The message of the server.
        message: String,
        /// The least time before a retry (`RetryInfo`), if the server gave one.
        pause: Option<Duration>,
    },
    /// No response: the server cannot be reached, or the connection was lost.
    #[error("cannot reach {server}: {why}")]
    Lost {
        /// The address of the server.
        server: String,
        /// The cause, from the network.
        why: String,
    },
    /// The server did not respond in time. Whether the server still completes the call is not known.
    #[error("{server} did not {what} within {time:?}{why}")]
    Waited {
        /// The address of the server.
        server: String,
        /// What the server was to do: a verb and its object.
        what: String,
        /// The time that was waited: the client's timeout, or the silence of the server in whole seconds.
        time: Duration,
        /// The cause from the network, after a colon and a space; empty if there is none.
        why: String,
    },
    /// The address of the server is invalid.
    #[error(
        "{address:?} is not the address of a server: {why}; write http://HOST:PORT or https://HOST:PORT"
    )]
    Address {
        /// The address as it was given.
        address: String,
        /// Why the address is invalid.
        why: String,
    },
    /// The authorities that the client shall trust cannot be used.
    #[error("the certificate authority cannot be used: {0}")]
    Authorities(String),
    /// The token cannot be sent. The message does not show it.
    #[error(
        "the token cannot be used: it must be ASCII letters, digits and signs, without a space"
    )]
    Token,
    /// The certificate that the client shall show, or its key, cannot be used.
    #[error("the client certificate cannot be used: {0}")]
    Identity(String),
    /// A local file or folder cannot be read or written.
    #[error("cannot {action} {}: {why}", path.display())]
    Local {
        /// The action that failed: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        why: io::Error,
    },
    /// A local file or folder that the store cannot keep.
    #[error("cannot upload {}: {why}", path.display())]
    NotUploadable {
        /// The file or folder.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A local file that a download or backup would overwrite.
    #[error("{} exists already; --force overwrites it", .0.display())]
    Exists(PathBuf),
    /// The target of a file exists and is no regular file.
    #[error("{} is {what}, which is not overwritten; choose another path", path.display())]
    NotReplaceable {
        /// The target.
        path: PathBuf,
        /// The type of what exists there, such as "a symbolic link".
        what: &'static str,
    },
    /// A path that must be a folder is something else, such as a symbolic link, which could lead out of the target.
    #[error("{} is {what}, where a folder is to be; choose another path, or move it away", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
        /// The type of what exists there, such as "a symbolic link".
        what: &'static str,
    },
    /// A file whose digest the server has not computed in time, so that the received bytes cannot be checked.
    #[error("{path} cannot be checked: the server has not computed its digest yet; fetch it again")]
    Unchecked {
        /// The path in the store.
        path: String,
    },
    /// A local place that cannot take a backup.
    #[error("cannot back up into {}: {why}", path.display())]
    Place {
        /// The place.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The received bytes are not the sent bytes: their digests or sizes differ.
    #[error("{path}: checksum mismatch after the transfer: {why}")]
    Damaged {
        /// The path in the store, or the part of a backup.
        path: String,
        /// What differs.
        why: String,
    },
    /// The server has stored an archive as a file, instead of the folder that was asked for: it ignores what it does not
    /// know.
    #[error(
        "{0} was stored as a file, because this server cannot unpack; remove it, and upload the folder instead"
    )]
    NotUnpacked(
        /// The path in the store.
        String,
    ),
    /// A local backup that cannot be restored.
    #[error("{} cannot be restored: {why}", path.display())]
    Backup {
        /// The file or folder with the error.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A response that violates the protocol.
    #[error("the server gave an answer that makes no sense: {0}")]
    Answer(String),
}

impl Error {
    /// Makes the error of a local file or folder; `action` is the verb that failed.
    pub(super) fn local(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |why| Self::Local { action, path, why }
    }

    /// Makes the error of a status, which is either a response of the server or a lost connection.
    pub(super) fn from_status(server: &str, status: &Status) -> Self {
        if status::is_transport(status) {
            return Self::Lost { server: server.to_owned(), why: root_cause(status) };
        }
        let pause = status.get_details_retry_info().and_then(|hint| hint.retry_delay);
        let message = status.message().to_owned();
        Self::Server { kind: status::kind(status), message, pause }
    }

    /// The kind of the server's error; `None` if the error is not from the server.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Server { kind, .. } => Some(*kind),
            Self::Lost { .. }
            | Self::Waited { .. }
            | Self::Address { .. }
            | Self::Local { .. }
            | Self::NotUploadable { .. }
            | Self::Exists(_)
            | Self::NotReplaceable { .. }
            | Self::NoFolder { .. }
            | Self::Unchecked { .. }
            | Self::Place { .. }
            | Self::Damaged { .. }
            | Self::NotUnpacked(_)
            | Self::Backup { .. }
            | Self::Answer(_)
            | Self::Authorities(_)
            | Self::Identity(_)
            | Self::Token => None,
        }
    }

    /// Whether the connection was lost.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether the server did not respond in time.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Waited { .. })
    }

    /// The least time before a retry that the server asked for; 0 if it gave none.
    pub(super) fn pause(&self) -> Duration {
        if let Self::Server { pause: Some(pause), .. } = self { *pause } else { Duration::ZERO }
    }

    /// Whether a retry of the same call can succeed: the connection was lost, or the server is busy.
    pub fn retryable(&self) -> bool {
        self.is_lost() || self.kind().is_some_and(Kind::retryable)
    }
}

/// The text of the innermost cause of an error, such as "connection refused" of "transport error: connection error:
/// connection refused".
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
