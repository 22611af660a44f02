//! The pieces of a download, between the task that produces them and the caller that sends them to its client.
//!
//! A piece is produced on demand: the receiver asks for each. While the task waits for a request, it notes on the
//! permits of its work that the client stalls.

use std::{future::poll_fn, task::Poll};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    budget::{Permit, PermitHandle},
    error::{Error, Result},
};

/// The request for a piece: where the piece is sent.
type PieceRequest = oneshot::Sender<Result<Bytes>>;

/// Makes both ends. `holds` are the permits of the work, on which stalls are noted; `permits` those that the task
/// itself holds; `stop` ends the task.
pub(super) fn channel(
    holds: Vec<PermitHandle>,
    permits: Vec<Permit>,
    stop: &CancellationToken,
) -> (PieceReceiver, PieceRequests, Interruption) {
    let (asks, queue) = mpsc::channel(1);
    let gone = CancellationToken::new();
    let here = gone.clone().drop_guard();
    (
        PieceReceiver { asks, asked: None, _here: here },
        PieceRequests { queue, open: None, holds },
        Interruption { gone, stop: stop.clone(), permits },
    )
}

/// The receiving end. Dropped, it ends the task.
#[derive(Debug)]
pub(super) struct PieceReceiver {
    asks: mpsc::Sender<PieceRequest>,
    asked: Option<oneshot::Receiver<Result<Bytes>>>,
    _here: DropGuard,
}

impl PieceReceiver {
    /// Requests the next piece, unless a request is open, and waits for it; `None` if the task has ended.
    ///
    /// # Errors
    /// Those of the task.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.asked.is_none() {
            let (ask, asked) = oneshot::channel();
            self.asks.send(ask).await.ok()?;
            self.asked = Some(asked);
        }
        let answer = self.asked.as_mut()?.await;
        self.asked = None;
        answer.ok()
    }
}

/// The requests of the receiver for pieces, of which one is open at a time.
#[derive(Debug)]
pub(super) struct PieceRequests {
    queue: mpsc::Receiver<PieceRequest>,
    open: Option<PieceRequest>,
    holds: Vec<PermitHandle>,
}

impl PieceRequests {
    /// Waits until a piece is requested. Returns false if the receiver is gone.
    pub(super) async fn wait(&mut self) -> bool {
        if self.open.is_none() {
            self.holds.iter().for_each(PermitHandle::stalls);
            self.open = self.queue.recv().await;
            self.holds.iter().for_each(PermitHandle::progress);
        }
        self.open.is_some()
    }

    /// Like [`PieceRequests::wait`], until a time at most. Returns whether a piece is requested.
    pub(super) async fn wait_until(&mut self, until: Instant) -> bool {
        timeout_at(until, self.wait()).await.unwrap_or(false)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Sends the piece that was requested. If the receiver is gone, the next [`PieceRequests::wait`] notices that.
    pub(super) fn answer(&mut self, piece: Result<Bytes>) {
        if let Some(open) = self.open.take()
            && let Err(Err(error)) = open.send(piece)
        {
            error.report();
        }
    }

    /// Sends the error with which the task ends. If nobody asks for it, it is logged here; an error that reaches the
    /// caller is logged where the call ends.
    pub(super) async fn fail(mut self, error: Error, mut interruption: Interruption) {
        let asked = tokio::select! {
            asked = self.wait() => asked,
            () = interruption.wait() => false,
        };
        if asked {
            self.answer(Err(error));
        } else {
            error.report();
        }
    }
}

/// What ends the task before its work is done. It holds the permits of the task.
#[derive(Debug)]
pub(super) struct Interruption {
    gone: CancellationToken,
    stop: CancellationToken,
    permits: Vec<Permit>,
}

impl Interruption {
    /// Waits until the receiver is gone, a permit is revoked for others, or the store closes. The next request of
    /// the receiver fails as busy then.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn wait(&mut self) {
        let permits = &mut self.permits;
        let revoked = poll_fn(|cx| {
            let mut holds = permits.iter_mut().map(Permit::hold_mut);
            let is_one = holds.any(|hold| hold.poll_revoked(cx).is_ready());
            if is_one { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = revoked => {}
        }
    }
}
