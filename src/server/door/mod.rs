//! The door: what every request passes on its way to the two interfaces, and every answer on its way
//! back. One stack of layers, outermost first:
//!
//! | layer | does |
//! |---|---|
//! | [`request_id`] | gives the request an id, which its answer and the lines of the log carry |
//! | [`classify`] | finds out which interface a request is for, and the shape of its call |
//! | [`isolation`] | keeps pages of other origins from taking in an answer of REST |
//! | [`catch_panic`] | makes of a panic the error of one call, also where its answer has begun |
//! | [`head`] | refuses what another server could understand otherwise, and too long a head |
//! | [`hosts`] | refuses foreign names and writes of foreign pages, which a browser lets through |
//! | [`admission`] | refuses calls beyond a bound as busy, but for those after the server's health |
//! | [`request_body`] | bounds what a request makes the server keep, and how slowly it may come |
//! | [`response_body`] | cuts an answer into pieces and bounds what waits for its client |
//! | [`steer`] | hands it to gRPC or to REST |
//!
//! What is told apart is told apart by the [`Class`] of a request, which each layer finds in its
//! extensions. Every refusal is told as its interface tells errors, see [`refusal`].

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
    middleware::{from_fn, from_fn_with_state},
    response::Response,
};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;

use self::classify::{Class, Classes, Protocol};
pub(super) use self::{admission::Refused, hosts::Hosts};
use super::{Bounds, pool::Pool};
use crate::{
    error::Error,
    limits::{ANSWER_POOL_BYTES, BODY_POOL_BYTES, MESSAGE_POOL_BYTES},
    rest,
    wire::status,
};

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
    let requests = request_body::Limits {
        stall: bounds.stall,
        requests: Pool::new("requests", BODY_POOL_BYTES),
        messages: Pool::new("messages", MESSAGE_POOL_BYTES),
    };
    let answers = Pool::new("answers", ANSWER_POOL_BYTES);
    let layers = ServiceBuilder::new()
        .layer(from_fn(request_id::layer))
        .layer(from_fn_with_state(Arc::new(classes), classify::layer))
        .layer(from_fn(isolation::layer))
        .layer(from_fn(catch_panic::layer))
        .layer(from_fn(head::layer))
        .layer(from_fn_with_state(hosts, hosts::layer))
        .layer(from_fn_with_state(Arc::new(Semaphore::new(bounds.calls)), admission::layer))
        .layer(from_fn_with_state(requests, request_body::layer))
        .layer(from_fn_with_state(answers, response_body::layer));
    Ok(steer::router(grpc, rest).layer(layers))
}

/// The answer that tells an error of the door as the interface does.
fn refusal(class: Class, error: Error) -> Response {
    match class.protocol {
        Protocol::Grpc(_) => status::from_error(&error).into_http::<Body>(),
        Protocol::Rest => rest::fault(error),
    }
}
