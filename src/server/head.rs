//! How long the head of a request may be.
//!
//! HTTP/2 compresses heads with a state that all calls of a connection share, so that one which is not
//! read costs the connection. Its library reads more than is taken, and the call alone is refused here.
//! Over HTTP/1 the library itself refuses what its buffer does not hold.

use axum::{body::Body, extract::Request, response::Response};
use http::StatusCode;

use crate::{
    error::{Error, Kind, Result},
    limits::HEADER_BYTES_MAX,
    rest,
    wire::status,
};

/// What HTTP/2 counts of each header beside its name and value.
const OVERHEAD_BYTES: usize = 32;

/// Refuses a head of HTTP/2 of more than [`HEADER_BYTES_MAX`].
///
/// # Errors
/// `MessageTooLarge`.
pub(super) fn check(request: &Request) -> Result<()> {
    let headers = request.headers().iter();
    let bytes: usize =
        headers.map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD_BYTES).sum();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let bytes = bytes + path;
    if bytes <= HEADER_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("the headers of the call have {bytes} bytes, at most {HEADER_BYTES_MAX} are taken");
    Err(Error::new(Kind::MessageTooLarge, message))
}

/// The refusal as the interface tells it.
pub(super) fn fault(is_grpc: bool, error: Error) -> Response {
    if is_grpc {
        return status::from_error(&error).into_http::<Body>();
    }
    let mut response = rest::fault(error);
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}
