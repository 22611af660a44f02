//! The answers: success, and the one shape of every error (reference, section 7).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde::Serialize;
use tonic::Status;

use super::codes;
use crate::{
    error::{Error, Kind},
    offload,
    wire::{request::Id, status},
};

/// The header, an extension, that says how many files an upload has replaced.
const FILES_REPLACED: HeaderName = HeaderName::from_static("files-replaced");
/// The type of every JSON answer, and of empty ones.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Keeps browsers from guessing another type.
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// What is true now can be false at the next request.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why a call has no success to answer.
#[derive(Debug)]
pub(super) struct Failure {
    /// Chooses the status, the code and the reason phrase.
    pub(super) kind: Kind,
    /// What the caller sees.
    pub(super) message: String,
    /// The verbs that the path takes, where the one of the request is none of them: 405.
    allow: Option<String>,
}

impl Failure {
    /// Creates a failure.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: status::bounded(&message.into()), allow: None }
    }

    /// Creates the failure of a verb that a path does not take.
    pub(super) fn not_allowed(message: impl Into<String>, verbs: &[&str]) -> Self {
        Self { allow: Some(allow(verbs)), ..Self::new(Kind::InvalidArgument, message) }
    }

    /// Tells a failure as another kind.
    pub(super) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

impl From<Error> for Failure {
    /// Tells an error that the gateway made itself; what is to be in the log gets there here.
    fn from(error: Error) -> Self {
        error.report();
        Self::new(error.kind(), error.message())
    }
}

impl From<Status> for Failure {
    /// Tells what the backend answered. It has logged why, unless the transport to it failed.
    fn from(status: Status) -> Self {
        if status.details().is_empty() && status::kind(&status) == Kind::Internal {
            return Error::internal(status).into();
        }
        Self::new(status::kind(&status), status.message())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let request = Id::current();
        let request_id = request.as_ref().map(Id::text);
        let error = ErrorBody { code: codes::code(self.kind), message: &self.message, request_id };
        let mut response = json(codes::status(self.kind), &ErrorAnswer { error });
        if let Some(allow) = self.allow.and_then(|verbs| HeaderValue::try_from(verbs).ok()) {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        response.extensions_mut().insert(ReasonPhrase::from_static(reason(self.kind)));
        if self.kind == Kind::UnsupportedEncoding {
            let encodings = HeaderValue::from_static("identity");
            response.headers_mut().insert(header::ACCEPT_ENCODING, encodings);
        }
        if self.kind.retryable() {
            let seconds = HeaderValue::from(status::RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// The body of an error.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorAnswer<'a> {
    error: ErrorBody<'a>,
}

/// An error as JSON, in answers and in operations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorBody<'a> {
    /// The symbol of the kind.
    pub(super) code: &'static str,
    /// What was wrong.
    pub(super) message: &'a str,
    /// The request that it answers, by which the log knows it; an operation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
}

/// The reason phrase of HTTP/1: the code, but for three of them.
fn reason(kind: Kind) -> &'static [u8] {
    match codes::code(kind) {
        "E_INVALIDARG" if codes::status(kind) == StatusCode::BAD_REQUEST => b"Bad Request",
        "E_ACCESSDENIED" => b"Access Denied",
        "E_NOTIMPL" => b"Not Implemented",
        code => code.as_bytes(),
    }
}

/// A JSON answer.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_body(status, Body::from(body)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot write an answer");
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// A JSON answer that is written from so many bytes, which may take its time.
pub(super) async fn long_json(
    bytes: usize,
    write: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
) -> Result<Response, Failure> {
    let body = offload::run(bytes, write).await.map_err(Error::internal)?;
    Ok(with_body(StatusCode::OK, Body::from(body)))
}

/// An answer whose body is JSON that is written elsewhere.
pub(super) fn with_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The empty 200, which has upstream's JSON type all the same.
pub(super) fn empty() -> Response {
    with_body(StatusCode::OK, Body::empty())
}

/// The empty 200 for a file that is stored. It says how many files that has replaced, unless it is none.
pub(super) fn stored(files_replaced: u64) -> Response {
    let mut response = empty();
    if files_replaced > 0 {
        response.headers_mut().insert(FILES_REPLACED, files_replaced.into());
    }
    response
}

/// The empty 204.
pub(super) fn no_content() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The answer to `OPTIONS`: which verbs a path takes.
pub(super) fn options(verbs: &[&str]) -> Response {
    let mut response = no_content();
    if let Ok(allow) = HeaderValue::try_from(allow(verbs)) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// The value of `Allow`.
fn allow(verbs: &[&str]) -> String {
    let verbs: Vec<&str> = verbs.iter().copied().chain(["OPTIONS"]).collect();
    verbs.join(", ")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn an_error_has_its_code_three_times() {
        for (kind, status, phrase) in [
            (Kind::InvalidArgument, 400, "Bad Request"),
            (Kind::BadRange, 400, "FABRIC_E_UPLOAD_SESSION_RANGE_NOT_SATISFIABLE"),
            (Kind::Forbidden, 403, "Access Denied"),
            (Kind::FileNotFound, 404, "FABRIC_E_FILE_NOT_FOUND"),
            (Kind::Unimplemented, 501, "Not Implemented"),
            (Kind::Busy, 503, "FABRIC_E_SERVICE_TOO_BUSY"),
            (Kind::Timeout, 504, "FABRIC_E_TIMEOUT"),
        ] {
            let response = Failure::new(kind, "why \"x\"").into_response();
            assert_eq!(response.status(), status);
            let extension = response.extensions().get::<ReasonPhrase>().expect("a phrase");
            assert_eq!(extension.as_bytes(), phrase.as_bytes());
            assert_eq!(response.headers().contains_key("retry-after"), kind == Kind::Busy);
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            let code = codes::code(kind);
            let expected = format!(r#"{{"Error":{{"Code":"{code}","Message":"why \"x\""}}}}"#);
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn an_empty_success_has_the_type_of_json() {
        let response = empty();
        assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}
