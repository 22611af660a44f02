//! What comes in: the body of a request.
//!
//! It fails where its client is too slow, and where it is one that a handler keeps whole and all of
//! those together have become too many bytes. The error is a [`tonic::Status`], which gRPC answers as it is
//! and which the gateway understands.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::Pace;
use crate::{
    error::{Error, Kind},
    limits::{BODY_POOL_BYTES, KIB, PACE_BYTES},
    wire::status,
};

/// What the bodies that are kept whole may take together. Clones are one pool.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Semaphore>);

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODY_POOL_BYTES / KIB)))
    }
}

/// A body on its way in.
pub(super) struct Incoming {
    body: Body,
    pace: Pace,
    limit: Duration,
    pool: Option<Pool>,
    received: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    /// Watches a body, whose client has `limit` for each [`PACE_BYTES`]. One that is kept whole
    /// takes its bytes from a pool, until it is dropped.
    pub(super) fn new(body: Body, limit: Duration, pool: Option<Pool>) -> Self {
        Self { body, pace: Pace::new(limit), limit, pool, received: 0, held: None }
    }

    /// Counts bytes that came.
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.pace.moved(bytes);
        self.received += bytes;
        let Some(Pool(pool)) = &self.pool else { return Ok(()) };
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = self.received.div_ceil(KIB).saturating_sub(held);
        let more = u32::try_from(more).map_err(Error::internal)?;
        let permit = Arc::clone(pool).try_acquire_many_owned(more).map_err(|_| {
            let message = "the server has too many bytes of requests; try again later";
            Error::new(Kind::Busy, message)
        })?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }

    fn too_slow(&self) -> Error {
        let seconds = self.limit.as_secs();
        let message =
            format!("fewer than {PACE_BYTES} bytes of the body came in {seconds} s; send it again");
        Error::new(Kind::Timeout, message)
    }
}

fn failed(error: &Error) -> axum::BoxError {
    Box::new(status::from_error(error))
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(end) => {
                self.pace.moved(0);
                return Poll::Ready(end.map(|end| end.map_err(Into::into)));
            }
            Poll::Pending => {
                ready!(self.pace.poll_over(cx));
                return Poll::Ready(Some(Err(failed(&self.too_slow()))));
            }
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(self.take(bytes).map(|()| frame).map_err(|error| failed(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, channel::mpsc};
    use http_body_util::BodyExt;
    use tonic::Status;

    use super::*;
    use crate::limits::MIB;

    #[tokio::test]
    async fn a_body_that_stands_still_fails_with_a_status() {
        let (mut sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        sender.send(Ok(Bytes::from_static(b"a"))).await.expect("sent");
        let limit = Duration::from_millis(20);
        let mut body = Incoming::new(Body::from_stream(receiver), limit, None);
        let frame = body.frame().await.expect("a frame").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), "a");
        let error = body.frame().await.expect("a frame").expect_err("it stands still");
        let found = Status::from_error(error);
        assert_eq!(status::kind(&found), Kind::Timeout);
        assert!(found.message().starts_with("fewer than 16384 bytes"), "{found}");
    }

    #[tokio::test]
    async fn a_body_that_ends_has_no_limit() {
        let mut body = Incoming::new(Body::from("abc"), Duration::ZERO, None);
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.expect("a frame").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn bodies_that_are_kept_take_from_one_pool_and_give_it_back() {
        let pool = Pool::default();
        let limit = Duration::from_mins(1);
        let body =
            |bytes: usize| Incoming::new(Body::from(vec![7; bytes]), limit, Some(pool.clone()));
        let mut large = body(BODY_POOL_BYTES - KIB);
        large.frame().await.expect("a frame").expect("room for it");
        let mut small = body(KIB);
        small.frame().await.expect("a frame").expect("room for it");
        let error = body(1).frame().await.expect("a frame").expect_err("no room");
        let found = Status::from_error(error);
        assert_eq!(status::kind(&found), Kind::Busy);
        drop(large);
        body(MIB).frame().await.expect("a frame").expect("room again");
        // A body that is not kept needs none.
        let mut streamed = Incoming::new(Body::from(vec![7; 2 * BODY_POOL_BYTES]), limit, None);
        streamed.frame().await.expect("a frame").expect("a piece");
    }
}
