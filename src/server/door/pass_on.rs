//! What a gateway tells its backend of the caller of a request, whom the gateway does not judge.
//!
//! | metadata of the call | says |
//! |---|---|
//! | `authorization` | the credential of the request, as it came |
//! | [`LINK`] | the address of a request with a signed link and without a credential |
//! | `x-forwarded-for` | the address of the client |
//! | `x-forwarded-proto` | `http` if the request crossed a network in plain text on its way to this gateway, else `https` |
//!
//! A backend takes the last two if the gateway is one of its trusted proxies. All of it is made here: what the client has
//! sent under these names has been dropped, or read of a trusted proxy, before ([`forwarded`](super::forwarded)).

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderValue, header};

use super::{
    Class, Protocol,
    audit::ClientAddress,
    forwarded::{Exposed, FOR, InPlaintext, PROTO},
    identity::challenge,
};
use crate::{
    access::Identity,
    server::identity::links,
    wire::{
        TOKEN_EXPIRES,
        backend::{LINK, Passed},
    },
};

pub(super) async fn layer(mut request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    if class.asks_health || class.protocol != Protocol::Rest {
        return next.run(request).await;
    }
    let has_credential = request.headers().contains_key(header::AUTHORIZATION);
    let has_link = !has_credential && links::is_in(&request, true);
    let exposed = request.extensions().get::<Exposed>().copied();
    let refused = if let Some(exposed) = exposed.filter(|_| has_credential || has_link) {
        Some(exposed.refusal())
    } else if has_link {
        links::read(&request, true).err()
    } else {
        None
    };
    if let Some(error) = refused {
        // The router refuses it, unless the path needs no right.
        request.extensions_mut().insert(Identity::Err(error));
    }
    let passed = Passed { headers: headers(&request, has_link), ..Passed::default() };
    request.extensions_mut().insert(passed.clone());
    let mut response = next.run(request).await;
    if let Some(at) = passed.token_expires.get() {
        response.headers_mut().insert(TOKEN_EXPIRES, at.clone());
    }
    challenge(&mut response, has_credential);
    response
}

/// The metadata of the calls that are made for a request.
fn headers(request: &Request, has_link: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in request.headers().get_all(header::AUTHORIZATION) {
        let mut value = value.clone();
        value.set_sensitive(true);
        headers.append(header::AUTHORIZATION, value);
    }
    let address = request.uri().path_and_query().filter(|_| has_link);
    if let Some(mut link) = address.and_then(|it| HeaderValue::try_from(it.as_str()).ok()) {
        link.set_sensitive(true);
        headers.insert(LINK, link);
    }
    let client = request.extensions().get::<ClientAddress>();
    if let Some(client) = client.and_then(|it| HeaderValue::try_from(it.0.to_string()).ok()) {
        headers.insert(FOR, client);
        let is_plain = request.extensions().get::<InPlaintext>().is_some();
        let scheme = if is_plain { "http" } else { "https" };
        headers.insert(PROTO, HeaderValue::from_static(scheme));
    }
    headers
}
