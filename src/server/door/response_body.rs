//! The layer that wraps the body of a response: small pieces and a memory budget, see
//! [`flow`](crate::server::flow).

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::{Class, Protocol, peer, refusal};
use crate::{
    budget::PermitHandle,
    server::flow::{Flow, ResponseBody},
    wire::rpc::Rpc,
};

/// The header in which a client names the compressions that it accepts.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

pub(super) async fn layer(State(flow): State<Flow>, mut request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    let of = (peer(&request), request.extensions().get::<PermitHandle>().cloned());
    // The messages of a response stream are short, or are stored bytes that compress badly. tonic would compress
    // them if the client accepts that, so the header is removed.
    if matches!(class.protocol, Protocol::Grpc(Some(Rpc { streams_out: true, .. }))) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    let (head, body) = next.run(request).await.into_parts();
    match ResponseBody::new(body, of, &flow.answers) {
        Ok(body) => Response::from_parts(head, Body::new(body)),
        Err(error) => refusal(class, error),
    }
}
