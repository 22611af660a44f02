//! The errors of the blob store.

use std::io;

use crate::{error::Source, limits::BLOB_TIME};

/// Why a call failed. `Display` never prints the source; the log prints the whole chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No object has this key.
    #[error("object {key} is missing")]
    Missing {
        /// The key of the call.
        key: String,
    },
    /// The object's bytes are not those that were put.
    #[error("object {key} is corrupt")]
    Corrupt {
        /// The key of the call.
        key: String,
    },
    /// The disk or the quota is full.
    #[error("the blob store is full")]
    NoSpace(#[source] Source),
    /// The object store failed.
    #[error("the blob store failed")]
    Io(#[source] Source),
    /// The object store did not respond within [`BLOB_TIME`]; the call may still take effect.
    #[error("the blob store did not answer within {} s, asked for {key}", BLOB_TIME.as_secs())]
    Stalled {
        /// The key of the call, or a name for a call without one.
        key: String,
    },
}

impl Error {
    /// Converts an error of `object_store`; a missing object is an error with its key.
    pub(super) fn from_store(key: &str, error: object_store::Error) -> Self {
        if matches!(error, object_store::Error::NotFound { .. }) {
            Self::Missing { key: key.to_owned() }
        } else if is_full(&error) {
            Self::NoSpace(error.into())
        } else {
            Self::Io(error.into())
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::NoSpace(error.into()) } else { Self::Io(error.into()) }
    }
}

/// Whether the disk or the quota is full. Follows the chain of sources, because `object_store` wraps the
/// error of the kernel.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return true;
            }
            // `source` of an `io::Error` that wraps another error skips the wrapped one.
            if let Some(inner) = error.get_ref() {
                cause = Some(inner);
                continue;
            }
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_full_disk_is_found_below_other_errors() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wrapped =
            object_store::Error::Generic { store: "s", source: io::Error::other(full()).into() };
        assert!(matches!(Error::from(full()), Error::NoSpace(_)));
        assert!(matches!(Error::from_store("k", wrapped), Error::NoSpace(_)));
        let other = object_store::Error::Generic { store: "s", source: "disk on fire".into() };
        assert!(matches!(Error::from_store("k", other), Error::Io(_)));
    }

    #[test]
    fn a_message_never_prints_its_source() {
        let error = Error::Io("/var/lib/secret".into());
        assert!(!error.to_string().contains("secret"));
        assert!(error.source().is_some());
    }
}
