//! What a server observes of the others: it declares dead whose count of commits stands still for its lease.
//!
//! Only the clock of the observer counts, which goes on while a machine is suspended; no two clocks are compared. An
//! observer that was away itself has observed nothing: after an outage of the database the first server to come back
//! would else declare all others dead.

use std::{collections::HashMap, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use crate::{limits::micros, namespace::server::Server};

/// The time since the machine has booted, also while it was suspended.
pub fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// A row as it was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    batch: i64,
    /// Since when the count stands still.
    since: Duration,
}

/// What was seen of the rows so far.
#[derive(Debug)]
pub struct Observer {
    seen: HashMap<String, Seen>,
    /// When the rows were seen last.
    last: Option<Duration>,
    /// The longest time between two looks: what was seen before a longer one says nothing about others.
    gap_max: Duration,
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(gap_max: Duration) -> Self {
        Self { seen: HashMap::new(), last: None, gap_max }
    }

    /// Takes note of all rows but one's own, at the time `now` by [`boot_time`]. Returns the servers to declare dead.
    pub fn look(&mut self, rows: &[Server], now: Duration) -> Vec<String> {
        let was_away = self.last.is_none_or(|last| now.saturating_sub(last) > self.gap_max);
        self.last = Some(now);
        let mut dead = Vec::new();
        let mut seen = HashMap::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row.lease > 0) {
            let before = self.seen.get(&row.id).filter(|_| !was_away);
            let stands = before.filter(|before| before.batch == row.batch);
            let since = stands.map_or(now, |before| before.since);
            if micros(now.saturating_sub(since)) >= row.lease {
                dead.push(row.id.clone());
            }
            seen.insert(row.id.clone(), Seen { batch: row.batch, since });
        }
        self.seen = seen;
        dead
    }

    /// Forgets when the rows were seen last, because that look was not committed.
    pub fn void(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    const LEASE: i64 = 30_000_000;

    fn observer() -> Observer {
        Observer::new(Duration::from_secs(10))
    }

    fn row(id: &str, batch: i64) -> Server {
        Server { id: id.to_owned(), batch, lease: LEASE, speaks: 6 }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    #[test]
    fn a_count_that_stands_still_for_the_lease_is_a_death() {
        let mut observer = observer();
        for second in (0..30).step_by(5) {
            assert_eq!(observer.look(&[row("a", 3)], at(second)), [""; 0]);
        }
        let dead = observer.look(&[row("a", 3)], at(30));
        assert_eq!(dead, ["a"]);
    }

    #[test]
    fn a_count_that_rises_once_within_the_lease_is_life() {
        let mut observer = observer();
        for second in (0..300).step_by(5) {
            let batch = i64::from(second >= 25) + i64::from(second >= 50);
            let found = observer.look(&[row("a", batch)], at(second));
            assert_eq!(found.is_empty(), second < 80, "{second}");
            if second == 80 {
                return;
            }
        }
    }

    #[test]
    fn an_observer_that_was_away_has_observed_nothing() {
        let mut observer = observer();
        for second in (0..30).step_by(5) {
            observer.look(&[row("a", 3)], at(second));
        }
        assert_eq!(observer.look(&[row("a", 3)], at(36)), [""; 0]);
        for second in (41..66).step_by(5) {
            assert_eq!(observer.look(&[row("a", 3)], at(second)), [""; 0]);
        }
        assert_eq!(observer.look(&[row("a", 3)], at(66)).len(), 1);
    }

    #[test]
    fn a_look_that_was_not_committed_counts_as_an_absence() {
        let mut observer = observer();
        for second in (0..30).step_by(5) {
            observer.look(&[row("a", 3)], at(second));
        }
        observer.void();
        assert_eq!(observer.look(&[row("a", 3)], at(30)), [""; 0]);
    }

    #[test]
    fn servers_without_a_lease_are_left_alone() {
        let mut observer = observer();
        let alone = Server { lease: 0, ..row("a", 3) };
        for second in (0..100).step_by(5) {
            assert_eq!(observer.look(slice::from_ref(&alone), at(second)), [""; 0]);
        }
    }
}
