//! The layer that identifies the caller of a request, before a byte of its body is read. A call of the service whose
//! credential is refused ends here; what needs no right, such as a health check, does not look at the credential.
//!
//! A call ends when its credential is revoked, also one whose response has begun.

use std::sync::Arc;

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use jiff::Timestamp;
use tokio::{select, time::Instant};

use super::{Class, Protocol, forwarded::Exposed, peer, refusal, revocable::Revocable};
use crate::{
    access::{CallRecord, Caller},
    limits::TOKEN_WARNING,
    server::{
        SERVICE,
        identity::{Authenticator, CERTIFICATE_REQUIRED, Presented, links},
    },
    wire::TOKEN_EXPIRES,
};

/// The challenge of a response with status 401. `Basic` is taken, but never asked for: a browser would keep it.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"imagestore\"");
/// The challenge to a caller whose credential is refused (RFC 6750, section 3.1).
const INVALID_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"imagestore\", error=\"invalid_token\"");

pub(super) async fn layer(
    authenticator: &Authenticator,
    mut request: Request,
    next: Next,
) -> Response {
    let class = Class::of(&request);
    let is_rest = class.protocol == Protocol::Rest;
    if class.asks_health || !(is_rest || is_of_service(&request)) {
        return next.run(request).await;
    }
    let has_credential = request.headers().contains_key(header::AUTHORIZATION);
    let presented = request.extensions().get::<Arc<Presented>>().cloned();
    let has_link = !has_credential && presented.is_none() && links::is_in(&request, is_rest);
    let exposed = request.extensions().get::<Exposed>().copied();
    let identity = if let Some(exposed) = exposed.filter(|_| has_credential || has_link) {
        Err(exposed.refusal())
    } else if has_link {
        match links::read(&request, is_rest) {
            Ok(link) => authenticator.identify_link(link).await,
            Err(error) => Err(error),
        }
    } else {
        authenticator.identify(request.headers(), presented.as_deref(), peer(&request)).await
    };
    let lacks_certificate = is_rest && authenticator.lacks_certificate(presented.as_deref());
    request.extensions_mut().insert(identity.clone());
    if let Some(record) = request.extensions().get::<CallRecord>() {
        record.note_identity(identity.clone());
    }
    let mut response = match identity {
        Ok(caller) => called(class, caller, next.run(request)).await,
        // The gateway refuses it, unless the path needs no right.
        Err(_) if is_rest => next.run(request).await,
        Err(error) => refusal(class, error),
    };
    if lacks_certificate && response.status() == StatusCode::FORBIDDEN {
        let reason = ReasonPhrase::from_static(CERTIFICATE_REQUIRED.as_bytes());
        response.extensions_mut().insert(reason);
    }
    if is_rest {
        challenge(&mut response, has_credential);
    }
    response
}

/// Asks for a credential in a response of REST that lacks one.
pub(super) fn challenge(response: &mut Response, has_credential: bool) {
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = if has_credential { INVALID_TOKEN } else { CHALLENGE };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
}

/// The response of a call, as long as the credential of its caller is not revoked.
async fn called(
    class: Class,
    caller: Caller,
    response: impl Future<Output = Response>,
) -> Response {
    if !caller.is_revocable() {
        return response.await;
    }
    let mut response = select! {
        biased;
        error = caller.revoked() => return refusal(class, error),
        response = response => response,
    };
    if let Some(expiry) = caller.expiry()
        && !caller.has_link()
        && expiry.instant.saturating_duration_since(Instant::now()) < TOKEN_WARNING
        && let Ok(at) = Timestamp::from_microsecond(expiry.at)
        && let Ok(at) = HeaderValue::try_from(at.strftime("%FT%TZ").to_string())
    {
        response.headers_mut().insert(TOKEN_EXPIRES, at);
    }
    response.map(|body| Body::new(Revocable::new(body, class, caller)))
}

/// Whether a gRPC request calls the service, not one of those that need no right.
fn is_of_service(request: &Request) -> bool {
    let path = request.uri().path().strip_prefix('/');
    path.and_then(|path| path.strip_prefix(SERVICE)).is_some_and(|rest| rest.starts_with('/'))
}
