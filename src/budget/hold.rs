//! The handle by which the layers of a call share the state of its permit: since when its client stalls, and
//! whether the permit is revoked.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::error::{Error, Kind};

/// The value of [`PermitState::stalled`] while the server does not wait for the client.
pub(super) const WORKING: u64 = u64::MAX;

/// The state that a permit and its budget share.
#[derive(Debug)]
pub(super) struct PermitState {
    /// When the server began to wait for the client, in milliseconds since the base of the budget;
    /// [`WORKING`] while it does not wait.
    pub(super) stalled: AtomicU64,
    pub(super) revoked: CancellationToken,
}

/// The handle of a permit for the layers of its call that do not own the permit. They report stalls and
/// progress of the client, and see the revocation. Clones are of one permit.
pub struct PermitHandle {
    what: &'static str,
    base: Instant,
    holder: Arc<PermitState>,
    /// The future that waits for the revocation, from the first poll on.
    revoked: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Clone for PermitHandle {
    fn clone(&self) -> Self {
        let Self { what, base, .. } = *self;
        Self { what, base, holder: self.holder(), revoked: None }
    }
}

impl fmt::Debug for PermitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitHandle").field("of", &self.what).finish_non_exhaustive()
    }
}

/// The time since `base`, in milliseconds.
pub(super) fn since(base: Instant) -> u64 {
    u64::try_from(base.elapsed().as_millis()).unwrap_or(WORKING - 1)
}

impl PermitHandle {
    pub(super) fn new(what: &'static str, base: Instant) -> Self {
        let (stalled, revoked) = (AtomicU64::new(WORKING), CancellationToken::new());
        Self { what, base, holder: Arc::new(PermitState { stalled, revoked }), revoked: None }
    }

    pub(super) fn holder(&self) -> Arc<PermitState> {
        Arc::clone(&self.holder)
    }

    /// Notes that the server waits for the client from now on; an earlier stall keeps its beginning.
    pub fn stalls(&self) {
        if self.holder.stalled.load(Ordering::Relaxed) == WORKING {
            self.holder.stalled.store(since(self.base), Ordering::Relaxed);
        }
    }

    /// Notes that the client has sent or received bytes: the stall is over.
    pub fn progress(&self) {
        self.holder.stalled.store(WORKING, Ordering::Relaxed);
    }

    /// Whether the permit is revoked because others need it: its call must end.
    pub fn is_revoked(&self) -> bool {
        self.holder.revoked.is_cancelled()
    }

    /// Waits until the permit is revoked. Returns the error with which its call ends.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn revoked(&mut self) -> Error {
        poll_fn(|cx| self.poll_revoked(cx)).await
    }

    /// The poll function of [`PermitHandle::revoked()`].
    pub fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Self { holder, revoked, .. } = self;
        let wait = || Box::pin(holder.revoked.clone().cancelled_owned());
        ready!(revoked.get_or_insert_with(wait).as_mut().poll(cx));
        *revoked = None;
        let what = self.what;
        let message = format!(
            "the call stood still while its client had too many {what} and others waited; try again \
             later"
        );
        Poll::Ready(Error::new(Kind::Busy, message))
    }
}
