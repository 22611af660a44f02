//! The layer that turns a panic into the error of one call. The panic hook logs the panic, with the id of the
//! request.
//!
//! If the response has begun, a gRPC call ends with the error status in its trailers. A REST body is aborted, since
//! the status code is sent already: HTTP/2 resets the stream, HTTP/1 closes the connection, and the client sees that
//! the body is incomplete.

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

/// A response body that ends with an error when it panics.
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

/// The last frame of a body that has panicked: trailers for gRPC, an error for REST.
fn last(class: Class) -> Result<Frame<Bytes>, axum::Error> {
    let error = panicked();
    if class.protocol == Protocol::Rest {
        return Err(axum::Error::new(error));
    }
    let mut trailers = HeaderMap::new();
    let written = status::from_error(&error).add_header(&mut trailers);
    written.map(|()| Frame::trailers(trailers)).map_err(axum::Error::new)
}
