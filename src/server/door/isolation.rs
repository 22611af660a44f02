//! The layer that adds two headers to responses of REST and the page: `Cross-Origin-Resource-Policy`, so that pages of
//! other origins cannot embed them as images or scripts, and `Referrer-Policy`, so that no address with a link reaches
//! another server.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue, header};

use super::{Class, Protocol};

/// The header that says which origins may embed a resource.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    let mut response = next.run(request).await;
    if class.protocol == Protocol::Rest {
        let headers = response.headers_mut();
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}
