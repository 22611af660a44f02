//! The request pipeline: one stack of layers that every request passes on its way to gRPC or REST, and every
//! response on its way back. Outermost first:
//!
//! | layer | does |
//! |---|---|
//! | [`request_id`] | gives the request an id, which is in the response and in the log lines of the request |
//! | [`classify`] | determines the interface of a request, and whether its call is unary or streaming |
//! | [`isolation`] | keeps pages of other origins from embedding responses of REST |
//! | [`catch_panic`] | turns a panic into the error of one call, even if its response has begun |
//! | [`head`] | refuses requests whose body length is ambiguous, and heads that are too long |
//! | [`forwarded`] | reads what a trusted proxy says of a request, and drops what another peer says |
//! | [`audit`] | writes the audit log |
//! | [`hosts`] | refuses foreign host names (DNS rebinding) and writes by pages of other origins (CSRF) |
//! | [`admission`] | refuses calls above a limit as busy; health checks and cancellations have a reserve |
//! | [`identity`] | identifies the caller; refuses gRPC calls whose credential is refused. In a gateway, notes what the backend is told of the caller ([`pass_on`]) |
//! | [`request_body`] | bounds the memory of request bodies, and their minimum throughput |
//! | [`response_body`] | splits responses into pieces, and bounds the bytes that wait for slow clients |
//! | [`steer`] | routes the request to gRPC or to REST |
//!
//! The layers read the [`Class`] of a request from its extensions. Every refusal has the error format of the
//! interface of its request, see [`refusal`].

mod admission;
mod audit;
mod catch_panic;
mod classify;
mod forwarded;
mod head;
mod host;
mod hosts;
mod identity;
mod isolation;
mod pass_on;
mod request_body;
mod request_id;
mod response_body;
mod revocable;
mod steer;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use tower::ServiceBuilder;

use self::classify::{Class, Classes, Protocol};
pub(super) use self::{admission::Refused, audit::ClientAddress, forwarded::Proxies, hosts::Hosts};
use super::{Bounds, audit::Audit, flow::Flow, identity::Authenticator};
use crate::{budget::Peer, error::Error, rest, wire::status};

/// Who says who the caller of a request is. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Identification {
    /// This server.
    Own(Authenticator),
    /// The backend of this gateway.
    Backend,
}

/// Who is let in, and what is written of it.
#[derive(Debug)]
pub(super) struct Guards {
    /// The names under which requests are accepted.
    pub(super) hosts: Hosts,
    /// The proxies whose word is taken.
    pub(super) proxies: Proxies,
    /// Who identifies callers.
    pub(super) identification: Identification,
    /// The audit log.
    pub(super) audit: Audit,
}

/// Joins both interfaces behind the layers: `grpc` gets the gRPC calls, `rest` all other requests.
///
/// # Errors
/// A descriptor of the API that cannot be read.
pub(super) fn door(
    grpc: Router,
    rest: Router,
    Guards { hosts, proxies, identification, audit }: Guards,
    bounds: Bounds,
) -> Result<Router, super::Error> {
    let classes = Classes::new().map_err(|error| {
        super::Error::new("the description of the API is broken").because(error)
    })?;
    let flow = Flow::new(bounds);
    let layers = ServiceBuilder::new()
        .layer(from_fn(request_id::layer))
        .layer(from_fn_with_state(Arc::new(classes), classify::layer))
        .layer(from_fn(isolation::layer))
        .layer(from_fn(catch_panic::layer))
        .layer(from_fn(head::layer))
        .layer(from_fn_with_state(proxies, forwarded::layer))
        .layer(from_fn_with_state(audit, audit::layer))
        .layer(from_fn_with_state(hosts, hosts::layer))
        .layer(from_fn_with_state(flow.clone(), admission::layer))
        .layer(from_fn_with_state(identification, identify))
        .layer(from_fn_with_state(flow.clone(), request_body::layer))
        .layer(from_fn_with_state(flow, response_body::layer));
    Ok(steer::router(grpc, rest).layer(layers))
}

/// The layer that finds out who the caller of a request is, or leaves that to the backend.
async fn identify(
    State(identification): State<Identification>,
    request: Request,
    next: Next,
) -> Response {
    match identification {
        Identification::Own(authenticator) => identity::layer(&authenticator, request, next).await,
        Identification::Backend => pass_on::layer(request, next).await,
    }
}

/// The peer that sent a request; the server itself for a request that has none.
fn peer(request: &Request) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or_default()
}

/// The response that refuses a request, in the error format of its interface.
fn refusal(class: Class, error: Error) -> Response {
    match class.protocol {
        Protocol::Grpc(_) => status::from_error(&error).into_http::<Body>(),
        Protocol::Rest => rest::error_response(error),
    }
}
