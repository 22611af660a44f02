//! The limit of refused credentials: each peer may send some at once, then one from time to time. So nobody tries many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{
    budget::Peer,
    error::{Error, Kind, Result},
    limits::{FAILURE_EVERY, FAILURE_PEERS_MAX, FAILURES_MAX},
};

/// The refused credentials of all peers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(Arc<Mutex<HashMap<Peer, Instant>>>);

impl Failures {
    /// Checks that a peer may send a credential that is not known as good.
    ///
    /// # Errors
    /// `TooManyFailures`.
    pub(super) fn check(&self, peer: Peer) -> Result<()> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The time at which all failures of the peer are forgotten.
        let Some(over) = peers.get(&peer) else { return Ok(()) };
        if *over <= Instant::now() + FAILURE_EVERY * (FAILURES_MAX - 1) {
            return Ok(());
        }
        let message = "too many credentials of this address were refused; try again later";
        Err(Error::new(Kind::TooManyFailures, message))
    }

    /// Counts a credential that was refused.
    pub(super) fn count(&self, peer: Peer) {
        let now = Instant::now();
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= FAILURE_PEERS_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, over| *over > now);
            // So many addresses at once belong to somebody who has more of them.
            if peers.len() >= FAILURE_PEERS_MAX {
                peers.clear();
            }
        }
        let over = peers.entry(peer).or_insert(now);
        *over = (*over).max(now) + FAILURE_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn peer(number: u32) -> Peer {
        Peer::from(IpAddr::from((number + (10 << 24)).to_be_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn some_failures_are_free_and_then_one_a_second() {
        let failures = Failures::default();
        for _ in 0..FAILURES_MAX {
            failures.check(peer(1)).expect("free");
            failures.count(peer(1));
        }
        let refused = |number| failures.check(peer(number)).err().map(|error| error.kind());
        assert_eq!(refused(1), Some(Kind::TooManyFailures));
        assert_eq!(refused(2), None, "another peer");
        tokio::time::advance(FAILURE_EVERY).await;
        assert_eq!(refused(1), None);
        failures.count(peer(1));
        assert_eq!(refused(1), Some(Kind::TooManyFailures));
        tokio::time::advance(FAILURE_EVERY * FAILURES_MAX).await;
        for _ in 0..FAILURES_MAX {
            failures.check(peer(1)).expect("all is forgotten");
            failures.count(peer(1));
        }
        assert_eq!(refused(1), Some(Kind::TooManyFailures));
    }

    #[tokio::test(start_paused = true)]
    async fn the_peers_are_bounded() {
        let failures = Failures::default();
        for number in 0..2 * u32::try_from(FAILURE_PEERS_MAX).expect("a number") {
            failures.count(peer(number));
        }
        assert!(failures.0.lock().expect("no panic").len() <= FAILURE_PEERS_MAX);
    }
}
