//! Crash points before and after each durable step, at which a test kills the process with SIGKILL.
//!
//! | durable step | before | after |
//! |---|---|---|
//! | a part becomes an object | `put` | `stored` |
//! | a batch of writes commits: entries, chunks, operations, pins, garbage, dead objects | `commit` | `committed` |
//! | a dead or unknown object is deleted | `delete` | `deleted` |
//! | a start deletes a file that an interrupted put left | `sweep` | `swept` |
//! | a start makes the tables, or commits its recovery | `recover` | `recovered` |
//! | a start checkpoints the write-ahead log into the database file | `settle` | `settled` |
//!
//! The environment variable `IMAGESTORE_CRASH_AT=committed:3` kills the process when the point `committed`
//! is reached for the third time. Only builds with debug assertions read the variable; in other builds a
//! point compiles to nothing. A malformed value is ignored, so a test must check that the process ends.
//!
//! `tests/foreign/test_crash.py` reads the names from this file, and kills the server at every point,
//! each time that the point is reached.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

/// A crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A part is about to be put.
    Put,
    /// A part is an object, and no row names it yet.
    Stored,
    /// A batch of writes is about to be committed.
    Commit,
    /// A batch of writes is durable, and no caller has its result yet.
    Committed,
    /// An object is about to be deleted.
    Delete,
    /// An object is deleted; its row, if it has one, still exists.
    Deleted,
    /// A start is about to delete the file of an interrupted put.
    Sweep,
    /// A start has deleted the file of an interrupted put.
    Swept,
    /// A start has made the tables or recovered them, and has not committed that.
    Recover,
    /// The tables that a start made or recovered are committed.
    Recovered,
    /// A start is about to checkpoint the write-ahead log into the database file.
    Settle,
    /// The checkpoint is done, and the server does not listen yet.
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

/// The name of the point that kills the process, and the number of times until it does.
static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

/// Passes a point, or kills the process there.
#[inline]
pub fn reach(point: Point) {
    if cfg!(debug_assertions)
        && let Some((name, left)) = ARMED.get_or_init(armed)
        && name == point.name()
        && left.fetch_sub(1, Ordering::Relaxed) == 1
        // SIGKILL runs no handlers, flushes nothing and dumps no core.
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
