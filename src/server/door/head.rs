//! The layer that checks the head of a request before anything else uses it.
//!
//! A request whose body length is ambiguous is refused and its connection is closed, see [`framing`]. The size of a
//! head is limited. HTTP/2 compresses heads with a state that all calls of a connection share, so a head that is
//! not decoded costs the whole connection. So hyper decodes heads of up to
//! [`HEADER_BYTES_READ`](crate::limits::HEADER_BYTES_READ), and this layer refuses the call alone above
//! [`HEADER_BYTES_MAX`]. Over HTTP/1 hyper refuses a head that exceeds its buffer.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, StatusCode, header};

use super::{Class, Protocol, refusal};
use crate::{
    error::{Error, Kind, Result},
    limits::HEADER_BYTES_MAX,
    server::framing,
};

/// The overhead that HTTP/2 counts for each header field, beside its name and value.
const OVERHEAD_BYTES: usize = 32;

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    if let Err(error) = framing::check(&request) {
        // Such a request exists over HTTP/1 only.
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

/// Refuses a head of more than [`HEADER_BYTES_MAX`], counted as HTTP/2 counts.
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
