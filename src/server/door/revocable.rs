//! A response body that ends when the credential of its caller is revoked: over gRPC with a status in the trailers, over
//! REST by breaking off, since its status is sent already.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Class, Protocol};
use crate::{access::Caller, error::Error, wire::status};

/// The body of a call.
pub(super) struct Revocable {
    body: Body,
    class: Class,
    /// Resolves when the credential is revoked; `None` after that.
    revoked: Option<BoxFuture<'static, Error>>,
}

impl Revocable {
    pub(super) fn new(body: Body, class: Class, caller: Caller) -> Self {
        Self { body, class, revoked: Some(Box::pin(async move { caller.revoked().await })) }
    }

    /// The last frame of a response whose credential is revoked.
    fn last(&mut self, error: Error) -> Result<Frame<Bytes>, axum::Error> {
        self.body = Body::empty();
        match self.class.protocol {
            Protocol::Rest => Err(axum::Error::new(error)),
            Protocol::Grpc(_) => {
                let mut trailers = HeaderMap::new();
                status::from_error(&error).add_header(&mut trailers).map_err(axum::Error::new)?;
                Ok(Frame::trailers(trailers))
            }
        }
    }
}

impl HttpBody for Revocable {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Some(revoked) = &mut this.revoked
            && let Poll::Ready(error) = revoked.as_mut().poll(cx)
        {
            this.revoked = None;
            return Poll::Ready(Some(this.last(error)));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
