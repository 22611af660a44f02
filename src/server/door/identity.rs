//! The layer that identifies the caller of a request, before a byte of its body is read. A call of the service whose
//! credential is refused ends here; what needs no right, such as a health check, does not look at the credential.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, StatusCode, header};

use super::{Class, Protocol, refusal};
use crate::server::{SERVICE, identity::Authenticator};

/// The challenge of a response with status 401. `Basic` is taken, but never asked for: a browser would keep it.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"imagestore\"");
/// The challenge to a caller whose credential is refused (RFC 6750, section 3.1).
const INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"imagestore\", error=\"invalid_token\"");

pub(super) async fn layer(
    State(authenticator): State<Authenticator>,
    mut request: Request,
    next: Next,
) -> Response {
    let class = Class::of(&request);
    let is_rest = class.protocol == Protocol::Rest;
    if class.asks_health || !(is_rest || is_of_service(&request)) {
        return next.run(request).await;
    }
    let has_credential = request.headers().contains_key(header::AUTHORIZATION);
    let identity = authenticator.identify(request.headers());
    let mut response = match identity {
        // The gateway refuses it, unless the path needs no right.
        Err(error) if !is_rest => refusal(class, error),
        identity => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
    };
    if is_rest && response.status() == StatusCode::UNAUTHORIZED {
        let challenge = if has_credential { INVALID_TOKEN } else { CHALLENGE };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Whether a gRPC request calls the service, not one of those that need no right.
fn is_of_service(request: &Request) -> bool {
    let path = request.uri().path().strip_prefix('/');
    path.and_then(|path| path.strip_prefix(SERVICE)).is_some_and(|rest| rest.starts_with('/'))
}
