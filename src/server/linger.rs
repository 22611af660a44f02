//! A connection that is closed so that its client receives the answer, and cut where its client
//! does not read.
//!
//! A client that reads nothing makes the kernel's buffer full, and then the connection's own. It is
//! given up at the pace that bodies have too; what is buffered for it goes with it.
//!
//! When a request is refused before its body is read, closing the socket with bytes still unread
//! makes the kernel reset the connection, and the client may lose the answer that it has not read
//! yet. So after the last answer the sending side is closed, and what still arrives is read and
//! dropped, up to [`REFUSED_BODY_BYTES`] or [`REFUSED_BODY_TIME`], until the client closes.
//!
//! When the server stops it does not wait for that.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    framing::{Found, Framing},
    pace::Pace,
};
use crate::limits::{KIB, REFUSED_BODY_BYTES, REFUSED_BODY_TIME};

/// A stream whose reads are followed, whose writes have a limit, and whose shutdown lingers.
pub(super) struct Linger {
    stream: TcpStream,
    framing: Framing,
    pace: Pace,
    stop: CancellationToken,
    /// Set from when the sending side is closed.
    closing: Option<Closing>,
}

/// What bounds the lingering.
struct Closing {
    bytes_left: usize,
    time: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Linger {
    /// Wraps a stream; `stall` is how long its client may read nothing, and `stop` ends the lingering.
    pub(super) fn new(stream: TcpStream, stall: Duration, stop: CancellationToken) -> Self {
        Self { stream, framing: Framing::default(), pace: Pace::new(stall), stop, closing: None }
    }

    /// The request that has two lengths, if one has.
    pub(super) fn found(&self) -> Found {
        self.framing.found()
    }

    /// Counts what was written; an error where the client has not read for too long.
    fn paced(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(written) => {
                self.pace.moved(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => {
                ready!(self.pace.poll_over(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Linger {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.framing.follow(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Linger {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.paced(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.paced(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, stop, closing, .. } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let closing = closing.get_or_insert_with(|| Closing {
            bytes_left: REFUSED_BODY_BYTES,
            time: Box::pin(sleep(REFUSED_BODY_TIME)),
            stop: Box::pin(stop.clone().cancelled_owned()),
        });
        if closing.time.as_mut().poll(cx).is_ready() || closing.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        closing.drain(stream, cx).map(Ok)
    }
}

impl Closing {
    /// Reads until the client closes, or its connection breaks, or it has sent too much.
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
