//! The context of a call: its caller, its deadline, and its peer.

use std::time::Duration;

use tonic::{Request, Status, metadata::MetadataMap};

use crate::{
    access::{CallRecord, Identity, RequestContext},
    budget::Peer,
    error::{Error, Kind, Result},
    wire::status,
};

/// The header with the timeout of a call, as gRPC over HTTP/2 defines it.
const TIMEOUT: &str = "grpc-timeout";

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
    let bad = || {
        let shown = String::from_utf8_lossy(value.as_encoded_bytes()).into_owned();
        Error::invalid(TIMEOUT, format!("{TIMEOUT} \"{shown}\" is not up to 8 digits and a unit"))
    };
    let text = value.to_str().map_err(|_| bad())?;
    let unit = text.chars().last().ok_or_else(bad)?;
    let digits = text.strip_suffix(unit).ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let count: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        'H' => Duration::from_secs(count * 3600),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return Err(bad()),
    }))
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
    fn a_deadline_is_read_in_every_unit() {
        check("1H", Ok(Some(Duration::from_hours(1))));
        check("2M", Ok(Some(Duration::from_mins(2))));
        check("3S", Ok(Some(Duration::from_secs(3))));
        check("4m", Ok(Some(Duration::from_millis(4))));
        check("5u", Ok(Some(Duration::from_micros(5))));
        check("6n", Ok(Some(Duration::from_nanos(6))));
        check("99999999H", Ok(Some(Duration::from_hours(99_999_999))));
    }

    #[test]
    fn a_malformed_deadline_is_refused() {
        for text in ["", "S", "1", "123456789S", "1s", "-1S", "1.5S", " 1S"] {
            check(text, Err(Kind::InvalidArgument));
        }
    }
}
