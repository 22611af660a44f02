//! Moving the write-ahead log into the database file, beside the writer.
//!
//! A checkpoint writes thousands of pages to random places and syncs them. Done by the commit that
//! fills the log, as SQLite does by itself, that one commit and all that wait for it take a hundred
//! times as long as the others. So a thread of its own does it, while the writer goes on.
//!
//! The log begins anew when all of it is moved and nobody reads from it. Where the writer never pauses
//! that would never be so, so it waits before a transaction while the little that is left is moved. A
//! log that has reached its bound is waited for, too, but not for ever: then transactions are refused as
//! busy. So the log never has more than its bound and one batch of the writer.
//!
//! A writer that found the disk full has the log moved before it goes on: a log that begins anew needs
//! no room.
//!
//! **Invariant:** the hook of a commit never fails, since the commit has happened by then.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection as Sqlite, ErrorCode};

use crate::{
    error::{Error, Kind, Result},
    limits::{WAL_CHECKPOINT_PAGES, WAL_PAGES_LEFT, WAL_PAGES_LONG, WAL_PAGES_MAX, WAL_WAIT},
    namespace::sqlite::error,
};

/// How often the thread looks for what came while it moved the rest.
const PASSES: usize = 4;

/// How much of the log is to be moved. Each does what those above do, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    #[default]
    Nothing,
    /// What is there, while the writer goes on.
    Most,
    /// What is left of that. The writer waits.
    Rest,
    /// Everything, and whoever still reads from the log is waited for. The writer waits, too.
    All,
}

/// What the writer and the thread tell each other.
#[derive(Debug, Default)]
struct Log {
    /// Its pages at the last commit.
    pages: i32,
    /// The same when the thread was last woken, or less to wake it early.
    seen: i32,
    /// The pages that were moved while the writer went on, until it has waited for the rest.
    moved: i32,
    /// Why not all could be moved, if the disk has no room for it.
    full: Option<Error>,
    wish: Wish,
    /// The number of the last wish.
    asked: u64,
    /// That of the last one that is fulfilled, as far as it can be.
    done: u64,
    is_over: bool,
}

impl Log {
    /// Notes a commit that left so many pages in the log. Returns whether the thread is to be woken.
    fn grown(&mut self, pages: i32) -> bool {
        if pages < self.pages {
            self.restarted();
        }
        self.pages = pages;
        if pages - self.seen < WAL_CHECKPOINT_PAGES {
            return false;
        }
        self.seen = pages;
        self.ask(Wish::Most);
        true
    }

    /// The log begins at its start.
    fn restarted(&mut self) {
        (self.pages, self.seen, self.moved) = (0, 0, 0);
    }

    /// What the writer has to wait for before it may go on.
    fn due(&mut self, was_full: bool) -> Wish {
        if was_full || self.pages >= WAL_PAGES_MAX {
            return Wish::All;
        }
        if self.pages >= WAL_PAGES_LONG && self.pages - self.moved <= WAL_PAGES_LEFT {
            // Once for each time that the thread was at work: who reads may keep the log from its start.
            self.moved = 0;
            return Wish::Rest;
        }
        Wish::Nothing
    }

    fn ask(&mut self, wish: Wish) {
        self.wish = self.wish.max(wish);
        self.asked += 1;
    }

    /// Notes what a checkpoint did. Returns whether little is left.
    fn moved_by(&mut self, wish: Wish, moved: rusqlite::Result<(bool, i32)>) -> bool {
        self.full = None;
        match moved {
            Ok((true, _)) if wish == Wish::All => self.restarted(),
            Ok((_, pages)) if wish == Wish::Most => self.moved = pages,
            Ok(_) => {}
            Err(why) => {
                say(&why);
                self.full = Some(error(&why)).filter(|why| why.kind() == Kind::NoSpace);
            }
        }
        self.pages - self.moved <= WAL_PAGES_LEFT
    }
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Log>,
    changed: Condvar,
}

impl Shared {
    /// Nothing is left half-way by a panic: there is none while it is locked.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropped, it is waited for.
#[derive(Debug)]
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// How long the writer waits for it.
    wait: Duration,
}

impl Checkpoints {
    /// Starts the thread on a connection of its own, and has the writer tell it of its commits. `file`
    /// is that of the database.
    ///
    /// # Errors
    /// `Internal` if the thread cannot be started.
    pub(super) fn start(writer: &mut Sqlite, own: Sqlite, file: File) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("db-checkpoint".to_owned())
            .spawn(move || run(&own, &file, &its))
            .map_err(Error::internal)?;
        let told = Arc::clone(&shared);
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            if told.lock().grown(pages) {
                told.changed.notify_all();
            }
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(Error::internal)?;
        Ok(Self { shared, thread: Some(thread), wait: WAL_WAIT })
    }

    /// Has the log moved after the next commit, whatever its size.
    pub(super) fn move_next(&self) {
        self.shared.lock().seen = -WAL_CHECKPOINT_PAGES;
    }

    /// Waits before a transaction until the log has room for it. `was_full` says that the last one had
    /// none on the disk.
    ///
    /// # Errors
    /// `Busy` if the log is at its bound and is not moved in time, `NoSpace` if it cannot be moved.
    pub(super) fn make_room(&self, was_full: bool) -> Result<()> {
        let mut log = self.shared.lock();
        let wish = log.due(was_full);
        if wish == Wish::Nothing {
            return Ok(());
        }
        log.ask(wish);
        let number = log.asked;
        self.shared.changed.notify_all();
        let is_waiting = |log: &mut Log| log.done < number;
        let waited = self.shared.changed.wait_timeout_while(log, self.wait, is_waiting);
        let (log, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if log.pages < WAL_PAGES_MAX {
            return Ok(());
        }
        let busy = || {
            let message = "the disk is too slow for all that is written; try again";
            Error::new(Kind::Busy, message).because("the write-ahead log is at its bound")
        };
        Err(log.full.clone().unwrap_or_else(busy))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpoint thread ended by a panic");
        }
    }
}

/// Fulfils wishes until the writer goes.
fn run(own: &Sqlite, file: &File, shared: &Shared) {
    loop {
        let idle = |log: &mut Log| log.wish == Wish::Nothing && !log.is_over;
        let waited = shared.changed.wait_while(shared.lock(), idle);
        let mut log = waited.unwrap_or_else(PoisonError::into_inner);
        if log.is_over {
            return;
        }
        let (wish, number) = (std::mem::take(&mut log.wish), log.asked);
        drop(log);
        let passes = if wish == Wish::Most { PASSES } else { 1 };
        for _ in 0..passes {
            let moved = checkpoint(own, wish);
            // SQLite does so only where all is moved, which the writer would wait for.
            if let Err(error) = file.sync_data() {
                tracing::warn!(?error, "the database file cannot be synced");
            }
            if shared.lock().moved_by(wish, moved) {
                break;
            }
        }
        shared.lock().done = number;
        shared.changed.notify_all();
    }
}

/// Moves pages. Returns whether all were, and how many of the log are by now.
fn checkpoint(own: &Sqlite, wish: Wish) -> rusqlite::Result<(bool, i32)> {
    let sql = match wish {
        Wish::Nothing | Wish::Most | Wish::Rest => "PRAGMA wal_checkpoint(PASSIVE)",
        Wish::All => "PRAGMA wal_checkpoint(RESTART)",
    };
    own.query_row(sql, [], |row| Ok((row.get::<_, i32>(0)? == 0, row.get(2)?)))
}

/// What one checkpoint leaves, the next one moves.
fn say(error: &rusqlite::Error) {
    if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
        tracing::warn!(?error, "the write-ahead log cannot be moved into the database file");
    }
}

#[cfg(test)]
mod tests;
