//! Conversion of errors to gRPC statuses, and back.
//!
//! **Invariant:** a status fits into the header limits of usual clients, so long texts are shortened: a message can
//! contain two paths of [`PATH_BYTES_MAX`](crate::limits::PATH_BYTES_MAX), and is in the trailers up to three times.

use std::{borrow::Cow, collections::HashMap};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, ErrorInfo, RpcStatusExt, Status as RpcStatus, StatusExt};

use crate::{
    error::{Error, Kind},
    limits::{ECHO_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX, STATUS_VALUES_BYTES_MAX},
    wire::request::Id,
};

/// The domain of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "imagestore";

/// How long a caller should wait before it repeats a call that was refused as busy.
pub const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// The replacement for the middle of a text that is too long.
const GAP: &str = "…";

/// Makes the status of a failed call, with the reason, the field and the values of the error, and the id of the
/// request. Every error that leaves the service passes here, and is logged here if its kind requires it. The middle of
/// long texts is cut, see [`STATUS_BYTES_MAX`](crate::limits::STATUS_BYTES_MAX).
pub fn from_error(error: &Error) -> Status {
    error.report();
    encode(error, Id::current())
}

/// Makes the status that tells why an operation has failed, with the details of [`from_error`] but without the id of
/// a request, since any request may read it. It is not logged here: it was logged when the operation failed.
pub fn kept(error: &Error) -> RpcStatus {
    let status = encode(error, None);
    // The details of a status are its `google.rpc.Status` message, encoded.
    RpcStatus::decode(status.details()).unwrap_or_else(|_| RpcStatus {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// Adds the id of the request to a status without details, which is from another service than this API's.
pub fn of_request(status: &Status) -> Status {
    let Some(id) = Id::current() else { return status.clone() };
    let details = ErrorDetails::with_request_info(id.text(), "");
    Status::with_error_details(status.code(), status.message(), details)
}

fn encode(error: &Error, id: Option<Id>) -> Status {
    let message = bounded(error.message());
    let values = error.metadata();
    let each = (STATUS_VALUES_BYTES_MAX / values.len().max(1)).min(ECHO_BYTES_MAX);
    let metadata: HashMap<String, String> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), shorten(value, each).into_owned()))
        .collect();
    let mut details = ErrorDetails::with_error_info(error.kind().reason(), DOMAIN, metadata);
    if let Some(field) = error.violated_field() {
        details.add_bad_request_violation(field, &message);
    }
    if error.kind().retryable() {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    if let Some(id) = id {
        details.set_request_info(id.text(), "");
    }
    Status::with_error_details(code(error.kind()), message, details)
}

/// The message of an error as callers see it. Quoted text, which repeats parts of a request, is shortened to
/// [`ECHO_BYTES_MAX`] bytes, and the whole message to [`STATUS_MESSAGE_BYTES_MAX`] bytes.
pub fn bounded(message: &str) -> String {
    let pieces = message.split_inclusive(['\'', '"']);
    let short: String = pieces.map(|piece| shorten(piece, ECHO_BYTES_MAX)).collect();
    shorten(&short, STATUS_MESSAGE_BYTES_MAX).into_owned()
}

/// Shortens a text of more than `most` bytes to its beginning and its end.
fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let half = most.saturating_sub(GAP.len()) / 2;
    let (begin, end) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    let begin = text.get(..begin).unwrap_or_default();
    let end = text.get(end..).unwrap_or_default();
    format!("{begin}{GAP}{end}").into()
}

/// The gRPC status code of an error.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Cancelled => Code::Cancelled,
        Kind::InvalidArgument | Kind::PathTooLong | Kind::Reserved | Kind::InvalidSessionId => {
            Code::InvalidArgument
        }
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::FileNotFound
        | Kind::FolderNotFound
        | Kind::PathNotFound
        | Kind::OperationNotFound
        | Kind::SessionNotFound
        | Kind::TokenNotFound => Code::NotFound,
        Kind::AlreadyExists | Kind::WriteConflict => Code::AlreadyExists,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::TooLarge | Kind::MessageTooLarge | Kind::NoSpace | Kind::TooManyFailures => {
            Code::ResourceExhausted
        }
        Kind::PreconditionFailed | Kind::Finished => Code::FailedPrecondition,
        Kind::SessionConflict | Kind::Changed | Kind::ServerLost => Code::Aborted,
        Kind::BadRange | Kind::UnsatisfiableRange | Kind::ChangesForgotten => Code::OutOfRange,
        Kind::UnsupportedEncoding | Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
        Kind::Busy | Kind::VerdictUnknown => Code::Unavailable,
        Kind::Corrupt | Kind::DataLoss => Code::DataLoss,
    }
}

/// The error kind of a status: from its reason, or from its code if it has no known reason.
pub fn kind(status: &Status) -> Kind {
    reason(status.get_details_error_info()).unwrap_or_else(|| from_code(status.code()))
}

/// The kind of the error with which this server itself has ended a request stream. `None` if the caller has
/// disconnected or has sent an invalid message.
pub fn kind_of_broken_body(status: &Status) -> Option<Kind> {
    let is_ours = |kind: &Kind| {
        matches!(kind, Kind::Timeout | Kind::Busy | Kind::TooLarge | Kind::MessageTooLarge)
    };
    Some(kind(status)).filter(is_ours)
}

/// The kind of the stored error of an operation.
pub fn kind_of(error: &RpcStatus) -> Kind {
    let code = Code::from_i32(error.code);
    reason(error.get_details_error_info()).unwrap_or_else(|| from_code(code))
}

/// The kind of a status by which tonic itself refuses a request, on the server side. `None` for a status that tonic
/// does not make.
pub fn kind_of_refusal(status: &Status) -> Option<Kind> {
    match status.code() {
        // tonic's decoder refuses an invalid message with `Internal`. A client that receives `Internal` sees a fault
        // of the server instead.
        Code::Internal => Some(Kind::InvalidArgument),
        code @ (Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented) => {
            Some(from_code(code))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

/// Whether a status that a client has received means a broken connection. Every error of the service has a reason; a
/// status without a reason and with a code of a broken transport was made by the client library or a proxy.
pub fn is_transport(status: &Status) -> bool {
    let broken = matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    );
    broken && !is_ours(status)
}

/// Whether a status was made by the service.
fn is_ours(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN)
}

/// The kind that the reason names, if the service made the error.
fn reason(info: Option<ErrorInfo>) -> Option<Kind> {
    info.filter(|info| info.domain == DOMAIN).and_then(|info| Kind::from_reason(&info.reason))
}

/// The kind of a status that the service did not make, but a proxy, a client library or a transport.
fn from_code(code: Code) -> Kind {
    match code {
        Code::Cancelled => Kind::Cancelled,
        Code::InvalidArgument => Kind::InvalidArgument,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::NotFound => Kind::PathNotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => Kind::Forbidden,
        Code::FailedPrecondition => Kind::Finished,
        Code::Aborted => Kind::Changed,
        // gRPC libraries use these codes for a message that is too large, encoded or decompressed.
        Code::OutOfRange | Code::ResourceExhausted => Kind::MessageTooLarge,
        Code::Unimplemented => Kind::Unimplemented,
        Code::Unavailable => Kind::Busy,
        Code::DataLoss => Kind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KIB, PATH_BYTES_MAX, STATUS_BYTES_MAX};

    #[test]
    fn a_kind_survives_the_wire() {
        for &kind in Kind::ALL {
            let sent = from_error(&Error::new(kind, "m").field("path").with("path", "a/b"));
            let headers = sent.into_http::<()>().into_parts().0.headers;
            let received = Status::from_header_map(&headers).expect("a status");
            assert_eq!(super::kind(&received), kind);
            assert_eq!(received.code(), code(kind));
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
        assert_eq!(kind(&Status::internal("x")), Kind::Internal);
        for status in [Status::out_of_range("x"), Status::resource_exhausted("x")] {
            assert_eq!(kind(&status), Kind::MessageTooLarge);
            assert_eq!(kind_of_refusal(&status), Some(Kind::MessageTooLarge));
        }
        assert_eq!(kind_of_refusal(&Status::internal("x")), Some(Kind::InvalidArgument));
        assert_eq!(kind_of_refusal(&Status::not_found("x")), None);
    }

    #[test]
    fn an_operation_keeps_the_kind_of_its_error() {
        for &kind in Kind::ALL {
            let error = kept(&Error::new(kind, "m"));
            assert_eq!((kind_of(&error), error.message.as_str()), (kind, "m"));
            assert_eq!(Code::from_i32(error.code), code(kind));
        }
    }

    #[test]
    fn a_broken_transport_has_no_reason() {
        assert!(is_transport(&Status::unknown("x")));
        assert!(!is_transport(&Status::not_found("x")));
        assert!(!is_transport(&from_error(&Error::new(Kind::Internal, "x"))));
    }

    /// The size of the headers of a status as HTTP/2 counts it, with 32 bytes of overhead for each.
    fn encoded_bytes(error: &Error) -> usize {
        let headers = from_error(error).into_http::<()>().into_parts().0.headers;
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn the_longest_error_is_small_enough_for_every_client() {
        let path = "ä".repeat(PATH_BYTES_MAX / 2);
        let message = format!("destination \"{path}\" is below source \"{path}\"");
        for &kind in Kind::ALL {
            let error = Error::new(kind, &message)
                .field("destination")
                .with("source", &path)
                .with("destination", &path);
            assert!(encoded_bytes(&error) < STATUS_BYTES_MAX + KIB, "{kind:?}");
        }
        // A path of usual length is not shortened.
        let path = "a".repeat(150);
        let error = Error::new(Kind::PathNotFound, format!("nothing is at \"{path}\""))
            .field("path")
            .with("path", &path);
        let status = from_error(&error);
        assert_eq!(status.message(), error.message());
        assert_eq!(status.get_details_error_info().expect("info").metadata["path"], path);
    }

    #[test]
    fn no_part_of_a_request_is_repeated_at_length() {
        let long = "é".repeat(2_000);
        for message in
            [format!("'{long}' is not a path"), format!("\"{long}\" and \"{long}\""), long]
        {
            let short = bounded(&message);
            assert!(short.len() <= STATUS_MESSAGE_BYTES_MAX, "{short}");
            let longest = short.split(['\'', '"', '…']).map(str::len).max().expect("a piece");
            assert!(longest <= ECHO_BYTES_MAX, "{short}");
            let error = Error::invalid("path", message.clone()).with("path", message);
            let status = from_error(&error);
            assert_eq!(status.message(), short);
            let values = status.get_details_error_info().expect("info").metadata;
            assert!(values["path"].len() <= ECHO_BYTES_MAX);
        }
        assert_eq!(bounded("'a' is not \"b\""), "'a' is not \"b\"");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(shorten("0123456789", 10), "0123456789");
        assert_eq!(shorten("0123456789", 9), "012…789");
        assert_eq!(shorten("äöü789", 8), "ä…89");
        for most in 0..20 {
            for text in ["ää", "aää", "📦📦📦📦📦📦", "a📦b📦c📦d📦e"] {
                let short = shorten(text, most);
                assert!(short.len() <= most.max(GAP.len()), "{text} {most} {short}");
            }
        }
    }
}
