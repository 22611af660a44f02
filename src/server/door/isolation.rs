//! The layer that keeps pages of other origins from taking in what REST and the page answer, as an image
//! or a script is taken in without asking.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue};

use super::{Class, Protocol};

/// The header that says from where a resource may be used.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    let mut response = next.run(request).await;
    if class.protocol == Protocol::Rest {
        response.headers_mut().insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
    response
}
