//! What comes in: the body of a request.
//!
//! It fails where its client is too slow, and where it is one that a handler keeps whole and all of
//! those together have become too many bytes. One that is taken message by message waits for the room
//! of its next large message. The error is a [`tonic::Status`], which gRPC answers as it is and which
//! the gateway understands.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use super::{
    messages::Messages,
    pace::Pace,
    pool::{Pool, Room},
};
use crate::{
    error::{Error, Kind, Result},
    limits::{MESSAGE_BYTES_MAX, MESSAGE_FREE_BYTES, PACE_BYTES},
    wire::status,
};

/// What a body gives.
type FrameResult = std::result::Result<Frame<Bytes>, axum::BoxError>;

/// What the handler of a body keeps of it until it goes on.
#[derive(Clone)]
pub(super) enum Keeps {
    /// A piece.
    Piece,
    /// A message of gRPC.
    Message(Pool),
    /// All of it.
    Whole(Pool),
}

/// A frame that waits for the room of the message that begins in it.
struct Waiting {
    frame: Frame<Bytes>,
    room: BoxFuture<'static, Result<Room>>,
}

/// A body on its way in.
pub(super) struct Incoming {
    body: Body,
    pace: Pace,
    limit: Duration,
    keeps: Keeps,
    received: usize,
    /// What came and is not handed on.
    rest: Bytes,
    messages: Messages,
    /// The message for which there is room.
    message: Option<u64>,
    /// Whether it is handed on as a whole.
    is_over: bool,
    held: Option<Room>,
    waiting: Option<Waiting>,
}

impl Incoming {
    /// Watches a body, whose client has `limit` for each [`PACE_BYTES`]. What is kept of it is taken
    /// from a pool.
    pub(super) fn new(body: Body, limit: Duration, keeps: Keeps) -> Self {
        Self {
            body,
            pace: Pace::new(limit),
            limit,
            keeps,
            received: 0,
            rest: Bytes::new(),
            messages: Messages::default(),
            message: None,
            is_over: false,
            held: None,
            waiting: None,
        }
    }

    /// Takes of what came up to the end of a message. Returns that, and the room that it needs before
    /// it is handed on.
    fn message(&mut self, pool: Pool) -> (Frame<Bytes>, Option<BoxFuture<'static, Result<Room>>>) {
        let size = self.messages.follow(&self.rest);
        let frame = Frame::data(self.rest.split_to(size));
        let unfinished = self.messages.unfinished();
        let message = unfinished.map(|(message, _)| message);
        let (is_new, is_packed) = (message != self.message, self.messages.is_packed());
        let unpacks = is_packed && self.messages.is_at_end();
        self.message = message;
        // Whoever has taken a message asks for the next one when it is used. Until then it has its room.
        self.is_over = self.messages.is_at_end();
        // A longer one is refused by its decoder.
        let is_large = |size: usize| (MESSAGE_FREE_BYTES + 1..=MESSAGE_BYTES_MAX).contains(&size);
        let large = unfinished.map(|(_, size)| size).filter(|&size| is_new && is_large(size));
        let room = match large {
            // What it will be when it is unpacked, nobody knows. A small one that is whole waits for the
            // same room: it can be as large then.
            Some(_) if is_packed => Some(MESSAGE_BYTES_MAX),
            None if unpacks && self.held.is_none() => Some(MESSAGE_BYTES_MAX),
            large => large,
        };
        (frame, room.map(|size| Box::pin(pool.wait(size)) as BoxFuture<'_, _>))
    }

    /// Takes room for all that came.
    fn whole(&mut self, pool: &Pool) -> Result<()> {
        self.received += self.rest.len();
        match &mut self.held {
            Some(held) => held.grow(pool, self.received)?,
            None => self.held = Some(pool.take(self.received)?),
        }
        Ok(())
    }

    /// Hands on some of what came.
    fn hand_on(&mut self, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        let keeps = self.keeps.clone();
        match keeps {
            Keeps::Piece => {}
            Keeps::Message(pool) => {
                let (frame, room) = self.message(pool);
                let Some(room) = room else { return Poll::Ready(Some(Ok(frame))) };
                self.waiting = Some(Waiting { frame, room });
                return self.poll_room(cx);
            }
            Keeps::Whole(pool) => {
                if let Err(error) = self.whole(&pool) {
                    return Poll::Ready(Some(Err(failed(&error))));
                }
            }
        }
        Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.rest)))))
    }

    /// Hands on the frame that waits, when there is room for it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        let Some(Waiting { frame, mut room }) = self.waiting.take() else {
            return Poll::Ready(None);
        };
        match room.as_mut().poll(cx) {
            Poll::Pending => {
                self.waiting = Some(Waiting { frame, room });
                Poll::Pending
            }
            Poll::Ready(Ok(held)) => {
                self.held = Some(held);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(failed(&error)))),
        }
    }

    /// Why the body broke off. Where it is one of messages it must not be that the call was cancelled:
    /// tonic takes such a body for one that has ended well, and so half a file for a whole one.
    fn broken(&self, error: axum::Error) -> axum::BoxError {
        match self.keeps {
            Keeps::Message(_) => {
                Box::new(Status::data_loss(format!("the body broke off: {error}")))
            }
            Keeps::Piece | Keeps::Whole(_) => error.into(),
        }
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        if self.waiting.is_some() {
            return self.poll_room(cx);
        }
        if mem::take(&mut self.is_over) {
            self.held = None;
        }
        if !self.rest.is_empty() {
            return self.hand_on(cx);
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(end) => {
                self.pace.moved(0);
                return Poll::Ready(end.map(|end| end.map_err(|error| self.broken(error))));
            }
            Poll::Pending => {
                ready!(self.pace.poll_over(cx));
                return Poll::Ready(Some(Err(failed(&self.too_slow()))));
            }
        };
        self.pace.moved(frame.data_ref().map_or(0, Bytes::len));
        match frame.into_data() {
            Ok(data) if !data.is_empty() => {
                self.rest = data;
                self.hand_on(cx)
            }
            Ok(empty) => Poll::Ready(Some(Ok(Frame::data(empty)))),
            Err(other) => Poll::Ready(Some(Ok(other))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.waiting.is_some() || !self.rest.is_empty() {
            return SizeHint::default();
        }
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, SinkExt, channel::mpsc, stream};
    use http_body_util::BodyExt;

    use super::*;
    use crate::limits::{BODY_POOL_BYTES, KIB, MIB};

    #[tokio::test]
    async fn a_body_that_stands_still_fails_with_a_status() {
        let (mut sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        sender.send(Ok(Bytes::from_static(b"a"))).await.expect("sent");
        let limit = Duration::from_millis(20);
        let mut body = Incoming::new(Body::from_stream(receiver), limit, Keeps::Piece);
        let frame = body.frame().await.expect("a frame").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), "a");
        let error = body.frame().await.expect("a frame").expect_err("it stands still");
        let found = Status::from_error(error);
        assert_eq!(status::kind(&found), Kind::Timeout);
        assert!(found.message().starts_with("fewer than 16384 bytes"), "{found}");
    }

    #[tokio::test]
    async fn a_body_of_messages_that_is_cancelled_has_not_ended() {
        let cancelled = stream::iter([Err::<Bytes, _>(Status::cancelled("left"))]);
        let keeps = Keeps::Message(Pool::new("tests", BODY_POOL_BYTES));
        let body = Body::from_stream(cancelled);
        let mut body = Incoming::new(body, Duration::from_mins(1), keeps);
        let error = body.frame().await.expect("a frame").expect_err("it broke off");
        assert_eq!(Status::from_error(error).code(), tonic::Code::DataLoss);
    }

    #[tokio::test]
    async fn a_body_that_ends_has_no_limit() {
        let mut body = Incoming::new(Body::from("abc"), Duration::ZERO, Keeps::Piece);
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.expect("a frame").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), "abc");
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn bodies_that_are_kept_take_from_one_pool_and_give_it_back() {
        let pool = Pool::new("tests", BODY_POOL_BYTES);
        let limit = Duration::from_mins(1);
        let body = |bytes: usize| {
            Incoming::new(Body::from(vec![7; bytes]), limit, Keeps::Whole(pool.clone()))
        };
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
        let mut streamed =
            Incoming::new(Body::from(vec![7; 2 * BODY_POOL_BYTES]), limit, Keeps::Piece);
        streamed.frame().await.expect("a frame").expect("a piece");
    }

    /// The beginning of a message of some bytes.
    fn half(bytes: usize) -> Body {
        let size = u32::try_from(bytes).expect("a size").to_be_bytes();
        Body::from([&[0], &size[..], &[7; KIB]].concat())
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_waits_for_room_and_a_small_one_needs_none() {
        let pool = Pool::new("tests", BODY_POOL_BYTES);
        let limit = Duration::from_mins(1);
        let begin = |bytes| Incoming::new(half(bytes), limit, Keeps::Message(pool.clone()));
        let mut others: Vec<_> =
            (0..BODY_POOL_BYTES / MESSAGE_BYTES_MAX).map(|_| begin(MESSAGE_BYTES_MAX)).collect();
        for other in &mut others {
            other.frame().await.expect("a frame").expect("room for it");
        }
        begin(MESSAGE_FREE_BYTES).frame().await.expect("a frame").expect("no room is needed");
        let mut late = begin(MESSAGE_FREE_BYTES + 1);
        assert!(late.frame().now_or_never().is_none() && !late.is_end_stream());
        others.pop();
        let frame = late.frame().await.expect("a frame").expect("room again");
        assert_eq!(frame.into_data().expect("data").len(), 5 + KIB);
        assert!(late.is_end_stream());
        let error = begin(MESSAGE_BYTES_MAX).frame().await.expect("a frame").expect_err("no room");
        assert_eq!(status::kind(&Status::from_error(error)), Kind::Busy);
        // One that is refused by its decoder needs none.
        begin(MESSAGE_BYTES_MAX + 1).frame().await.expect("a frame").expect("handed on");
    }

    #[tokio::test]
    async fn a_compressed_message_has_the_room_of_the_largest_until_it_is_used() {
        let (mut sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(8);
        let pool = Pool::new("tests", BODY_POOL_BYTES);
        let keeps = Keeps::Message(pool.clone());
        let mut body = Incoming::new(Body::from_stream(receiver), Duration::from_mins(1), keeps);
        let mut send = async |bytes: &[u8]| {
            sender.send(Ok(Bytes::copy_from_slice(bytes))).await.expect("sent");
            body.frame().await.expect("a frame").expect("a piece");
            BODY_POOL_BYTES - pool.free()
        };
        // One that is there at once, one in two pieces, one that is none.
        assert_eq!(send(&[1, 0, 0, 0, 1, 7]).await, MESSAGE_BYTES_MAX);
        assert_eq!(send(&[1, 0, 0]).await, 0);
        assert_eq!(send(&[0, 2, 7]).await, 0);
        assert_eq!(send(&[7]).await, MESSAGE_BYTES_MAX);
        assert_eq!(send(&[0, 0, 0, 0, 1, 7]).await, 0);
        // A large one has it from its beginning, and no second one at its end.
        let size = u32::try_from(2 * MESSAGE_FREE_BYTES).expect("a size").to_be_bytes();
        assert_eq!(send(&[&[1], &size[..]].concat()).await, MESSAGE_BYTES_MAX);
        assert_eq!(send(&vec![7; 2 * MESSAGE_FREE_BYTES]).await, MESSAGE_BYTES_MAX);
        assert_eq!(send(&[0]).await, 0);
    }

    #[tokio::test]
    async fn the_room_of_a_message_is_given_back_when_it_is_whole() {
        let (mut sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(8);
        let pool = Pool::new("tests", BODY_POOL_BYTES);
        let keeps = Keeps::Message(pool.clone());
        let mut body = Incoming::new(Body::from_stream(receiver), Duration::from_mins(1), keeps);
        let mut send = async |bytes: &[u8]| {
            sender.send(Ok(Bytes::copy_from_slice(bytes))).await.expect("sent");
            body.frame().await.expect("a frame").expect("a piece");
            BODY_POOL_BYTES - pool.free()
        };
        let size = u32::try_from(2 * MESSAGE_FREE_BYTES).expect("a size").to_be_bytes();
        assert_eq!(send(&[0]).await, 0);
        assert_eq!(send(&size).await, 2 * MESSAGE_FREE_BYTES);
        assert_eq!(send(&vec![7; MESSAGE_FREE_BYTES]).await, 2 * MESSAGE_FREE_BYTES);
        // It is used now, and over when the next one is asked for.
        assert_eq!(send(&vec![7; MESSAGE_FREE_BYTES]).await, 2 * MESSAGE_FREE_BYTES);
        assert_eq!(send(&[0, 0, 0]).await, 0);
        // The next one begins in the frame in which the one before ends.
        assert_eq!(send(&[0, 1, 7, 0]).await, 0);
        drop(sender);
        let rest = body.frame().await.expect("a frame").expect("a piece");
        assert_eq!(rest.into_data().expect("data"), [0][..]);
        assert!(body.frame().await.is_none());
    }
}
