//! The state of a budget, behind its lock: permits by peer, and the queue of waiters.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{
    Peer,
    hold::{PermitState, WORKING},
};
use crate::limits::{BUDGET_RESERVE, BUDGET_SHARE, BUDGET_STALL};

/// The permits that are held, and the queue.
#[derive(Debug)]
pub(super) struct State {
    limit: usize,
    share: usize,
    reserve: usize,
    held: usize,
    /// The amount of all permits that are revoked and not released yet.
    leaving: usize,
    peers: HashMap<Peer, usize>,
    holders: BTreeMap<u64, Entry>,
    /// The queue, in the order of tickets.
    waiting: VecDeque<Waiter>,
    tickets: u64,
}

/// One permit.
#[derive(Debug)]
pub(super) struct Entry {
    peer: Peer,
    amount: usize,
    holder: Arc<PermitState>,
}

impl Entry {
    pub(super) fn new(peer: Peer, amount: usize, holder: Arc<PermitState>) -> Self {
        Self { peer, amount, holder }
    }

    fn is_revoked(&self) -> bool {
        self.holder.revoked.is_cancelled()
    }
}

/// One request in the queue.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) peer: Peer,
    pub(super) amount: usize,
    pub(super) holder: Arc<PermitState>,
    pub(super) granted: oneshot::Sender<()>,
}

impl State {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            share: (limit / BUDGET_SHARE).max(1),
            reserve: limit.div_ceil(BUDGET_RESERVE),
            held: 0,
            leaving: 0,
            peers: HashMap::new(),
            holders: BTreeMap::new(),
            waiting: VecDeque::new(),
            tickets: 0,
        }
    }

    /// Whether no permit is held and the queue is empty.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let counts = [self.held, self.leaving, self.peers.len(), self.holders.len()];
        counts == [0; 4] && self.waiting.is_empty()
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(super) fn free(&self) -> usize {
        self.limit.saturating_sub(self.held)
    }

    pub(super) fn is_scarce(&self, amount: usize) -> bool {
        !self.waiting.is_empty() || self.free() < amount.saturating_add(self.reserve)
    }

    fn of(&self, peer: Peer) -> usize {
        self.peers.get(&peer).copied().unwrap_or(0)
    }

    /// Whether a peer stays within its share with `more`. A peer that holds nothing always does.
    fn is_within_share(&self, peer: Peer, more: usize) -> bool {
        let held = self.of(peer);
        held == 0 || held.saturating_add(more) <= self.share
    }

    fn fits(&self, peer: Peer, amount: usize) -> bool {
        let kept = if self.is_within_share(peer, amount) { 0 } else { self.reserve };
        self.free() >= amount.saturating_add(kept)
    }

    /// Whether a peer may acquire `amount` now, ahead of the queue.
    pub(super) fn may_take(&self, peer: Peer, amount: usize) -> bool {
        let is_first = amount == 0
            || self.waiting.is_empty()
            || (self.is_within_share(peer, amount)
                && !self
                    .waiting
                    .iter()
                    .any(|waiter| self.is_within_share(waiter.peer, waiter.amount)));
        is_first && self.fits(peer, amount)
    }

    /// Whether a peer may enter the queue of `waiting` places, which has a share and a reserve as the budget has.
    pub(super) fn may_wait(&self, peer: Peer, waiting: usize) -> bool {
        let own = self.waiting.iter().filter(|waiter| waiter.peer == peer).count();
        let is_within_share = own == 0 || own < waiting / BUDGET_SHARE;
        let kept = if is_within_share { 0 } else { waiting / BUDGET_RESERVE };
        self.waiting.len() + kept < waiting
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        let place = self.waiting.partition_point(|other| other.ticket < waiter.ticket);
        self.waiting.insert(place, waiter);
    }

    pub(super) fn grant(&mut self, ticket: u64, entry: Entry) {
        self.take(entry.peer, entry.amount);
        self.holders.insert(ticket, entry);
    }

    fn take(&mut self, peer: Peer, amount: usize) {
        self.held += amount;
        *self.peers.entry(peer).or_default() += amount;
    }

    fn give(&mut self, peer: Peer, amount: usize) {
        self.held = self.held.saturating_sub(amount);
        let left = self.of(peer).saturating_sub(amount);
        if left == 0 {
            self.peers.remove(&peer);
        } else {
            self.peers.insert(peer, left);
        }
    }

    /// Adds `more` to a permit, if it is free. Returns whether it was.
    pub(super) fn grow(&mut self, ticket: u64, more: usize, now: u64) -> bool {
        let Some((peer, is_revoked)) =
            self.holders.get(&ticket).map(|entry| (entry.peer, entry.is_revoked()))
        else {
            return false;
        };
        if !self.may_take(peer, more) {
            self.revoke_for(peer, more, now);
            return false;
        }
        self.take(peer, more);
        self.leaving += if is_revoked { more } else { 0 };
        if let Some(entry) = self.holders.get_mut(&ticket) {
            entry.amount += more;
        }
        self.refill(peer, now);
        true
    }

    pub(super) fn shrink(&mut self, ticket: u64, less: usize) {
        let Some(entry) = self.holders.get_mut(&ticket) else { return };
        entry.amount = entry.amount.saturating_sub(less);
        let (peer, is_revoked) = (entry.peer, entry.is_revoked());
        self.leaving = self.leaving.saturating_sub(if is_revoked { less } else { 0 });
        self.give(peer, less);
        self.serve();
    }

    pub(super) fn release(&mut self, ticket: u64) {
        let Some(entry) = self.holders.remove(&ticket) else { return };
        self.leaving =
            self.leaving.saturating_sub(if entry.is_revoked() { entry.amount } else { 0 });
        self.give(entry.peer, entry.amount);
        self.serve();
    }

    /// Removes a waiter from the queue, and releases its permit if one was granted.
    pub(super) fn remove_waiter(&mut self, ticket: u64) {
        self.waiting.retain(|waiter| waiter.ticket != ticket);
        self.release(ticket);
        // Waiters behind this one may be next now.
        self.serve();
    }

    /// Grants free permits to waiters: first to those within their share, then in the order of the queue.
    fn serve(&mut self) {
        while !self.waiting.is_empty() {
            let mut waiting = self.waiting.iter();
            let modest =
                waiting.position(|waiter| self.is_within_share(waiter.peer, waiter.amount));
            let next = modest.unwrap_or(0);
            let fits = |waiter: &Waiter| self.fits(waiter.peer, waiter.amount);
            if !self.waiting.get(next).is_some_and(fits) {
                return;
            }
            let Some(waiter) = self.waiting.remove(next) else { return };
            let Waiter { ticket, peer, amount, holder, granted } = waiter;
            self.grant(ticket, Entry::new(peer, amount, holder));
            // A waiter that is gone releases its grant when its place is dropped.
            granted.send(()).ok();
        }
    }

    /// Revokes permits to fill the reserve again, if `peer`, which has just acquired, is within its share.
    pub(super) fn refill(&mut self, peer: Peer, now: u64) {
        if self.of(peer) <= self.share {
            self.revoke(self.reserve, now);
        }
    }

    /// Revokes permits for `amount`, if `peer`, which needs it, is within its share.
    pub(super) fn revoke_for(&mut self, peer: Peer, amount: usize, now: u64) {
        if self.is_within_share(peer, amount) {
            self.revoke(amount, now);
        }
    }

    /// Revokes stalled permits of peers above their share, the longest stall first, until `wanted` will be free.
    fn revoke(&mut self, wanted: usize, now: u64) {
        let coming = self.free() + self.leaving;
        if wanted <= coming || self.peers.values().all(|&held| held <= self.share) {
            return;
        }
        let mut lack = wanted - coming;
        let stall = u64::try_from(BUDGET_STALL.as_millis()).unwrap_or(u64::MAX);
        let stalled = |entry: &Entry| {
            let since = entry.holder.stalled.load(Ordering::Relaxed);
            let is_stalled = since != WORKING && now.saturating_sub(since) >= stall;
            (is_stalled && !entry.is_revoked()).then_some(since)
        };
        let mut found: Vec<_> = self
            .holders
            .iter()
            .filter(|(_, entry)| self.of(entry.peer) > self.share)
            .filter_map(|(&ticket, entry)| stalled(entry).map(|since| (since, ticket)))
            .collect();
        found.sort_unstable();
        let mut kept = self.peers.clone();
        for entry in self.holders.values().filter(|entry| entry.is_revoked()) {
            kept.entry(entry.peer).and_modify(|held| *held = held.saturating_sub(entry.amount));
        }
        for (_, ticket) in found {
            let Some(entry) = self.holders.get(&ticket) else { continue };
            let Some(held) = kept.get_mut(&entry.peer).filter(|held| **held > self.share) else {
                continue;
            };
            *held = held.saturating_sub(entry.amount);
            entry.holder.revoked.cancel();
            self.leaving += entry.amount;
            lack = lack.saturating_sub(entry.amount);
            if lack == 0 {
                return;
            }
        }
    }
}
