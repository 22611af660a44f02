//! The request pipeline: one stack of layers that every request passes on its way to gRPC or REST, and every
//! response on its way back. Outermost first:
//!
//! | layer | does |
//! |---|---|
//! | [`request_id`] | gives the request an id, which its answer and the lines of the log carry |
//! | [`classify`] | finds out which interface a request is for, and the shape of its call |
//! | [`isolation`] | keeps pages of other origins from taking in an answer of REST |
//! | [`catch_panic`] | makes of a panic the error of one call, also where its answer has begun |
//! | [`head`] | refuses what another server could understand otherwise, and too long a head |
//! | [`hosts`] | refuses foreign names and writes of foreign pages, which a browser lets through |
//! | [`admission`] | refuses calls beyond a bound as busy; health and cancellation have a reserve |
//! | [`request_body`] | bounds what a request makes the server keep, and how slowly it may come |
//! | [`response_body`] | cuts an answer into pieces and bounds what waits for its client |
//! | [`steer`] | hands it to gRPC or to REST |
//!
//! The [`Class`] of a request tells the layers how to treat it; each finds it in the extensions. Every refusal has
//! the form of errors of its interface, see [`refusal`].

mod admission;
mod catch_panic;
mod classify;
mod head;
mod hosts;
mod isolation;
mod request_body;
mod request_id;
mod response_body;
mod steer;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{from_fn, from_fn_with_state},
    response::Response,
};
use tower::ServiceBuilder;

use self::classify::{Class, Classes, Protocol};
pub(super) use self::{admission::Refused, hosts::Hosts};
use super::{Bounds, flow::Flow};
use crate::{budget::Peer, error::Error, rest, wire::status};

/// Joins the interfaces behind the door: `grpc` gets what is a call of gRPC, `rest` everything else. Requests
/// are taken under the names that are given.
///
/// # Errors
/// A description of the API that is broken.
pub(super) fn door(
    grpc: Router,
    rest: Router,
    hosts: Hosts,
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
        .layer(from_fn_with_state(hosts, hosts::layer))
        .layer(from_fn_with_state(flow.clone(), admission::layer))
        .layer(from_fn_with_state(flow.clone(), request_body::layer))
        .layer(from_fn_with_state(flow, response_body::layer));
    Ok(steer::router(grpc, rest).layer(layers))
}

/// Who sent a request: the server itself where nobody else did.
fn peer(request: &Request) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or_default()
}

/// The answer that tells an error of the door as the interface does.
fn refusal(class: Class, error: Error) -> Response {
    match class.protocol {
        Protocol::Grpc(_) => status::from_error(&error).into_http::<Body>(),
        Protocol::Rest => rest::fault(error),
    }
}
