//! The layer that bounds what a request makes the server keep of its body, and how slowly it may come.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Method, Version};

use super::{Class, Protocol};
use crate::{
    server::{
        incoming::{Incoming, Keeps},
        pool::Pool,
        read_on::ReadOn,
    },
    wire::rpc::Rpc,
};

/// What bounds the bodies of requests.
#[derive(Clone)]
pub(super) struct Limits {
    /// How long a client may let the server wait.
    pub(super) stall: Duration,
    /// For the bodies that are kept whole.
    pub(super) requests: Pool,
    /// For the messages of uploads.
    pub(super) messages: Pool,
}

pub(super) async fn layer(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let keeps = keeps(&request, &limits);
    let request = if request.version() == Version::HTTP_2 {
        request.map(|body| Body::new(ReadOn::new(body)))
    } else {
        request
    };
    next.run(match keeps {
        Some(keeps) => request.map(|body| Body::new(Incoming::new(body, limits.stall, keeps))),
        None => request,
    })
    .await
}

/// What the handler of a request keeps of its body. `None` is a dialogue, in which a client says few
/// bytes now and then; its handler has bounds of its own.
fn keeps(request: &Request, limits: &Limits) -> Option<Keeps> {
    let class = Class::of(request);
    match class.protocol {
        Protocol::Grpc(Some(Rpc { streams_in: true, streams_out: true })) => return None,
        Protocol::Grpc(Some(Rpc { streams_in: true, .. })) => {
            return Some(Keeps::Message(limits.messages.clone()));
        }
        Protocol::Grpc(_) | Protocol::Rest => {}
    }
    let is_piece = class.asks_health || request.method() == Method::PUT;
    Some(if is_piece { Keeps::Piece } else { Keeps::Whole(limits.requests.clone()) })
}
