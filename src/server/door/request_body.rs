//! The layer that wraps the body of a request: memory budget and minimum throughput, see
//! [`flow`](crate::server::flow).

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::Method;

use super::{Class, Protocol, peer};
use crate::{
    budget::PermitHandle,
    server::flow::{Buffering, Flow, RequestBody, Sender},
    wire::rpc::Rpc,
};

pub(super) async fn layer(State(flow): State<Flow>, request: Request, next: Next) -> Response {
    let buffering = buffering(&request, &flow);
    let call = request.extensions().get::<PermitHandle>().cloned();
    let sender = Sender { peer: peer(&request), call, stall: flow.stall };
    let request = request.map(|body| Body::new(RequestBody::new(body, sender, buffering)));
    next.run(request).await
}

/// How much of its body the handler of a request buffers: the whole body, unless the class says otherwise.
fn buffering(request: &Request, flow: &Flow) -> Buffering {
    let class = Class::of(request);
    match class.protocol {
        Protocol::Grpc(Some(Rpc { streams_in: true, streams_out: true })) => {
            Buffering::PerTurn(flow.messages.clone())
        }
        Protocol::Grpc(Some(Rpc { streams_in: true, .. })) => {
            Buffering::PerMessage(flow.messages.clone())
        }
        _ if class.is_urgent() => Buffering::Full(flow.urgent_requests.clone()),
        Protocol::Rest if request.method() == Method::PUT => Buffering::None,
        Protocol::Grpc(_) | Protocol::Rest => Buffering::Full(flow.requests.clone()),
    }
}
