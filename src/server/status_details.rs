//! Completes the errors that tonic and the health and reflection services generate themselves: adds the reason, the
//! code that the same error has elsewhere, and the id of the request.

use http::HeaderMap;
use tonic::{Code, Status};

use crate::{error::Error, wire::status};

/// Completes the headers of a response whose status is in its headers, if that status is an error without details.
pub(super) fn complete(headers: &mut HeaderMap, path: &str) {
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return;
    }
    let Some(found) = Status::from_header_map(headers) else { return };
    let message = match found.message() {
        "" => format!("there is no call '{path}'"),
        message => message.to_owned(),
    };
    // Errors of the service have details, so this status is from a library or from the health service.
    let told = match status::kind_of_refusal(&found) {
        Some(kind) => status::from_error(&Error::new(kind, message)),
        None if found.code() == Code::Ok => return,
        None => status::of_request(&found),
    };
    if let Err(error) = told.add_header(headers) {
        tracing::error!(%error, "cannot write an answer");
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tonic_types::StatusExt;

    use super::*;
    use crate::{error::Kind, wire::request};

    #[track_caller]
    fn check(status: Status, expected: (Code, &str, Option<Kind>)) {
        let mut headers = status.into_http::<()>().into_parts().0.headers;
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
        complete(&mut headers, "/a.B/C");
        assert_eq!(headers["grpc-accept-encoding"], "gzip");
        let told = Status::from_header_map(&headers).expect("a status");
        let kind = (!told.details().is_empty()).then(|| status::kind(&told));
        assert_eq!((told.code(), told.message(), kind), expected);
    }

    #[test]
    fn what_has_no_details_gets_its_reason_and_code() {
        for (code, message, expected) in [
            (Code::Unimplemented, "", (Kind::Unimplemented, "there is no call '/a.B/C'")),
            (Code::Unimplemented, "gzip", (Kind::Unimplemented, "gzip")),
            (Code::OutOfRange, "large", (Kind::MessageTooLarge, "large")),
            (Code::ResourceExhausted, "large", (Kind::MessageTooLarge, "large")),
            (Code::Internal, "none", (Kind::InvalidArgument, "none")),
        ] {
            let (kind, message_told) = expected;
            let told = (status::code(kind), message_told, Some(kind));
            check(Status::new(code, message), told);
        }
    }

    #[tokio::test]
    async fn every_error_names_its_request() {
        let id = HeaderMap::from_iter([(request::HEADER, HeaderValue::from_static("mine"))]);
        let told = async |status: Status| {
            let mut headers = status.into_http::<()>().into_parts().0.headers;
            request::Id::of(&id).run(async { complete(&mut headers, "/a.B/C") }).await;
            Status::from_header_map(&headers).expect("a status")
        };
        for status in [Status::not_found("no"), Status::out_of_range("large"), Status::unknown("x")]
        {
            let message = status.message().to_owned();
            let told = told(status).await;
            assert_eq!(told.message(), message);
            let named = told.get_details_request_info().expect("a request");
            assert_eq!(named.request_id, "mine", "{message}");
        }
        assert!(told(Status::ok("")).await.details().is_empty());
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        // An error of the health service, which has no details.
        check(Status::not_found("no"), (Code::NotFound, "no", None));
        check(Status::ok(""), (Code::Ok, "", None));
        let ours = status::from_error(&Error::internal("why"));
        let message = ours.message().to_owned();
        check(ours, (Code::Internal, &message, Some(Kind::Internal)));
        let mut headers = HeaderMap::new();
        complete(&mut headers, "/a.B/C");
        assert!(headers.is_empty());
    }
}
