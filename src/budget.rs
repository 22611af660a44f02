//! Admission control: a budget bounds how many permits (bytes, calls, or other units) all callers hold together,
//! and shares them among peers.
//!
//! The bound holds at every moment. Three rules keep one peer from using up the budget:
//!
//! 1. **Share.** The share of each peer is a quarter. While a peer below its share waits, no peer above its share
//!    gets more. While nobody waits, one peer may hold more than its share.
//! 2. **Reserve.** The last eighth, at least one permit, is for peers below their share, so that a new peer does
//!    not have to wait.
//! 3. **Revocation.** When a peer below its share needs permits that are not free, or takes them from the
//!    reserve, permits of peers above their share are revoked: only those whose clients have stalled for at
//!    least [`BUDGET_STALL`], the longest stall first. The layers that hold a revoked permit end its call.
//!
//! A peer is an IPv4 address or an IPv6 network of 64 bits, however many clients share it.

mod hold;
mod peer;
mod state;
#[cfg(test)]
mod tests;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

pub use hold::PermitHandle;
pub use peer::Peer;

use crate::{
    error::{Error, Kind, Result},
    limits::BUDGET_STALL,
};
use state::{Entry, State, Waiter};

/// A bounded number of bytes or calls that callers share. Clones share one state.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    what: &'static str,
    limit: usize,
    waiting: usize,
    time: Duration,
    /// The origin of the times at which stalls begin.
    base: Instant,
    state: Mutex<State>,
}

/// An amount of a budget, held until the permit is dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    budget: Budget,
    ticket: u64,
    amount: usize,
    hold: PermitHandle,
}

impl Budget {
    /// Makes a budget of `limit` bytes or calls without a queue: nobody waits for permits. `what` names the
    /// units in the error of a refused caller.
    pub fn new(what: &'static str, limit: usize) -> Self {
        let base = Instant::now();
        let state = Mutex::new(State::new(limit));
        Self(Arc::new(Shared { what, limit, waiting: 0, time: Duration::ZERO, base, state }))
    }

    /// Makes an empty budget with the same limit and a queue of `waiting` callers, each of whom waits for
    /// at most `time`.
    #[must_use]
    pub fn with_queue(self, waiting: usize, time: Duration) -> Self {
        let Shared { what, limit, base, .. } = *self.0;
        let state = Mutex::new(State::new(limit));
        Self(Arc::new(Shared { what, limit, waiting, time, base, state }))
    }

    /// Acquires `amount` without waiting.
    ///
    /// # Errors
    /// `Busy` if too little is free for this peer, or others wait for it.
    pub fn try_acquire(&self, peer: Peer, amount: usize) -> Result<Permit> {
        let mut state = self.lock();
        if state.may_take(peer, amount) {
            return Ok(self.grant(&mut state, peer, amount));
        }
        state.revoke_for(peer, amount, self.now());
        Err(self.busy())
    }

    /// Acquires `amount`, and waits for it in the queue where it is not free.
    ///
    /// # Errors
    /// `Busy` if `amount` exceeds the limit, the queue is full, or the wait takes too long.
    ///
    /// # Cancel safety
    /// Can be dropped; the place in the queue is lost.
    pub async fn acquire(&self, peer: Peer, amount: usize) -> Result<Permit> {
        match self.enter(peer, amount)? {
            Admission::Granted(permit) => Ok(permit),
            Admission::Queued(request) => self.wait(request, peer).await,
        }
    }

    /// Releases the amount of a permit and acquires it again with the old ticket: after peers below their
    /// share, and before all later tickets. So work whose permit was revoked continues before the same peer
    /// begins more work.
    ///
    /// # Errors
    /// `Busy` if the wait takes too long; the permit holds nothing then.
    ///
    /// # Cancel safety
    /// Can be dropped; the permit holds nothing then.
    pub async fn renew(&self, peer: Peer, permit: &mut Permit) -> Result<()> {
        // No ticket is zero.
        let (ticket, amount) = (mem::take(&mut permit.ticket), mem::take(&mut permit.amount));
        let request = {
            let mut state = self.lock();
            let request = self.queue(&mut state, ticket, peer, amount);
            state.release(ticket);
            request
        };
        *permit = self.wait(request, peer).await?;
        Ok(())
    }

    async fn wait(&self, mut request: QueuedRequest, peer: Peer) -> Result<Permit> {
        let amount = request.amount;
        let end = Instant::now().checked_add(self.0.time);
        loop {
            let look = Instant::now() + BUDGET_STALL;
            let until = end.map_or(look, |end| end.min(look));
            if let Ok(granted) = timeout_at(until, &mut request.granted).await {
                // The sender is dropped only with its waiter, and only this place removes that without a grant.
                granted.map_err(Error::internal)?;
                return Ok(request.permit());
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                return Err(self.busy());
            }
            self.lock().revoke_for(peer, amount, self.now());
        }
    }

    /// Whether others wait, or `amount` is not free beside the reserve.
    pub fn is_scarce(&self, amount: usize) -> bool {
        self.lock().is_scarce(amount)
    }

    /// The amount that is free, the reserve included.
    pub fn free(&self) -> usize {
        self.lock().free()
    }

    /// The error for a caller whose request for a permit is refused.
    pub fn busy(&self) -> Error {
        let what = self.0.what;
        Error::new(Kind::Busy, format!("the server has too many {what}; try again later"))
    }

    fn enter(&self, peer: Peer, amount: usize) -> Result<Admission> {
        let mut state = self.lock();
        if state.may_take(peer, amount) {
            return Ok(Admission::Granted(self.grant(&mut state, peer, amount)));
        }
        state.revoke_for(peer, amount, self.now());
        if amount > self.0.limit || !state.may_wait(peer, self.0.waiting) {
            return Err(self.busy());
        }
        let ticket = state.ticket();
        Ok(Admission::Queued(self.queue(&mut state, ticket, peer, amount)))
    }

    fn queue(&self, state: &mut State, ticket: u64, peer: Peer, amount: usize) -> QueuedRequest {
        let (sender, granted) = oneshot::channel();
        let hold = PermitHandle::new(self.0.what, self.0.base);
        let holder = hold.holder();
        state.wait(Waiter { ticket, peer, amount, holder, granted: sender });
        QueuedRequest { budget: self.clone(), ticket, amount, hold, granted, is_taken: false }
    }

    fn grant(&self, state: &mut State, peer: Peer, amount: usize) -> Permit {
        let (ticket, hold) = (state.ticket(), PermitHandle::new(self.0.what, self.0.base));
        state.grant(ticket, Entry::new(peer, amount, hold.holder()));
        state.refill(peer, self.now());
        Permit { budget: self.clone(), ticket, amount, hold }
    }

    fn now(&self) -> u64 {
        hold::since(self.0.base)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock panics, so a poisoned lock has valid data.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The amount that is held.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Acquires `more` without waiting.
    ///
    /// # Errors
    /// `Busy` if too little is free for this peer; the permit keeps its amount.
    pub fn grow(&mut self, more: usize) -> Result<()> {
        let now = self.budget.now();
        let mut state = self.budget.lock();
        if !state.grow(self.ticket, more, now) {
            return Err(self.budget.busy());
        }
        self.amount += more;
        Ok(())
    }

    /// Releases `less` of the amount, at most all of it.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.amount);
        self.amount -= less;
        self.budget.lock().shrink(self.ticket, less);
    }

    /// The handle for layers that do not own the permit.
    pub fn hold(&self) -> &PermitHandle {
        &self.hold
    }

    /// The same handle, to wait for the revocation of the permit.
    pub fn hold_mut(&mut self) -> &mut PermitHandle {
        &mut self.hold
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().release(self.ticket);
    }
}

/// The result of a request for a permit where the caller may wait.
enum Admission {
    Granted(Permit),
    Queued(QueuedRequest),
}

/// A place in the queue. Dropped, it leaves the queue and releases what it was granted, unless
/// [`QueuedRequest::permit`] took that.
struct QueuedRequest {
    budget: Budget,
    ticket: u64,
    amount: usize,
    hold: PermitHandle,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl QueuedRequest {
    fn permit(mut self) -> Permit {
        self.is_taken = true;
        let (budget, hold) = (self.budget.clone(), self.hold.clone());
        Permit { budget, ticket: self.ticket, amount: self.amount, hold }
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        if !self.is_taken {
            self.budget.lock().remove_waiter(self.ticket);
        }
    }
}
