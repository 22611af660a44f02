//! Small DATA frames of HTTP/2 that no handler has read.
//!
//! The HTTP/2 library (h2) uses some 250 bytes of memory for a frame, beside its payload: a stream window of 64 KiB
//! that is full of 1-byte frames takes 16 MiB. They are in a list of the connection, which never shrinks. A payload
//! is a slice of the buffer that the library has read into, so that an unread frame keeps up to 32 KiB alive,
//! whatever else the client sends between such frames. The library bounds neither for all connections together. So
//! this module counts the small frames in the bytes of a connection as they arrive, and again as handlers read them,
//! and charges what they take to a budget with a share for each peer: the list until the connection ends, the
//! buffers until no frame is left. A connection that has too little of the budget is not read until handlers have
//! read its frames.
//!
//! A frame that arrives after its body was dropped is never read by a handler. The library frees it at once; here
//! such frames are no longer counted when the connection has had no body and no small frame for
//! [`SMALL_FRAME_FORGET`]. Frames of a request that the library has not handed over yet still count.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use axum::body::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::{
    budget::{Budget, Peer, Permit},
    limits::{
        BUFFER_PER_RECEIVED, FRAME_BUFFER_BYTES, FRAME_OVERHEAD_BYTES, SMALL_FRAME_BYTES,
        SMALL_FRAME_FORGET, TRAILER_BYTES_MAX, UNREAD_FREE_BYTES, UNREAD_STEP_BYTES,
    },
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
/// What a received byte costs at most: that of a smallest frame, as a share of the frame's overhead and as part of a
/// buffer.
const COST_PER_BYTE: usize = FRAME_OVERHEAD_BYTES.div_ceil(FRAME_BYTES_MIN) + BUFFER_PER_RECEIVED;

/// The part of [`UNREAD_FREE_BYTES`] that the list of frames may take.
const LIST_FREE_BYTES: usize = UNREAD_FREE_BYTES / 2;

/// The unread small frames of a connection. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::server) struct UnreadFrames(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    budget: Budget,
    peer: Peer,
    /// What the frames take beyond [`UNREAD_FREE_BYTES`].
    permit: Option<Permit>,
    frames: usize,
    /// The most frames that there were at once.
    peak: usize,
    /// The bytes that were received since the oldest of the frames.
    received: usize,
    /// The bodies of the connection that are not dropped.
    bodies: usize,
    /// When the last body was dropped, or the last small frame arrived.
    since: Instant,
    /// The waker of the task that reads the connection, while it waits.
    reader: Option<Waker>,
}

impl UnreadFrames {
    /// Makes the count of a connection of a peer.
    pub(in crate::server) fn new(budget: Budget, peer: Peer) -> Self {
        let (since, permit, reader) = (Instant::now(), None, None);
        let (frames, peak, received, bodies) = (0, 0, 0, 0);
        let state = State { budget, peer, permit, frames, peak, received, bodies, since, reader };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Wraps the body of a request, to count the small frames that are read. Frames of HTTP/1 do not count.
    pub(in crate::server) fn count<B: Body<Data = Bytes> + Unpin>(
        &self,
        request: Request<B>,
    ) -> Request<CountedBody<B>> {
        let unread = (request.version() == Version::HTTP_2).then(|| self.clone());
        if unread.is_some() {
            self.lock().bodies += 1;
        }
        request.map(|body| CountedBody { body, unread })
    }

    /// How many more bytes may be received, whatever frames they are. If none, the task is woken when a handler
    /// reads a frame or drops a body, but not when time passes.
    fn room(&self, cx: &Context<'_>) -> usize {
        let mut state = self.lock();
        let may_forget = state.frames > 0 && state.bodies == 0;
        if may_forget && state.since.elapsed() >= SMALL_FRAME_FORGET {
            state.remove(usize::MAX);
        }
        let mut room = state.room();
        if room < LIST_FREE_BYTES / COST_PER_BYTE && state.grow() {
            room = state.room();
        }
        state.reader = (room == 0).then(|| cx.waker().clone());
        room
    }

    /// Counts the frames in some bytes.
    fn arrived(&self, frames: usize, bytes: usize) {
        let mut state = self.lock();
        state.frames += frames;
        state.peak = state.peak.max(state.frames);
        if frames > 0 {
            state.since = Instant::now();
        }
        if state.frames > 0 {
            state.received = state.received.saturating_add(bytes);
        }
    }

    fn read(&self) {
        let mut state = self.lock();
        state.remove(1);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the list and the buffers of the frames take, at most.
    fn charge(&self) -> usize {
        let received = self.received.saturating_mul(BUFFER_PER_RECEIVED);
        let buffers = self.frames.saturating_mul(FRAME_BUFFER_BYTES).min(received);
        buffers + self.peak * FRAME_OVERHEAD_BYTES
    }

    /// How many more bytes fit into what this connection has of the budget, whatever frames they are.
    ///
    /// The list takes at most [`LIST_FREE_BYTES`] and the permit, so that a connection without unread frames is read.
    fn room(&self) -> usize {
        let permit = self.permit.as_ref().map_or(0, Permit::amount);
        let most = self.peak.max((LIST_FREE_BYTES + permit) / FRAME_OVERHEAD_BYTES);
        let spare = self.peak.saturating_sub(self.frames) * FRAME_BYTES_MIN;
        let free = (UNREAD_FREE_BYTES + permit).saturating_sub(self.charge());
        let room = (free / COST_PER_BYTE)
            .max(spare.min(free / BUFFER_PER_RECEIVED))
            .min(most.saturating_sub(self.frames) * FRAME_BYTES_MIN);
        if room < FRAME_BYTES_MIN { 0 } else { room }
    }

    /// Takes more of the budget. Returns whether there was enough for this peer.
    fn grow(&mut self) -> bool {
        if let Some(permit) = &mut self.permit {
            return permit.grow(UNREAD_STEP_BYTES).is_ok();
        }
        self.permit = self.budget.try_acquire(self.peer, UNREAD_STEP_BYTES).ok();
        self.permit.is_some()
    }

    /// Counts some frames no longer. After the last one, only the list is charged.
    fn remove(&mut self, frames: usize) {
        self.frames = self.frames.saturating_sub(frames);
        if self.frames > 0 {
            return;
        }
        self.received = 0;
        let list = (self.peak * FRAME_OVERHEAD_BYTES).saturating_sub(LIST_FREE_BYTES);
        match &mut self.permit {
            Some(permit) if list > 0 => permit.shrink(permit.amount().saturating_sub(list)),
            _ => self.permit = None,
        }
    }

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
        state.since = Instant::now();
        state.wake();
    }
}

/// Whether a DATA frame with this many bytes of data counts. The library has a separate bound for empty frames.
fn is_small(bytes: usize) -> bool {
    (1..SMALL_FRAME_BYTES).contains(&bytes)
}

/// A parser of the frame boundaries in the bytes that a client sends on a connection.
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

impl FrameCounter {
    /// Begins at the preface.
    pub(super) fn new(unread: UnreadFrames) -> Self {
        let at = Position::Preface(0);
        Self { at, unread, last_stream: 0, has_long_trailers: false, pause: None }
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
                return Poll::Ready(left + room);
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
        let (mut small, received) = (0, bytes.len());
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
        if !matches!(self.at, Position::Over) {
            self.unread.arrived(small, received);
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
