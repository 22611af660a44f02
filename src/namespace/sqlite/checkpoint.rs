//! Moving the write-ahead log into the database file, beside the writer.
//!
//! A checkpoint writes thousands of pages to random places and syncs them. Done by the commit that
//! fills the log, as SQLite does by itself, that one commit and all that wait for it take a hundred
//! times as long as the others. So a thread of its own does it, which no writer waits for. The log
//! begins anew when all of it is moved. Where the writer never pauses that would never be so, and a
//! commit moves the little that came while the thread was at work. Only where the log has grown to its
//! bound does a commit do all that is left.
//!
//! **Invariant:** the hook of a commit never fails, since the commit has happened by then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection as Sqlite, ErrorCode};

use crate::{
    error::{Error, Result},
    limits::{WAL_CHECKPOINT_PAGES, WAL_PAGES_LEFT, WAL_PAGES_LONG, WAL_PAGES_MAX},
};

/// How often the thread looks for what came while it moved the rest.
const PASSES: usize = 4;

/// What the log has.
#[derive(Debug, Default)]
struct Log {
    /// Its pages at the last commit.
    pages: AtomicI32,
    /// Those that were moved, at the end of the last pass. Those of the last log, where one has begun
    /// anew since.
    moved: AtomicI32,
}

impl Log {
    /// Pages that are to be moved.
    fn left(&self) -> i32 {
        self.pages.load(Ordering::Relaxed) - self.moved.load(Ordering::Relaxed)
    }
}

/// Who is to move pages now.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Thread,
    /// The commit.
    Here,
}

/// How the log grows, as the writer sees it.
#[derive(Debug)]
struct Growth {
    log: Arc<Log>,
    /// Its pages when something was due.
    seen: i32,
}

impl Growth {
    /// Decides after a commit that left so many pages in the log.
    fn by_commit(&mut self, pages: i32) -> Due {
        self.log.pages.store(pages, Ordering::Relaxed);
        // The log has begun anew.
        if pages < self.seen {
            self.seen = 0;
        }
        let is_due = pages - self.seen >= WAL_CHECKPOINT_PAGES;
        if is_due {
            self.seen = pages;
        }
        let is_nearly_moved = pages >= WAL_PAGES_LONG && self.log.left() <= WAL_PAGES_LEFT;
        if is_nearly_moved || is_due && pages >= WAL_PAGES_MAX {
            // Once for each time that the thread was at work.
            self.log.moved.store(0, Ordering::Relaxed);
            return Due::Here;
        }
        if is_due { Due::Thread } else { Due::Nothing }
    }
}

/// The thread. Dropped, it is waited for; the writer's hook goes first.
#[derive(Debug)]
pub(super) struct Checkpoints(Option<JoinHandle<()>>);

impl Checkpoints {
    /// Starts the thread on a connection of its own, and has the writer wake it.
    ///
    /// # Errors
    /// `Internal` if the thread cannot be started.
    pub(super) fn start(writer: &mut Sqlite, own: Sqlite) -> Result<Self> {
        let (wake, woken) = sync_channel(1);
        let log = Arc::new(Log::default());
        let its = Arc::clone(&log);
        let thread = std::thread::Builder::new()
            .name("db-checkpoint".to_owned())
            .spawn(move || run(&own, &woken, &its))
            .map_err(Error::internal)?;
        let mut growth = Growth { log, seen: 0 };
        let hook = move |wal: &mut rusqlite::hooks::Wal, pages: i32| {
            match growth.by_commit(pages) {
                Due::Nothing => {}
                // One that is woken already looks at all that is there by then.
                Due::Thread => drop(wake.try_send(())),
                Due::Here => {
                    if let Err(error) = wal.checkpoint() {
                        say(&error);
                    }
                }
            }
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(Error::internal)?;
        Ok(Self(Some(thread)))
    }

    /// Ends the thread and waits for it.
    pub(super) fn end(&mut self, writer: &mut Sqlite) {
        // What the hook wakes goes with it, and the thread hears that.
        let unhooked =
            writer.wal_hook(None::<fn(&mut rusqlite::hooks::Wal, i32) -> rusqlite::Result<()>>);
        if let Err(error) = unhooked {
            return say(&error);
        }
        if self.0.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpoint thread ended by a panic");
        }
    }
}

/// Moves what the log has whenever it is woken, until little came meanwhile.
fn run(own: &Sqlite, woken: &Receiver<()>, log: &Log) {
    for () in woken {
        for _ in 0..PASSES {
            match own.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2)) {
                Ok(moved) => log.moved.store(moved, Ordering::Relaxed),
                Err(error) => say(&error),
            }
            if log.left() <= WAL_PAGES_LEFT {
                break;
            }
        }
    }
}

/// What one checkpoint leaves, the next one moves.
fn say(error: &rusqlite::Error) {
    if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
        tracing::warn!(?error, "the write-ahead log cannot be moved into the database file");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::namespace::{
        sql::{Connection, Mode, Param},
        sqlite::SqliteConnection,
    };

    /// Longer than anything here takes.
    const SOON: Duration = Duration::from_mins(1);
    /// Commits that fill the log some times over.
    const COMMITS: i64 = 6;
    /// Bytes of one commit: half of what the log may have.
    const BYTES: usize = WAL_PAGES_MAX as usize / 2 * 4096;

    #[test]
    fn a_commit_moves_what_is_little_or_has_grown_too_long() {
        let log = Arc::new(Log::default());
        let mut growth = Growth { log: Arc::clone(&log), seen: 0 };
        let mut check = |pages, moved: Option<i32>, expect| {
            if let Some(moved) = moved {
                log.moved.store(moved, Ordering::Relaxed);
            }
            assert_eq!(growth.by_commit(pages), expect, "{pages} pages, {moved:?} moved");
        };
        let (due, long, most) = (WAL_CHECKPOINT_PAGES, WAL_PAGES_LONG, WAL_PAGES_MAX);
        check(due - 1, None, Due::Nothing);
        check(due, None, Due::Thread);
        check(due + 1, None, Due::Nothing);
        // All is moved, and the log is not long.
        check(due + 2, Some(due + 2), Due::Nothing);
        check(2 * due, None, Due::Thread);
        check(long, Some(long - WAL_PAGES_LEFT - 1), Due::Nothing);
        check(long, Some(long - WAL_PAGES_LEFT), Due::Here);
        // Somebody reads an older state, so that the log goes on.
        check(long + 1, None, Due::Nothing);
        check(3 * due, None, Due::Thread);
        check(most, None, Due::Here);
        check(most + 1, None, Due::Nothing);
        check(most + due, None, Due::Here);
        // It begins anew.
        check(1, None, Due::Nothing);
        check(due, None, Due::Thread);
    }

    fn fill(writer: &mut SqliteConnection, number: i64) {
        let bytes = vec![7; BYTES];
        writer.begin(Mode::Write).unwrap();
        let sql = "INSERT INTO text (id, bytes) VALUES ($1, $2)";
        writer.execute(sql, &[Param::Int(number), Param::Bytes(&bytes)]).unwrap();
        writer.commit().unwrap();
    }

    #[test]
    fn a_log_that_is_filled_is_moved_while_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("text.sqlite");
        let size = |suffix: &str| {
            let name = format!("{}{suffix}", file.display());
            std::fs::metadata(name).map_or(0, |found| found.len())
        };
        let mut writer = SqliteConnection::open(&file, Mode::Write).unwrap();
        writer.make_tables("CREATE TABLE text (id BIGINT NOT NULL, bytes BLOB)").unwrap();
        fill(&mut writer, 0);
        // No commit follows, so this is the thread's work.
        let started = Instant::now();
        while size("") < BYTES as u64 {
            assert!(started.elapsed() < SOON, "nothing was moved");
            std::thread::yield_now();
        }
        (1..COMMITS).for_each(|number| fill(&mut writer, number));
        let bound = 2 * BYTES as u64 + BYTES as u64;
        assert!(size("-wal") <= bound, "{} bytes of log", size("-wal"));
        let rows = writer.query("SELECT COUNT(*) FROM text", &[]).unwrap();
        assert_eq!(rows[0].int(0).unwrap(), COMMITS);
        // It ends although the thread may be at work.
        drop(writer);
    }
}
