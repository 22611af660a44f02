//! The body of a request.
//!
//! A call that is refused leaves its body unread. A client that reads the response only after it has written the body
//! must receive the response nevertheless. The server around the gateway ensures this: HTTP/1 connections linger, and
//! HTTP/2 bodies are drained.

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::answer::Failure;
use crate::{error::Kind, limits, wire::status};

/// A body that is read piece by piece.
pub(super) struct Payload {
    body: Body,
    /// Whether the end was read. A chunked body does not know its end before that.
    has_ended: bool,
}

impl Payload {
    /// Takes the body of a request.
    pub(super) fn new(body: Body) -> Self {
        Self { body, has_ended: false }
    }

    /// The size of the body in bytes, if the client has sent it.
    pub(super) fn size(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The error of the server around the gateway if it ends the body, such as `Kind::Timeout` for a client that
    /// stalls; `Kind::InvalidArgument` if the body breaks off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => {
                    self.has_ended = true;
                    return Ok(None);
                }
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// `Kind::MessageTooLarge` for more than [`REST_BODY_BYTES_MAX`](limits::REST_BODY_BYTES_MAX), `Kind::Timeout` if
    /// the body is not complete at the deadline, and the errors of [`Payload::next`].
    pub(super) async fn whole(&mut self, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            let most = limits::REST_BODY_BYTES_MAX;
            let message = format!("the body has more than {most} bytes");
            Failure::new(Kind::MessageTooLarge, message)
        };
        if self.size().is_some_and(|size| size > limits::REST_BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let mut whole = Vec::new();
        let read = async {
            while let Some(bytes) = self.next().await? {
                if whole.len() + bytes.len() > limits::REST_BODY_BYTES_MAX {
                    return Err(too_large());
                }
                whole.extend_from_slice(&bytes);
            }
            Ok(())
        };
        timeout_at(deadline, read).await.map_err(|_| {
            Failure::new(Kind::Timeout, "the time of the call passed before its body was there")
        })??;
        // Dropping the body releases its permit of the memory budget while the call works.
        self.body = Body::empty();
        Ok(whole)
    }

    /// Reads and discards the body of a request that uses none, so that its connection can be reused. Gives up on a
    /// body that is too long or too slow.
    pub(super) async fn skip(&mut self) {
        let mut left = limits::UNUSED_BODY_BYTES;
        if self.is_read() || self.size().is_some_and(|size| size > left as u64) {
            return;
        }
        let read = async {
            while let Ok(Some(bytes)) = self.next().await {
                let Some(rest) = left.checked_sub(bytes.len()) else { return };
                left = rest;
            }
        };
        // After the timeout the body stays unread, and the connection closes.
        timeout(limits::REFUSED_BODY_TIME, read).await.ok();
    }

    /// Whether the body is read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }
}

/// The failure for a body that breaks off.
fn broken(error: axum::Error) -> Failure {
    match Status::try_from_error(error.into()) {
        Ok(status) if status::kind_of_broken_body(&status).is_some() => status.into(),
        Ok(status) => {
            Failure::new(Kind::InvalidArgument, format!("the body broke off: {}", status.message()))
        }
        Err(error) => Failure::new(Kind::InvalidArgument, format!("the body broke off: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{StreamExt, stream};

    use super::*;

    fn payload(pieces: Vec<Result<Bytes, std::io::Error>>) -> Payload {
        Payload::new(Body::from_stream(stream::iter(pieces)))
    }

    #[tokio::test]
    async fn a_body_within_the_bound_is_read_whole() {
        let deadline = Instant::now() + limits::REST_TIMEOUT_DEFAULT;
        let half = Bytes::from(vec![7; limits::REST_BODY_BYTES_MAX / 2]);
        let mut exact = payload(vec![Ok(half.clone()), Ok(Bytes::new()), Ok(half.clone())]);
        let whole = exact.whole(deadline).await.expect("a body");
        assert_eq!(whole.len(), limits::REST_BODY_BYTES_MAX);
        let mut more = payload(vec![Ok(half.clone()), Ok(half), Ok(Bytes::from_static(b"x"))]);
        let failure = more.whole(deadline).await.expect_err("too large");
        assert_eq!(failure.kind, Kind::MessageTooLarge);
    }

    #[tokio::test]
    async fn a_whole_body_is_freed() {
        let room = Arc::new(());
        let held = Arc::clone(&room);
        let body = stream::once(async move { Ok::<_, std::io::Error>(Bytes::from_static(b"a")) });
        let body = body.inspect(move |_| assert_eq!(*held, ()));
        let mut payload = Payload::new(Body::from_stream(body));
        let deadline = Instant::now() + limits::REST_TIMEOUT_DEFAULT;
        assert_eq!(payload.whole(deadline).await.expect("a body"), b"a");
        assert_eq!(Arc::strong_count(&room), 1);
        assert!(payload.is_read());
    }

    #[tokio::test]
    async fn a_body_is_read_when_its_end_was_seen() {
        for pieces in [vec![], vec![Ok(Bytes::from_static(b"a"))]] {
            let mut payload = payload(pieces);
            assert!(!payload.is_read());
            while payload.next().await.expect("a piece").is_some() {}
            assert!(payload.is_read());
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let broken = std::io::Error::other("reset");
        let mut payload = payload(vec![Ok(Bytes::from_static(b"a")), Err(broken)]);
        assert_eq!(payload.next().await.expect("a piece"), Some(Bytes::from_static(b"a")));
        assert_eq!(payload.next().await.expect_err("broken").kind, Kind::InvalidArgument);
    }
}
