//! Moving the write-ahead log into the database file, beside the writer.
//!
//! A checkpoint writes thousands of pages to random places and syncs them. Done by the commit that
//! fills the log, as SQLite does by itself, that one commit and all that wait for it take a hundred
//! times as long as the others. So a thread of its own does it, which no writer waits for. Only where
//! the log has grown to its bound, because the thread never caught up with the writer, does a commit do
//! what is left.
//!
//! **Invariant:** the hook of a commit never fails, since the commit has happened by then.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::JoinHandle,
};

use rusqlite::{Connection as Sqlite, ErrorCode};

use crate::{
    error::{Error, Result},
    limits::{WAL_CHECKPOINT_PAGES, WAL_PAGES_MAX},
};

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
        let thread = std::thread::Builder::new()
            .name("db-checkpoint".to_owned())
            .spawn(move || run(&own, &woken))
            .map_err(Error::internal)?;
        let mut seen = 0;
        let hook = move |wal: &mut rusqlite::hooks::Wal, pages: i32| {
            // The log has begun anew.
            if pages < seen {
                seen = 0;
            }
            if pages - seen < WAL_CHECKPOINT_PAGES {
                return Ok(());
            }
            seen = pages;
            if pages < WAL_PAGES_MAX {
                // One that is woken already looks at all that is there by then.
                wake.try_send(()).ok();
            } else if let Err(error) = wal.checkpoint() {
                say(&error);
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

/// Moves what the log has whenever it is woken.
fn run(own: &Sqlite, woken: &Receiver<()>) {
    for () in woken {
        if let Err(error) = own.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            say(&error);
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
