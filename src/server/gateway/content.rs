//! The message or messages of a call, which may have to be sent again to another backend.
//!
//! A call that is repeatable has one message, which is kept. Of any other call nothing is kept: its body can be sent
//! again as long as no byte of it was read.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tonic::{Status, body::Body};

/// The content of a call.
pub(super) enum Content {
    /// The one message of a call that can be made again.
    Kept(Bytes),
    /// A body that is read once.
    Once(Arc<Mutex<Slot>>),
}

/// A body, and whether it was asked for a byte.
pub(super) struct Slot {
    body: Body,
    is_begun: bool,
}

impl Content {
    /// Keeps the one message of a call. Returns its length, too.
    ///
    /// # Errors
    /// The error of the body.
    pub(super) async fn keep(body: Body) -> Result<(usize, Self), Status> {
        let bytes = body.collect().await?.to_bytes();
        Ok((bytes.len(), Self::Kept(bytes)))
    }

    /// Keeps nothing.
    pub(super) fn once(body: Body) -> Self {
        Self::Once(Arc::new(Mutex::new(Slot { body, is_begun: false })))
    }

    /// Whether the call can be made again, though it may have reached a backend.
    pub(super) fn is_left(&self) -> bool {
        match self {
            Self::Kept(_) => true,
            Self::Once(slot) => !lock(slot).is_begun,
        }
    }

    /// The body of the next try.
    pub(super) fn body(&self) -> Body {
        match self {
            Self::Kept(bytes) => Body::new(Full::new(bytes.clone())),
            Self::Once(slot) => Body::new(Once(Arc::clone(slot))),
        }
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a try, which leaves it for the next one until it is asked for a byte.
struct Once(Arc<Mutex<Slot>>);

impl HttpBody for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut slot = lock(&self.0);
        slot.is_begun = true;
        Pin::new(&mut slot.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Body {
        Body::new(Full::new(Bytes::from_static(b"a")))
    }

    async fn read(body: Body) -> Bytes {
        body.collect().await.expect("bytes").to_bytes()
    }

    #[tokio::test]
    async fn one_message_is_sent_as_often_as_needed() {
        let (length, content) = Content::keep(body()).await.expect("kept");
        assert_eq!(length, 1);
        for _ in 0..3 {
            assert_eq!(read(content.body()).await, "a");
            assert!(content.is_left());
        }
    }

    #[tokio::test]
    async fn what_was_begun_is_not_sent_again() {
        let content = Content::once(body());
        drop(content.body());
        assert!(content.is_left());
        assert_eq!(read(content.body()).await, "a");
        assert!(!content.is_left());
    }
}
