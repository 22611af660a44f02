//! The layer that adds `Cross-Origin-Resource-Policy` to responses of REST and the page, so that pages of other
//! origins cannot embed them as images or scripts.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue};

use super::{Class, Protocol};

/// The header that says which origins may embed a resource.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    let mut response = next.run(request).await;
    if class.protocol == Protocol::Rest {
        response.headers_mut().insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
    response
}
