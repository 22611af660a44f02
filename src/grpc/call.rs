//! The context of a call: its caller, its deadline, and its peer.

use std::time::Duration;

use tonic::{Request, Status, metadata::MetadataMap};

use crate::{
    access::{CallRecord, Identity, RequestContext},
    budget::Peer,
    error::{Error, Kind, Result},
    wire::{
        status,
        timeout::{self, TIMEOUT},
    },
};

/// Reads the context of a call.
///
/// # Errors
/// The error of a credential that was refused; `Unauthenticated` for a call whose caller nobody has looked at;
/// `InvalidArgument` for a deadline that is not of the form `<up to 8 digits><unit>`.
pub(super) fn context<T>(request: &Request<T>) -> Result<RequestContext, Status> {
    let read = || {
        let unknown = || Error::new(Kind::Unauthenticated, "the call has no caller");
        let identity = request.extensions().get::<Identity>().ok_or_else(unknown)?;
        let caller = identity.clone()?;
        // A call without a peer is made by the server itself, in this process.
        let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
        let record = request.extensions().get::<CallRecord>().cloned().unwrap_or_default();
        let timeout = timeout(request.metadata())?;
        Ok(RequestContext::new(caller, peer, timeout).with_record(record))
    };
    read().map_err(|error: Error| status::from_error(&error))
}

fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>> {
    let Some(value) = metadata.get(TIMEOUT) else { return Ok(None) };
    timeout::parse(value.as_encoded_bytes()).map(Some).ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.as_encoded_bytes()).into_owned();
        Error::invalid(TIMEOUT, format!("{TIMEOUT} \"{shown}\" is not up to 8 digits and a unit"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<Option<Duration>, Kind>) {
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMEOUT, text.parse().unwrap());
        assert_eq!(timeout(&metadata).map_err(|error| error.kind()), expect, "{text}");
    }

    #[test]
    fn a_call_without_a_deadline_has_none() {
        assert_eq!(timeout(&MetadataMap::new()).expect("no error"), None);
        check("3S", Ok(Some(Duration::from_secs(3))));
    }

    #[test]
    fn a_malformed_deadline_is_refused() {
        for text in ["", "S", "1", "123456789S", "1s", "-1S", "1.5S", " 1S"] {
            check(text, Err(Kind::InvalidArgument));
        }
    }
}
