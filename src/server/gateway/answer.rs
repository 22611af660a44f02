//! The body of an answer of a backend: while it is read the call counts as one of that backend, and a watch ends when the
//! gateway stops.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use super::pool::Lease;
use crate::{error::Error, wire::status};

/// The body.
pub(super) struct Answer {
    body: Body,
    _lease: Lease,
    /// Resolves when a watch ends with the gateway; `None` for other calls, and after that.
    stop: Option<BoxFuture<'static, ()>>,
}

impl Answer {
    /// Wraps the body of a response. `stop` ends it.
    pub(super) fn wrap(
        response: Response<Body>,
        lease: Lease,
        stop: Option<CancellationToken>,
    ) -> Response<Body> {
        let stop = stop.map(|stop| stop.cancelled_owned().boxed());
        response.map(|body| Body::new(Self { body, _lease: lease, stop }))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(stop) = &mut self.stop
            && stop.poll_unpin(cx).is_ready()
        {
            self.stop = None;
            self.body = Body::empty();
            return Poll::Ready(Some(Err(status::from_error(&Error::stopping()))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
