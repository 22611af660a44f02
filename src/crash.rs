//! Marked points before and after each durable step, at which a test ends the process as SIGKILL would.
//!
//! | durable step | before | after |
//! |---|---|---|
//! | a part becomes an object | `put` | `stored` |
//! | a batch of writes is committed: entries, chunks, operations, pins, garbage, dead objects | `commit` | `committed` |
//! | a dead or unknown object is deleted | `delete` | `deleted` |
//! | a start deletes a file that a broken put left | `sweep` | `swept` |
//! | a start makes the tables, or commits its recovery | `recover` | `recovered` |
//! | a start moves the log into the database file | `settle` | `settled` |
//!
//! The environment variable `IMAGESTORE_CRASH_AT=committed:3` ends the process when that point is
//! reached for the third time. Only builds with debug assertions look, and the tests use such a build;
//! in others a point is no code at all. An order that cannot be understood is none, so a test must see
//! that the process ends.
//!
//! `tests/foreign/test_crash.py` reads the names from this file, and ends the server at every point
//! each time that it is reached.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

/// A moment that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A part is about to be put.
    Put,
    /// A part is an object, and no row names it yet.
    Stored,
    /// A batch of writes is about to be committed.
    Commit,
    /// A batch of writes is durable, and nobody knows.
    Committed,
    /// An object is about to be deleted.
    Delete,
    /// An object is deleted, and its row is there, if it had one.
    Deleted,
    /// A start is about to delete the file of a broken put.
    Sweep,
    /// A start has deleted the file of a broken put.
    Swept,
    /// A start has made the tables or cleared them up, and nothing of it is durable.
    Recover,
    /// What a start made or cleared up is durable.
    Recovered,
    /// A start is about to move the log into the database file.
    Settle,
    /// The log is in the database file, and the server does not listen yet.
    Settled,
}

impl Point {
    /// The name of the point.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Stored => "stored",
            Self::Commit => "commit",
            Self::Committed => "committed",
            Self::Delete => "delete",
            Self::Deleted => "deleted",
            Self::Sweep => "sweep",
            Self::Swept => "swept",
            Self::Recover => "recover",
            Self::Recovered => "recovered",
            Self::Settle => "settle",
            Self::Settled => "settled",
        }
    }
}

/// The point that ends the process, and how often it is still passed.
static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

/// Passes a point, or ends the process there.
#[inline]
pub fn reach(point: Point) {
    if cfg!(debug_assertions)
        && let Some((name, left)) = ARMED.get_or_init(armed)
        && name == point.name()
        && left.fetch_sub(1, Ordering::Relaxed) == 1
        // It has to be the signal of a kill: nothing is run, flushed or dumped.
        && kill_process(getpid(), Signal::KILL).is_err()
    {
        std::process::abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "no setting of a server, but an order of a test")]
fn armed() -> Option<(String, AtomicU64)> {
    let order = std::env::var("IMAGESTORE_CRASH_AT").ok()?;
    let (name, hit) = order.split_once(':')?;
    Some((name.to_owned(), AtomicU64::new(hit.parse().ok()?)))
}
