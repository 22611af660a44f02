//! An error as a gRPC status, and back.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Error, Kind};

/// The domain of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "imagestore";

/// How long a caller waits before it repeats a call that was refused as busy.
pub const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Makes the status of an error, with its reason, its field and its values.
pub fn from_error(error: &Error) -> Status {
    let metadata: Vec<(String, String)> =
        error.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut details = ErrorDetails::with_error_info(
        error.kind().reason(),
        DOMAIN,
        metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
    );
    if let Some(field) = error.violated_field() {
        details.add_bad_request_violation(field, error.message());
    }
    if error.kind().retryable() {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(Code::from_i32(error.kind().grpc()), error.message(), details)
}

/// Recovers the kind of a status: from its reason, else from its code.
pub fn kind(status: &Status) -> Kind {
    if let Some(info) = status.get_details_error_info()
        && info.domain == DOMAIN
        && let Some(kind) = Kind::from_reason(&info.reason)
    {
        return kind;
    }
    from_code(status.code())
}

/// The kind of a status that does not come from our service: a proxy, a client, a transport.
fn from_code(code: Code) -> Kind {
    match code {
        Code::Cancelled => Kind::Cancelled,
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::NotFound => Kind::PathNotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
        Code::ResourceExhausted => Kind::TooLarge,
        Code::FailedPrecondition => Kind::Finished,
        Code::Aborted => Kind::Changed,
        Code::OutOfRange => Kind::BadRange,
        Code::Unimplemented => Kind::Unimplemented,
        Code::Unavailable => Kind::Busy,
        Code::DataLoss => Kind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_survives_the_wire() {
        for kind in Kind::ALL {
            let sent = from_error(&Error::new(kind, "m").field("path").with("path", "a/b"));
            let headers = sent.into_http::<()>().into_parts().0.headers;
            let received = Status::from_header_map(&headers).expect("a status");
            assert_eq!(super::kind(&received), kind);
            assert_eq!(received.code() as i32, kind.grpc());
            assert_eq!(received.message(), "m");
            let details = received.get_error_details();
            assert_eq!(
                details.bad_request().expect("a violation").field_violations[0].field,
                "path"
            );
            assert_eq!(details.error_info().expect("info").metadata["path"], "a/b");
        }
    }

    #[test]
    fn a_foreign_status_keeps_its_meaning() {
        assert_eq!(kind(&Status::unavailable("x")), Kind::Busy);
        assert_eq!(kind(&Status::deadline_exceeded("x")), Kind::Timeout);
    }
}
