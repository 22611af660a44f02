//! Request bodies: minimum throughput, and memory that is charged to a budget.
//!
//! A body fails when its client is too slow, or when its handler buffers it as a whole and the budget is used up. A
//! body that is consumed message by message waits for room for its next message. A body whose budget is revoked
//! fails while it waits for its client. The error is a [`tonic::Status`], which gRPC sends as it is and which the
//! gateway translates.

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

use super::{framing::Framing, throughput::MinThroughput};
use crate::{
    budget::{Budget, Peer, Permit, PermitHandle},
    error::{Error, Kind, Result},
    limits::{DIALOGUE_BYTES_MAX, MESSAGE_BYTES_MAX, THROUGHPUT_BYTES_MIN},
    wire::status,
};

/// An item of a body.
type FrameResult = std::result::Result<Frame<Bytes>, axum::BoxError>;

/// How much of a body its handler buffers, and the budget to which these bytes are charged.
#[derive(Clone, Debug)]
pub(in crate::server) enum Buffering {
    /// One piece, which is not charged.
    None,
    /// One gRPC message.
    PerMessage(Budget),
    /// One small gRPC message of a bidirectional stream, whose client may pause between its messages.
    PerTurn(Budget),
    /// The whole body.
    Full(Budget),
}

/// The client that sends a body.
#[derive(Clone, Debug)]
pub(in crate::server) struct Sender {
    pub(in crate::server) peer: Peer,
    /// The permit of its call.
    pub(in crate::server) call: Option<PermitHandle>,
    /// The time for each [`THROUGHPUT_BYTES_MIN`], or for each message of a bidirectional stream.
    pub(in crate::server) stall: Duration,
}

/// A frame that waits until the message that begins in it has its permit.
struct Waiting {
    frame: Frame<Bytes>,
    room: BoxFuture<'static, Result<Permit>>,
}

/// A request body with a minimum throughput, whose buffered bytes are charged to a budget.
pub(in crate::server) struct RequestBody {
    body: Body,
    sender: Sender,
    throughput: MinThroughput,
    buffering: Buffering,
    received: usize,
    /// Received bytes that the handler has not got yet.
    rest: Bytes,
    framing: Framing,
    /// The number of the message that was charged last.
    message: u64,
    /// Whether the handler has got the whole of that message.
    is_over: bool,
    held: Option<Permit>,
    waiting: Option<Waiting>,
}

impl RequestBody {
    /// Wraps a body.
    pub(in crate::server) fn new(body: Body, sender: Sender, buffering: Buffering) -> Self {
        Self {
            body,
            throughput: MinThroughput::new(sender.stall),
            sender,
            buffering,
            received: 0,
            rest: Bytes::new(),
            framing: Framing::default(),
            message: 0,
            is_over: false,
            held: None,
            waiting: None,
        }
    }

    /// Takes received bytes, up to the end of the current message. Returns them, and how many bytes to acquire
    /// before the handler gets them.
    ///
    /// # Errors
    /// `MessageTooLarge` for a message of a bidirectional stream that exceeds [`DIALOGUE_BYTES_MAX`].
    fn message(&mut self) -> Result<(Frame<Bytes>, Option<usize>)> {
        let size = self.framing.advance(&self.rest);
        let frame = Frame::data(self.rest.split_to(size));
        // A handler asks for the next message when it has processed this one, which keeps its permit until then.
        self.is_over = self.framing.is_at_end();
        let begun = self.framing.begun();
        if matches!(self.buffering, Buffering::PerTurn(_)) {
            if begun > 0 && self.framing.size() > DIALOGUE_BYTES_MAX {
                let message =
                    format!("a message has more than {DIALOGUE_BYTES_MAX} bytes; send less");
                return Err(Error::new(Kind::MessageTooLarge, message));
            }
            if self.is_over {
                self.throughput.renew();
            }
        }
        let is_new = mem::replace(&mut self.message, begun) != begun;
        let room = match self.framing.size() {
            // The decoder refuses a message that is too large.
            size if !is_new || size == 0 || size > MESSAGE_BYTES_MAX => None,
            // The decompressed size is not known.
            _ if self.framing.is_compressed() => Some(MESSAGE_BYTES_MAX),
            size => Some(size),
        };
        Ok((frame, room))
    }

    /// Charges the received bytes of a body that is buffered whole.
    fn whole(&mut self, budget: &Budget) -> Result<()> {
        self.received += self.rest.len();
        match &mut self.held {
            Some(held) => held.grow(self.rest.len())?,
            None => self.held = Some(budget.try_acquire(self.sender.peer, self.received)?),
        }
        Ok(())
    }

    /// Returns received bytes to the handler, when they are charged.
    fn hand_on(&mut self, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        let buffering = self.buffering.clone();
        match buffering {
            Buffering::None => {}
            Buffering::PerMessage(budget) | Buffering::PerTurn(budget) => {
                let (frame, room) = match self.message() {
                    Ok(message) => message,
                    Err(error) => return Poll::Ready(Some(Err(failed(&error)))),
                };
                let Some(bytes) = room else { return Poll::Ready(Some(Ok(frame))) };
                let peer = self.sender.peer;
                let room = Box::pin(async move { budget.acquire(peer, bytes).await });
                self.waiting = Some(Waiting { frame, room });
                return self.poll_room(cx);
            }
            Buffering::Full(budget) => {
                if let Err(error) = self.whole(&budget) {
                    return Poll::Ready(Some(Err(failed(&error))));
                }
            }
        }
        Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.rest)))))
    }

    /// Returns the waiting frame when its permit is acquired.
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

    /// The permits of the call: one of the calls, and one of the bytes.
    fn holds(&mut self) -> impl Iterator<Item = &mut PermitHandle> {
        let bytes = self.held.as_mut().map(Permit::hold_mut);
        self.sender.call.as_mut().into_iter().chain(bytes)
    }

    /// Waits for the client. Ready with an error when the client is too slow, or when a permit is revoked.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        for hold in self.holds() {
            hold.stalls();
            if let Poll::Ready(error) = hold.poll_revoked(cx) {
                return Poll::Ready(error);
            }
        }
        ready!(self.throughput.poll_expired(cx));
        Poll::Ready(self.too_slow())
    }

    /// The error of a body that breaks off. For a gRPC stream the status must not be `Cancelled`: tonic treats
    /// that status as a clean end of the stream, so that half a file would look like a whole one.
    fn broken(&self, error: axum::Error) -> axum::BoxError {
        match self.buffering {
            Buffering::PerMessage(_) | Buffering::PerTurn(_) => {
                Box::new(Status::data_loss(format!("the body broke off: {error}")))
            }
            Buffering::None | Buffering::Full(_) => error.into(),
        }
    }

    fn too_slow(&self) -> Error {
        let seconds = self.sender.stall.as_secs();
        let message = match self.buffering {
            Buffering::PerTurn(_) => {
                format!("no message from the client for {seconds} s; start the call again")
            }
            Buffering::None | Buffering::PerMessage(_) | Buffering::Full(_) => format!(
                "fewer than {THROUGHPUT_BYTES_MIN} bytes of the body came in {seconds} s; send it again"
            ),
        };
        Error::new(Kind::Timeout, message)
    }
}

fn failed(error: &Error) -> axum::BoxError {
    Box::new(status::from_error(error))
}

impl HttpBody for RequestBody {
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
        let next = Pin::new(&mut self.body).poll_frame(cx);
        if next.is_pending() {
            let error = ready!(self.poll_client(cx));
            return Poll::Ready(Some(Err(failed(&error))));
        }
        self.holds().for_each(|hold| hold.progress());
        let frame = match ready!(next) {
            Some(Ok(frame)) => frame,
            end => {
                self.throughput.record(0);
                return Poll::Ready(end.map(|end| end.map_err(|error| self.broken(error))));
            }
        };
        self.throughput.record(frame.data_ref().map_or(0, Bytes::len));
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
mod tests;
