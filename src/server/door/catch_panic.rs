//! The layer that makes of a panic the error of one call. The panic hook has logged it, under the id of
//! the request.
//!
//! Where the answer has begun, a call of gRPC ends with the status of the error. A body of REST breaks
//! off, since no answer of HTTP has a second verdict: over HTTP/2 that resets the stream, over HTTP/1 it
//! ends the connection, whose client must see that something is missing.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use futures::FutureExt;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Class, Protocol, refusal};
use crate::{error::Error, wire::status};

pub(super) async fn layer(request: Request, next: Next) -> Response {
    let class = Class::of(&request);
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response.map(|body| Body::new(Caught { body, class })),
        Err(_) => refusal(class, panicked()),
    }
}

fn panicked() -> Error {
    Error::internal("a handler panicked").logged()
}

/// A body of an answer that ends where it panics.
struct Caught {
    body: Body,
    class: Class,
}

impl HttpBody for Caught {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let body = &mut self.body;
        let next = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx)));
        next.unwrap_or_else(|_| {
            drop(mem::take(&mut self.body));
            Poll::Ready(Some(last(self.class)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How a body ends that has panicked.
fn last(class: Class) -> Result<Frame<Bytes>, axum::Error> {
    let error = panicked();
    if class.protocol == Protocol::Rest {
        return Err(axum::Error::new(error));
    }
    let mut trailers = HeaderMap::new();
    let written = status::from_error(&error).add_header(&mut trailers);
    written.map(|()| Frame::trailers(trailers)).map_err(axum::Error::new)
}
