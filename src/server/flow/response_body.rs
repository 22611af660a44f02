//! Response bodies: split into small pieces, and charged to a budget when they are large.
//!
//! A large response that is in memory as a whole is charged to a budget until its client has received it; if the
//! budget is exhausted, the response is replaced by a refusal.
//!
//! hyper buffers whatever an HTTP/2 stream is given until the client opens its window. So a body is split into
//! small pieces, and the task of a call whose client takes no further piece is dropped, see [`super::executor`].

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use futures::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::waiting::{self, WaitingFor};
use crate::{
    budget::{Budget, Peer, Permit, PermitHandle},
    error::Result,
    limits::{ANSWER_FREE_BYTES, ANSWER_PIECE_BYTES, ANSWER_POOL_BYTES},
};

/// The next item of a body.
type Next = Option<std::result::Result<Frame<Bytes>, axum::Error>>;

/// A response body that is split into pieces.
pub(in crate::server) struct ResponseBody {
    body: Body,
    /// The first item, if the body had it ready at the start.
    first: Poll<Next>,
    /// The rest of the current frame.
    rest: Bytes,
    /// The permit of the bytes of the first frame.
    room: Option<Permit>,
    /// The permit of its call.
    call: Option<PermitHandle>,
    pieces: u64,
}

impl ResponseBody {
    /// Wraps a body. A first frame of more than [`ANSWER_FREE_BYTES`] that is ready is charged to `answers`: a
    /// body that is in memory as a whole is one frame. Bodies that are produced over time have other bounds.
    ///
    /// # Errors
    /// `Busy` if the budget is exhausted.
    pub(in crate::server) fn new(
        mut body: Body,
        (peer, call): (Peer, Option<PermitHandle>),
        answers: &Budget,
    ) -> Result<Self> {
        let first = body.frame().now_or_never().map_or(Poll::Pending, Poll::Ready);
        let bytes = data_bytes(&first).min(ANSWER_POOL_BYTES);
        let room = (bytes > ANSWER_FREE_BYTES).then(|| answers.try_acquire(peer, bytes));
        let room = room.transpose()?;
        let holds = call.iter().chain(room.as_ref().map(Permit::hold)).cloned();
        waiting::begin_answer(holds.collect());
        Ok(Self { body, first, rest: Bytes::new(), room, call, pieces: 0 })
    }

    /// The bytes that are taken from the inner body and not yet returned.
    fn in_hand(&self) -> usize {
        self.rest.len() + data_bytes(&self.first)
    }

    fn holds(&self) -> impl Iterator<Item = &PermitHandle> {
        self.call.iter().chain(self.room.as_ref().map(Permit::hold))
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(ANSWER_PIECE_BYTES));
        self.pieces += 1;
        waiting::set(WaitingFor::Client(self.pieces));
        self.holds().for_each(PermitHandle::stalls);
        Frame::data(piece)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        self.holds().for_each(PermitHandle::progress);
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        waiting::set(WaitingFor::Server);
        let mut next = mem::replace(&mut self.first, Poll::Pending);
        if next.is_pending() {
            self.room = None;
            next = Pin::new(&mut self.body).poll_frame(cx);
        }
        let frame = match ready!(next) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(other) => other,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match self.first {
                Poll::Ready(None) => true,
                Poll::Ready(Some(_)) => false,
                Poll::Pending => self.body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, in_hand) = (self.body.size_hint(), self.in_hand() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(in_hand));
        }
        hint.set_lower(hint.lower().saturating_add(in_hand));
        hint
    }
}

/// The number of data bytes in the next item.
fn data_bytes(next: &Poll<Next>) -> usize {
    match next {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
        Poll::Ready(_) | Poll::Pending => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::{
        error::Kind,
        limits::{BUDGET_RESERVE, MIB},
    };

    fn answer(body: Body, answers: &Budget) -> Result<ResponseBody> {
        ResponseBody::new(body, (Peer::default(), None), answers)
    }

    #[tokio::test]
    async fn an_answer_without_a_body_ends_with_its_head() {
        let ends = |body| answer(body, &Budget::new("tests", MIB)).expect("room").is_end_stream();
        assert!(ends(Body::empty()));
        assert!(ends(
            Body::from_stream(stream::empty::<std::result::Result<Bytes, axum::Error>>())
        ));
        assert!(!ends(Body::from("a")));
    }

    #[tokio::test]
    async fn a_large_answer_takes_room_until_its_last_piece_is_taken() {
        let size = MIB - MIB / BUDGET_RESERVE;
        let budget = Budget::new("tests", MIB);
        let answer = |bytes| answer(Body::from(vec![7; bytes]), &budget);
        let _small = answer(ANSWER_FREE_BYTES).expect("it needs no room");
        assert_eq!(budget.free(), MIB);
        let mut large = answer(size).expect("room for it");
        let error = answer(ANSWER_FREE_BYTES + 1).err().expect("no room");
        assert_eq!(error.kind(), Kind::Busy);
        let mut taken = 0;
        while let Some(piece) = large.frame().await {
            assert_eq!(budget.free(), MIB - size);
            taken += piece.expect("a piece").into_data().expect("data").len();
        }
        assert_eq!((taken, budget.free()), (size, MIB));
    }
}
