//! Admission control: the layer that refuses calls above the limit as busy, with `Retry-After` or
//! `RetryInfo`, and all calls of a connection that is refused.
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

/// Why the connection of a request is refused, in the extensions of the request.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) enum Refused {
    /// The connection is above the limit of connections.
    TooMany,
    /// The connection has no TLS, and the port has.
    NoTls,
}

impl Refused {
    /// The error of a call; `None` if the call is made nevertheless.
    fn error(self, class: Class) -> Option<Error> {
        match self {
            Self::TooMany if class.is_urgent() => None,
            Self::TooMany => {
                let message = "the server has too many connections; try again later";
                Some(Error::new(Kind::Busy, message))
            }
            Self::NoTls => {
                let message = "this port takes TLS only; use an https:// address";
                Some(Error::new(Kind::InvalidArgument, message))
            }
        }
    }
}

pub(super) async fn layer(State(flow): State<Flow>, mut request: Request, next: Next) -> Response {
    let (class, peer) = (Class::of(&request), peer(&request));
    let refused = request.extensions().get::<Refused>();
    if let Some(error) = refused.and_then(|refused| refused.error(class)) {
        return refusal(class, error);
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
