//! The responses: successes, and the JSON form of every error (reference, section 7).

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

/// The header, an extension, with the number of files that an upload has replaced.
const FILES_REPLACED: HeaderName = HeaderName::from_static("files-replaced");
/// The content type of every JSON response, and of empty ones.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Keeps browsers from guessing another content type.
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Keeps caches from storing a response: the next one may differ.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The error of a call. It becomes an error response.
#[derive(Debug)]
pub(super) struct Failure {
    /// The kind, which determines the status, the code and the reason phrase.
    pub(super) kind: Kind,
    /// The message for the caller.
    pub(super) message: String,
    /// The value of `Allow`, for a verb that the path does not support; makes the status 405.
    allow: Option<String>,
}

impl Failure {
    /// Creates a failure.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: status::bounded(&message.into()), allow: None }
    }

    /// Creates the failure for a verb that the path does not support; `verbs` are those that it supports.
    pub(super) fn not_allowed(message: impl Into<String>, verbs: &[&str]) -> Self {
        Self { allow: Some(allow(verbs)), ..Self::new(Kind::InvalidArgument, message) }
    }

    /// Replaces the kind.
    pub(super) fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

impl From<Error> for Failure {
    /// Converts an error that the gateway itself has made, and logs it if its kind requires it.
    fn from(error: Error) -> Self {
        error.report();
        Self::new(error.kind(), error.message())
    }
}

impl From<Status> for Failure {
    /// Converts a status of the backend. The backend has logged the error, except a failure of the transport,
    /// which is logged here.
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
        if self.kind.retryable() || self.kind == Kind::TooManyFailures {
            let seconds = HeaderValue::from(status::RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// The body of an error response.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorAnswer<'a> {
    error: ErrorBody<'a>,
}

/// An error as JSON, in responses and in operations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorBody<'a> {
    /// The documented code of the kind.
    pub(super) code: &'static str,
    /// The message.
    pub(super) message: &'a str,
    /// The id of the request, which the log lines have too; the error of an operation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
}

/// The HTTP/1 reason phrase: the code, with three exceptions.
fn reason(kind: Kind) -> &'static [u8] {
    match codes::code(kind) {
        "E_INVALIDARG" if codes::status(kind) == StatusCode::BAD_REQUEST => b"Bad Request",
        "E_ACCESSDENIED" => b"Access Denied",
        "E_NOTIMPL" => b"Not Implemented",
        code => code.as_bytes(),
    }
}

/// A JSON response.
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

/// A JSON response that is written on the blocking pool if it is large. `bytes` measures the work.
pub(super) async fn long_json(
    bytes: usize,
    write: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
) -> Result<Response, Failure> {
    let body = offload::run(bytes, write).await.map_err(Error::internal)?;
    Ok(with_body(StatusCode::OK, Body::from(body)))
}

/// A JSON response with a body that the caller has written.
pub(super) fn with_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The empty 200 response, which has the JSON content type, as upstream's has.
pub(super) fn empty() -> Response {
    with_body(StatusCode::OK, Body::empty())
}

/// The empty 200 response for a stored file, with the number of files that it has replaced, unless that is 0.
pub(super) fn stored(files_replaced: u64) -> Response {
    let mut response = empty();
    if files_replaced > 0 {
        response.headers_mut().insert(FILES_REPLACED, files_replaced.into());
    }
    response
}

/// The empty 204 response.
pub(super) fn no_content() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The response to `OPTIONS`, with the verbs of a path in `Allow`.
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
