//! The stream of a client, over TCP or TLS: minimum write throughput, a lingering close, and keep-alive probes.
//!
//! **Writes.** A client that does not read fills the buffer of the kernel, and then that of the connection. It is
//! disconnected when it is below the minimum throughput of bodies, or as soon as the budget of its call is revoked.
//! The connection is reset, so that the kernel drops the unsent bytes as well. Over TLS the same holds for encrypted
//! bytes that are not sent.
//!
//! **Close.** When a request is refused before its body is read, closing the socket with unread bytes makes the
//! kernel send a reset, and the client may lose the response. So after the last response the write side is shut
//! down, and up to [`REFUSED_BODY_BYTES`] of input are read and discarded for up to [`REFUSED_BODY_TIME`], until
//! the client closes. During a server shutdown this takes at most [`Bounds::stop_linger`], since clients of HTTP/2 still
//! send frames, such as replies to pings, while they receive the last responses. An idle connection of HTTP/1 is then
//! closed at once: nothing is unread, and its client may keep it for long.
//!
//! **Keep-alive.** The kernel probes idle clients, since a client of an event stream that disappears would
//! otherwise stay connected until a write to it times out.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{
    either::Either,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};
use tracing::debug;

use super::{
    super::{
        Bounds,
        framing::{FirstRefused, HeadParser},
    },
    small_frames::{self, UnreadFrames},
    throughput::MinThroughput,
    waiting,
};
use crate::{
    budget::{Permit, PermitHandle},
    limits::{
        KIB, PROBE_AFTER, PROBE_EVERY, PROBES, REFUSED_BODY_BYTES, REFUSED_BODY_TIME, SILENCE_TIME,
    },
};

/// A TCP stream, or TLS over one.
pub(in crate::server) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A stream whose input is parsed, whose writes have a minimum throughput, and whose close lingers.
pub(in crate::server) struct ClientStream {
    stream: Transport,
    framing: HeadParser,
    frames: small_frames::FrameCounter,
    throughput: MinThroughput,
    stop: CancellationToken,
    stop_linger: Duration,
    /// The permit of the connection; `None` for a connection that is refused.
    connection: Option<Permit>,
    /// Whether the last read waits for the client.
    is_reading: bool,
    /// Whether the last flush waits for the client.
    is_flushing: bool,
    closing: Option<Closing>,
}

/// The bounds of a lingering close.
struct Closing {
    /// Whether the write side is shut down.
    is_shut: bool,
    bytes_left: usize,
    time: Pin<Box<Sleep>>,
    /// Shortens the time; `None` when it has.
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl ClientStream {
    /// Wraps a stream. [`Bounds::stall`] is how long the client may take for each
    /// [`THROUGHPUT_BYTES_MIN`](crate::limits::THROUGHPUT_BYTES_MIN); `stop` shortens a lingering close.
    pub(in crate::server) fn new(
        stream: Transport,
        bounds: Bounds,
        stop: CancellationToken,
        connection: Option<Permit>,
        unread: UnreadFrames,
    ) -> Self {
        let (framing, throughput) = (HeadParser::default(), MinThroughput::new(bounds.stall));
        let frames = small_frames::FrameCounter::new(unread);
        Self {
            stream,
            framing,
            frames,
            throughput,
            stop,
            stop_linger: bounds.stop_linger,
            connection,
            is_reading: false,
            is_flushing: false,
            closing: None,
        }
    }

    /// The number of the request with two body lengths, shared, see [`HeadParser`].
    pub(in crate::server) fn first_refused(&self) -> FirstRefused {
        self.framing.first_refused()
    }

    /// Records a stall or progress at the permit of the connection.
    fn note(&self, what: impl Fn(&PermitHandle)) {
        self.connection.iter().map(Permit::hold).for_each(what);
    }

    /// Counts written bytes, and the time in which the client does not take them.
    ///
    /// # Errors
    /// `TimedOut` if the client reads too slowly, or a permit of the call is revoked.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                self.throughput.record(*written.as_ref().unwrap_or(&0));
                self.note(PermitHandle::progress);
                if self.is_reading {
                    // From now on: a client that reads gets the next bytes soon, and one that stands still stalls.
                    self.note(PermitHandle::stalls);
                }
                Poll::Ready(written)
            }
            Poll::Pending => {
                self.note(PermitHandle::stalls);
                if waiting::poll_revoked(cx).is_pending() {
                    ready!(self.throughput.poll_expired(cx));
                }
                // With a linger time of 0 the kernel drops unsent bytes and resets the connection at once.
                let socket = SockRef::from(&*tcp(&mut self.stream));
                if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                    debug!(%error, "a connection is gone before it is cut");
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// The TCP stream of a transport.
fn tcp(stream: &mut Transport) -> &mut TcpStream {
    match stream {
        Either::Left(stream) => stream,
        Either::Right(stream) => stream.get_mut().0,
    }
}

/// Sets the options of an accepted socket: keep-alive probes, and no delay of small writes.
///
/// # Errors
/// An option that cannot be set, usually because the connection is closed already.
pub(in crate::server) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    socket.set_tcp_keepalive(&probes.with_retries(PROBES))?;
    socket.set_tcp_user_timeout(Some(SILENCE_TIME))
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match self.frames.poll_room(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(room) => {
                let mut some = (&mut self.stream).take(room as u64);
                Pin::new(&mut some).poll_read(cx, buffer)
            }
        };
        self.is_reading = read.is_pending();
        if self.is_reading {
            self.note(PermitHandle::stalls);
        }
        ready!(read)?;
        self.note(PermitHandle::progress);
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.framing.follow(came);
        self.frames.follow(came);
        if self.frames.has_long_trailers() {
            debug!("a connection with too long trailers is cut");
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // A flush that ends at once says nothing of the client: TCP has nothing to flush, and TLS may have nothing.
        if flushed.is_ready() && !self.is_flushing {
            return flushed;
        }
        self.is_flushing = flushed.is_pending();
        self.written(cx, flushed.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, stop, stop_linger, closing, framing, .. } = &mut *self;
        let closing = closing.get_or_insert_with(|| Closing {
            is_shut: false,
            bytes_left: REFUSED_BODY_BYTES,
            time: Box::pin(sleep(REFUSED_BODY_TIME)),
            stop: Some(Box::pin(stop.clone().cancelled_owned())),
        });
        if !closing.is_shut
            && let Poll::Ready(shut) = Pin::new(&mut *stream).poll_shutdown(cx)
        {
            shut?;
            closing.is_shut = true;
        }
        if closing.is_stopped(*stop_linger, cx) && framing.is_between_requests() {
            return Poll::Ready(Ok(()));
        }
        if closing.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !closing.is_shut {
            return Poll::Pending;
        }
        closing.drain(tcp(stream), cx).map(Ok)
    }
}

impl Closing {
    /// Whether the server stops. From then on the close takes at most `linger`.
    fn is_stopped(&mut self, linger: Duration, cx: &mut Context<'_>) -> bool {
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(cx).is_ready()
        {
            self.stop = None;
            let end = self.time.deadline().min(Instant::now() + linger);
            self.time.as_mut().reset(end);
        }
        self.stop.is_none()
    }

    /// Reads and discards until the client closes, the connection breaks, or the byte limit is reached.
    fn drain(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 16 * KIB];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            self.bytes_left = self.bytes_left.saturating_sub(count);
            if read.is_err() || count == 0 || self.bytes_left == 0 {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_that_is_gone_without_a_word_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_client, (stream, _)) = (client.expect("connected"), accepted.expect("accepted"));
        set_options(&stream).expect("it is there");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), PROBE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), PROBE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(SILENCE_TIME));
    }
}
