//! The layer that refuses calls beyond a bound as busy, with a hint when to come again, and all calls of
//! a connection for which there is no room.
//!
//! A call counts until the last byte of its answer is taken. A question after the server's health is
//! always let in: a server that is full is well, and who takes it for dead and starts it anew breaks
//! the calls of all others.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Class, refusal};
use crate::error::{Error, Kind};

/// Says of a request that there is no room for its connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Refused;

pub(super) async fn layer(
    State(calls): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let class = Class::of(&request);
    if class.asks_health {
        return next.run(request).await;
    }
    if request.extensions().get::<Refused>().is_some() {
        return refusal(class, busy("connections"));
    }
    let Ok(call) = calls.try_acquire_owned() else {
        return refusal(class, busy("calls"));
    };
    next.run(request).await.map(|body| Body::new(Counted { body, _call: call }))
}

fn busy(what: &str) -> Error {
    Error::new(Kind::Busy, format!("the server has too many {what}; try again later"))
}

/// The body of an answer whose call counts until it is dropped.
struct Counted {
    body: Body,
    _call: OwnedSemaphorePermit,
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
