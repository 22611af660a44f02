//! Admission control: the layer that refuses calls above the limit as busy, with `Retry-After` or
//! `RetryInfo`, and all calls of a connection above the limit of connections.
//!
//! A call counts until its client has taken the last byte of the response. Health checks and cancellations
//! have a limit of their own: an orchestrator that restarts a merely overloaded server would abort every call,
//! and a copy that takes too much must remain cancellable.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Class, peer, refusal};
use crate::{
    budget::Permit,
    error::{Error, Kind},
    server::flow::Flow,
};

/// Marks a request whose connection is above the limit of connections, in its extensions.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Refused;

pub(super) async fn layer(State(flow): State<Flow>, mut request: Request, next: Next) -> Response {
    let (class, peer) = (Class::of(&request), peer(&request));
    if !class.is_urgent() && request.extensions().get::<Refused>().is_some() {
        let message = "the server has too many connections; try again later";
        return refusal(class, Error::new(Kind::Busy, message));
    }
    let call = match flow.calls.try_acquire(peer, 1) {
        Err(_) if class.is_urgent() => flow.urgent_calls.try_acquire(peer, 1),
        call => call,
    };
    match call {
        Ok(call) => {
            // The bodies of the request and the response record stalls and progress here.
            request.extensions_mut().insert(call.hold().clone());
            next.run(request).await.map(|body| Body::new(Counted { body, _call: call }))
        }
        Err(error) => refusal(class, error),
    }
}

/// A response body that holds the permit of its call until the body is dropped.
struct Counted {
    body: Body,
    _call: Permit,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
