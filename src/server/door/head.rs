//! The layer that judges the head of a request before anything is made of it.
//!
//! Where a body ends must be clear to everybody, see [`framing`]; what is not ends the connection. A head
//! has a longest size. HTTP/2 compresses heads with a state that all calls of a connection share, so that
//! one which is not read costs the connection. Its library reads more than is taken, and the call alone is
//! refused here. Over HTTP/1 the library itself refuses what its buffer does not hold.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, StatusCode, header};

use super::{Class, Protocol, refusal};
use crate::{
    error::{Error, Kind, Result},
    limits::HEADER_BYTES_MAX,
    server::framing,
};

/// What HTTP/2 counts of each header beside its name and value.
const OVERHEAD_BYTES: usize = 32;

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    if let Err(error) = framing::check(&request) {
        // There is none like it over HTTP/2.
        let mut response = refusal(class, error);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    if let Err(error) = check(&request) {
        let mut response = refusal(class, error);
        if class.protocol == Protocol::Rest {
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        }
        return response;
    }
    next.run(request).await
}

/// Refuses a head of HTTP/2 of more than [`HEADER_BYTES_MAX`].
///
/// # Errors
/// `MessageTooLarge`.
fn check(request: &Request) -> Result<()> {
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
