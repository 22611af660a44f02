//! Admission control: a budget bounds how many permits (bytes, calls, or other units) all callers hold together,
//! and shares them among peers.
//!
//! The bound holds at every moment. Three rules keep one peer from using up the budget:
//!
//! 1. **Share.** The share of each peer is a quarter. While a peer below its share waits, no peer above its share
//!    gets more. While nobody waits, one peer may hold more than its share.
//! 2. **Reserve.** The last eighth, at least one permit, is for peers below their share, so that a new peer does
//!    not have to wait.
//! 3. **Revocation.** When a peer below its share needs permits that are not free, or would have to take them
//!    from the reserve, the permits of peers above their share are revoked. Those whose clients have stalled the
//!    longest lose theirs first. The layers that hold revoked permits abort their calls.
//!
//! A peer is an address (of IPv6: a network of 64 bits), whoever is behind it.

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

pub use hold::Hold;
pub use peer::Peer;

use crate::{
    error::{Error, Kind, Result},
    limits::BUDGET_STALL,
};
use state::{Entry, State, Waiter};

/// Bytes or calls that callers share. Clones are one budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    what: &'static str,
    limit: usize,
    waiting: usize,
    time: Duration,
    /// What the times of stalls are counted from.
    base: Instant,
    state: Mutex<State>,
}

/// Something of a budget, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    budget: Budget,
    ticket: u64,
    amount: usize,
    hold: Hold,
}

impl Budget {
    /// Makes a budget of `limit` bytes or calls, of which nobody waits. `what` they are is what a refused
    /// caller reads.
    pub fn new(what: &'static str, limit: usize) -> Self {
        let base = Instant::now();
        let state = Mutex::new(State::new(limit));
        Self(Arc::new(Shared { what, limit, waiting: 0, time: Duration::ZERO, base, state }))
    }

    /// The same, for which so many may wait, each so long.
    #[must_use]
    pub fn with_queue(self, waiting: usize, time: Duration) -> Self {
        let Shared { what, limit, base, .. } = *self.0;
        let state = Mutex::new(State::new(limit));
        Self(Arc::new(Shared { what, limit, waiting, time, base, state }))
    }

    /// Takes what is free.
    ///
    /// # Errors
    /// `Busy` if there is too little for this peer, or others wait for it.
    pub fn try_acquire(&self, peer: Peer, amount: usize) -> Result<Permit> {
        let mut state = self.lock();
        if state.may_take(peer, amount) {
            return Ok(self.grant(&mut state, peer, amount));
        }
        state.revoke_for(peer, amount, self.now());
        Err(self.busy())
    }

    /// Takes what is free, or waits for it in the queue.
    ///
    /// # Errors
    /// `Busy` if too many wait, or for too long.
    ///
    /// # Cancel safety
    /// Can be dropped; the place in the queue is lost.
    pub async fn acquire(&self, peer: Peer, amount: usize) -> Result<Permit> {
        match self.enter(peer, amount)? {
            Entered::At(permit) => Ok(permit),
            Entered::Waits(place) => self.wait(place, peer).await,
        }
    }

    /// Gives back what a permit has and takes it anew: after those below their share, and before all who
    /// came later. So work that was revoked goes on before more of the same peer begins.
    ///
    /// # Errors
    /// `Busy` if it takes too long; the permit has nothing then.
    ///
    /// # Cancel safety
    /// Can be dropped; the permit has nothing then.
    pub async fn renew(&self, peer: Peer, permit: &mut Permit) -> Result<()> {
        // No ticket is zero.
        let (ticket, amount) = (mem::take(&mut permit.ticket), mem::take(&mut permit.amount));
        let place = {
            let mut state = self.lock();
            let place = self.queue(&mut state, ticket, peer, amount);
            state.release(ticket);
            place
        };
        *permit = self.wait(place, peer).await?;
        Ok(())
    }

    async fn wait(&self, mut place: Place, peer: Peer) -> Result<Permit> {
        let amount = place.amount;
        let end = Instant::now().checked_add(self.0.time);
        loop {
            let look = Instant::now() + BUDGET_STALL;
            let until = end.map_or(look, |end| end.min(look));
            if let Ok(granted) = timeout_at(until, &mut place.granted).await {
                // The sender goes only with its waiter.
                granted.map_err(Error::internal)?;
                return Ok(place.permit());
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                return Err(self.busy());
            }
            self.lock().revoke_for(peer, amount, self.now());
        }
    }

    /// Whether somebody would have to wait for so much, whatever his share.
    pub fn is_scarce(&self, amount: usize) -> bool {
        self.lock().is_scarce(amount)
    }

    /// What is free.
    pub fn free(&self) -> usize {
        self.lock().free()
    }

    /// The error of a caller for whom there is too little.
    pub fn busy(&self) -> Error {
        let what = self.0.what;
        Error::new(Kind::Busy, format!("the server has too many {what}; try again later"))
    }

    fn enter(&self, peer: Peer, amount: usize) -> Result<Entered> {
        let mut state = self.lock();
        if state.may_take(peer, amount) {
            return Ok(Entered::At(self.grant(&mut state, peer, amount)));
        }
        state.revoke_for(peer, amount, self.now());
        if amount > self.0.limit || !state.may_wait(peer, self.0.waiting) {
            return Err(self.busy());
        }
        let ticket = state.ticket();
        Ok(Entered::Waits(self.queue(&mut state, ticket, peer, amount)))
    }

    fn queue(&self, state: &mut State, ticket: u64, peer: Peer, amount: usize) -> Place {
        let (sender, granted) = oneshot::channel();
        let hold = Hold::new(self.0.what, self.0.base);
        let holder = hold.holder();
        state.wait(Waiter { ticket, peer, amount, holder, granted: sender });
        Place { budget: self.clone(), ticket, amount, hold, granted, is_taken: false }
    }

    fn grant(&self, state: &mut State, peer: Peer, amount: usize) -> Permit {
        let (ticket, hold) = (state.ticket(), Hold::new(self.0.what, self.0.base));
        state.grant(ticket, Entry::new(peer, amount, hold.holder()));
        state.refill(peer, self.now());
        Permit { budget: self.clone(), ticket, amount, hold }
    }

    fn now(&self) -> u64 {
        hold::since(self.0.base)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in it panics.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// What is held.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more of what is free.
    ///
    /// # Errors
    /// `Busy` if there is too little; what is held stays.
    pub fn grow(&mut self, more: usize) -> Result<()> {
        let now = self.budget.now();
        let mut state = self.budget.lock();
        if !state.grow(self.ticket, more, now) {
            return Err(self.budget.busy());
        }
        self.amount += more;
        Ok(())
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.amount);
        self.amount -= less;
        self.budget.lock().shrink(self.ticket, less);
    }

    /// What layers that do not own the permit need of it.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The same, to wait for its revocation.
    pub fn hold_mut(&mut self) -> &mut Hold {
        &mut self.hold
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.lock().release(self.ticket);
    }
}

/// How somebody comes in who may wait.
enum Entered {
    At(Permit),
    Waits(Place),
}

/// A place in the queue. What it was given and did not take goes back with it.
struct Place {
    budget: Budget,
    ticket: u64,
    amount: usize,
    hold: Hold,
    granted: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Place {
    fn permit(mut self) -> Permit {
        self.is_taken = true;
        let (budget, hold) = (self.budget.clone(), self.hold.clone());
        Permit { budget, ticket: self.ticket, amount: self.amount, hold }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_taken {
            self.budget.lock().remove_waiter(self.ticket);
        }
    }
}
