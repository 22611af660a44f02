//! Small DATA frames of HTTP/2 that no handler has read.
//!
//! The HTTP/2 library (h2) uses some 250 bytes of memory for a frame, beside its payload: a stream window of 64 KiB
//! that is full of 1-byte frames takes 16 MiB. The library bounds this overhead only for each connection, at half
//! the connection window, so that 60 connections can take 2 GiB. So this module counts the small frames in the
//! bytes of a connection as they arrive, and again as handlers read them. While too many frames of a connection are
//! unread, the connection is not read.
//!
//! A frame that arrives after its body was dropped is never read by a handler. The library frees it at once; here
//! one such frame is discounted every [`SMALL_FRAME_FORGET`].

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use axum::body::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits::{
    SMALL_FRAME_BYTES, SMALL_FRAME_FORGET, SMALL_FRAMES_PER_BODY, SMALL_FRAMES_PER_CONNECTION,
    TRAILER_BYTES_MAX,
};

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length of a frame header (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
/// The length of the smallest frame that counts; also of a frame header with the length of the padding.
const FRAME_BYTES_MIN: usize = HEAD_BYTES + 1;

/// The number of unread small frames of a connection. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::server) struct UnreadFrames(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    frames: usize,
    /// The request bodies that are not dropped.
    bodies: usize,
    /// The time up to which frames are discounted.
    forgotten: Instant,
    /// The waker of the task that reads the connection, while it waits.
    reader: Option<Waker>,
}

impl Default for UnreadFrames {
    fn default() -> Self {
        let forgotten = Instant::now();
        Self(Arc::new(Mutex::new(State { frames: 0, bodies: 0, forgotten, reader: None })))
    }
}

impl UnreadFrames {
    /// Wraps the body of a request, to count the small frames that are read. Frames of HTTP/1 do not count.
    pub(in crate::server) fn count<B: Body<Data = Bytes> + Unpin>(
        &self,
        request: Request<B>,
    ) -> Request<CountedBody<B>> {
        let unread = (request.version() == Version::HTTP_2).then(|| {
            let mut state = self.lock();
            state.bodies += 1;
            state.wake();
            drop(state);
            self.clone()
        });
        request.map(|body| CountedBody { body, unread })
    }

    /// How many more small frames may arrive. If none, the task is woken when a handler reads one or drops a body,
    /// but not when time passes.
    fn room(&self, cx: &Context<'_>) -> usize {
        let mut state = self.lock();
        while state.frames > 0 && state.forgotten.elapsed() >= SMALL_FRAME_FORGET {
            state.frames -= 1;
            state.forgotten += SMALL_FRAME_FORGET;
        }
        if state.frames == 0 {
            state.forgotten = Instant::now();
        }
        let most = SMALL_FRAMES_PER_CONNECTION + state.bodies * SMALL_FRAMES_PER_BODY;
        let room = most.saturating_sub(state.frames);
        state.reader = (room == 0).then(|| cx.waker().clone());
        room
    }

    fn arrived(&self, frames: usize) {
        self.lock().frames += frames;
    }

    fn read(&self) {
        let mut state = self.lock();
        state.frames = state.frames.saturating_sub(1);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// A request body that counts the small frames that are read from it.
pub(in crate::server) struct CountedBody<B: Body<Data = Bytes> + Unpin> {
    body: B,
    unread: Option<UnreadFrames>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(unread)) = (&frame, &self.unread)
            && frame.data_ref().is_some_and(|data| is_small(data.len()))
        {
            unread.read();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Drop for CountedBody<B> {
    fn drop(&mut self) {
        let Some(unread) = self.unread.clone() else { return };
        // The library frees the frames that it has of this body, so they are read here and counted as read.
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = Pin::new(&mut *self).poll_frame(&mut cx) {}
        let mut state = unread.lock();
        state.bodies -= 1;
        state.wake();
    }
}

/// Whether a DATA frame with this many bytes of data counts. The library has a separate bound for empty frames.
fn is_small(bytes: usize) -> bool {
    (1..SMALL_FRAME_BYTES).contains(&bytes)
}

/// A parser of the frame boundaries in the bytes that a client sends on a connection.
#[derive(Default)]
pub(super) struct FrameCounter {
    at: Position,
    unread: UnreadFrames,
    /// The stream of the last request head.
    last_stream: u32,
    has_long_trailers: bool,
    /// A timer, set while the connection is not read.
    pause: Option<Pin<Box<Sleep>>>,
}

enum Position {
    /// In the preface; how many bytes of it are received.
    Preface(usize),
    /// In a frame header, or at the length of the padding; the bytes, and how many are received.
    Head([u8; FRAME_BYTES_MIN], usize),
    /// In a payload; how many bytes are left.
    Payload(usize),
    /// Nothing is counted: the connection is not HTTP/2.
    Over,
}

impl Default for Position {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl FrameCounter {
    /// The number of unread small frames, shared.
    pub(super) fn unread(&self) -> UnreadFrames {
        self.unread.clone()
    }

    /// How many bytes may be read from the connection. Waits while too many small frames are unread.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let left = match self.at {
            Position::Over => return Poll::Ready(usize::MAX),
            Position::Payload(left) => left,
            Position::Preface(_) | Position::Head(..) => 0,
        };
        loop {
            let room = self.unread.room(cx);
            if left > 0 || room > 0 {
                self.pause = None;
                return Poll::Ready(left + room * FRAME_BYTES_MIN);
            }
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(SMALL_FRAME_FORGET)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
    }

    /// Whether trailers of more than [`TRAILER_BYTES_MAX`] came: the connection must end. The library keeps them until
    /// their body is read, up to its bound of heads, each field of a byte in some 100 bytes.
    pub(super) fn has_long_trailers(&self) -> bool {
        self.has_long_trailers
    }

    /// Looks at the header of a frame.
    fn header(&mut self, head: [u8; FRAME_BYTES_MIN], length: usize) {
        let [_, _, _, kind, flags, stream @ .., _] = head;
        if kind != HEADERS {
            return;
        }
        let stream = u32::from_be_bytes(stream) & !(1 << 31);
        let is_long = length > TRAILER_BYTES_MAX || flags & END_HEADERS == 0;
        self.has_long_trailers |= stream <= self.last_stream && is_long;
        self.last_stream = self.last_stream.max(stream);
    }

    /// Counts the small frames in the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        let mut small = 0;
        while let Some((&first, rest)) = bytes.split_first() {
            match &mut self.at {
                Position::Over => break,
                Position::Preface(came) => {
                    let is_expected = PREFACE.get(*came) == Some(&first);
                    *came += 1;
                    if !is_expected {
                        self.at = Position::Over;
                    } else if *came == PREFACE.len() {
                        self.at = Position::Head([0; FRAME_BYTES_MIN], 0);
                    }
                    bytes = rest;
                }
                Position::Head(head, came) => {
                    if let Some(place) = head.get_mut(*came) {
                        *place = first;
                    }
                    *came += 1;
                    if let Some((data, left)) = frame(head, *came) {
                        small += usize::from(is_small(data));
                        let head = *head;
                        self.header(head, left);
                        self.begin(left);
                    }
                    bytes = rest;
                }
                Position::Payload(left) => {
                    let taken = bytes.len().min(*left);
                    let left = *left - taken;
                    self.begin(left);
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
            }
        }
        if small > 0 {
            self.unread.arrived(small);
        }
    }

    /// Sets the position to a payload with `left` bytes, or to the next frame header if none are left.
    fn begin(&mut self, left: usize) {
        self.at = if left > 0 {
            Position::Payload(left)
        } else {
            Position::Head([0; FRAME_BYTES_MIN], 0)
        };
    }
}

/// The number of data bytes in a frame (0 if it is not a DATA frame), and the bytes of its payload that follow.
/// `None` until the frame header, and for a padded frame the length of the padding, is received.
fn frame(head: &[u8; FRAME_BYTES_MIN], came: usize) -> Option<(usize, usize)> {
    let [high, middle, low, kind, flags, _, _, _, _, padding] = *head;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    let is_padded = kind == DATA && flags & PADDED != 0 && length > 0;
    match (came, is_padded) {
        (HEAD_BYTES, false) => Some((if kind == DATA { length } else { 0 }, length)),
        (FRAME_BYTES_MIN, _) => {
            let left = length - 1;
            Some((left.saturating_sub(usize::from(padding)), left))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
