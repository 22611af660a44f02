//! The checkpoint thread: moves the write-ahead log into the database file while the writer continues.
//!
//! A checkpoint writes thousands of pages to random places and syncs them. By default SQLite does this in the
//! commit that fills the log; that commit, and all that wait for it, then take a hundred times as long as
//! others. So a thread of its own does it.
//!
//! SQLite restarts the log from its beginning when all of it is checkpointed and no reader uses it. With a
//! writer that never pauses this would never happen. So the writer waits before a transaction while the few
//! remaining pages are checkpointed. When the log has reached its bound, the writer waits for a complete
//! checkpoint, and refuses transactions as `Busy` after a timeout. The log is therefore never longer than its
//! bound and one batch of the writer.
//!
//! After a write that found the disk full, the writer waits for a complete checkpoint before the next
//! transaction: a restarted log needs no further disk space.
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

/// The most checkpoints in a row for the pages that were written during the one before.
const PASSES: usize = 4;

/// How much of the log to checkpoint. Each variant includes those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum CheckpointRequest {
    #[default]
    Nothing,
    /// The pages that are in the log now; the writer continues.
    Most,
    /// The remaining pages; the writer waits.
    Rest,
    /// All pages, waiting for readers of the log as well, so that it restarts; the writer waits.
    All,
}

/// The state that the writer and the thread share.
#[derive(Debug, Default)]
struct CheckpointState {
    /// The pages in the log after the last commit.
    pages: i32,
    /// The value of `pages` when the thread was last woken; a lower value wakes it earlier.
    seen: i32,
    /// The pages checkpointed while the writer continued; 0 after the writer has waited for the rest.
    moved: i32,
    /// The error of the last checkpoint, if it failed on a full disk.
    full: Option<Error>,
    wish: CheckpointRequest,
    /// The number of wishes so far.
    asked: u64,
    /// The number of the last wish that the thread has finished, successfully or not.
    done: u64,
    is_over: bool,
}

impl CheckpointState {
    /// Records that a commit left `pages` pages in the log. Returns whether to wake the thread.
    fn grown(&mut self, pages: i32) -> bool {
        if pages < self.pages {
            self.restarted();
        }
        self.pages = pages;
        if pages - self.seen < WAL_CHECKPOINT_PAGES {
            return false;
        }
        self.seen = pages;
        self.ask(CheckpointRequest::Most);
        true
    }

    /// Records that the log restarts from its beginning.
    fn restarted(&mut self) {
        (self.pages, self.seen, self.moved) = (0, 0, 0);
    }

    /// What the writer has to wait for before its next transaction.
    fn due(&mut self, was_full: bool) -> CheckpointRequest {
        if was_full || self.pages >= WAL_PAGES_MAX {
            return CheckpointRequest::All;
        }
        if self.pages >= WAL_PAGES_LONG && self.pages - self.moved <= WAL_PAGES_LEFT {
            // At most once for each time that the thread has worked: a reader may keep the log from
            // restarting.
            self.moved = 0;
            return CheckpointRequest::Rest;
        }
        CheckpointRequest::Nothing
    }

    fn ask(&mut self, wish: CheckpointRequest) {
        self.wish = self.wish.max(wish);
        self.asked += 1;
    }

    /// Records the result of [`checkpoint`]. Returns whether at most [`WAL_PAGES_LEFT`] pages remain.
    fn moved_by(&mut self, wish: CheckpointRequest, moved: rusqlite::Result<(bool, i32)>) -> bool {
        self.full = None;
        match moved {
            Ok((true, _)) if wish == CheckpointRequest::All => self.restarted(),
            Ok((_, pages)) if wish == CheckpointRequest::Most => self.moved = pages,
            Ok(_) => {}
            Err(why) => {
                log_checkpoint_error(&why);
                self.full = Some(error(&why)).filter(|why| why.kind() == Kind::NoSpace);
            }
        }
        self.pages - self.moved <= WAL_PAGES_LEFT
    }
}

#[derive(Debug, Default)]
struct Shared {
    log: Mutex<CheckpointState>,
    changed: Condvar,
}

impl Shared {
    /// Locks the state. Poisoning is ignored: no code panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, CheckpointState> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of the checkpoint thread. Dropping it waits for the thread to end.
#[derive(Debug)]
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// How long the writer waits for the thread.
    wait: Duration,
}

impl Checkpoints {
    /// Starts the thread on `own`, a connection of its own, and installs a hook that reports the commits of
    /// the writer. `file` is the database file.
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

    /// Requests a checkpoint after the next commit, whatever the size of the log.
    pub(super) fn move_next(&self) {
        self.shared.lock().seen = -WAL_CHECKPOINT_PAGES;
    }

    /// Waits before a transaction until the log has room for it. `was_full`: the last transaction found the
    /// disk full.
    ///
    /// # Errors
    /// `Busy` if the log is at its bound and is not checkpointed in time, `NoSpace` if the disk is too full
    /// for that.
    pub(super) fn make_room(&self, was_full: bool) -> Result<()> {
        let mut log = self.shared.lock();
        let wish = log.due(was_full);
        if wish == CheckpointRequest::Nothing {
            return Ok(());
        }
        log.ask(wish);
        let number = log.asked;
        self.shared.changed.notify_all();
        let is_waiting = |log: &mut CheckpointState| log.done < number;
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

/// The loop of the thread, until the handle is dropped.
fn run(own: &Sqlite, file: &File, shared: &Shared) {
    loop {
        let idle =
            |log: &mut CheckpointState| log.wish == CheckpointRequest::Nothing && !log.is_over;
        let waited = shared.changed.wait_while(shared.lock(), idle);
        let mut log = waited.unwrap_or_else(PoisonError::into_inner);
        if log.is_over {
            return;
        }
        let (wish, number) = (std::mem::take(&mut log.wish), log.asked);
        drop(log);
        let passes = if wish == CheckpointRequest::Most { PASSES } else { 1 };
        for _ in 0..passes {
            let moved = checkpoint(own, wish);
            // SQLite syncs the file only after a complete checkpoint. Synced here, that sync is short while
            // the writer waits.
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

/// Runs one checkpoint. Returns whether it was not blocked, and how many pages of the log are checkpointed by
/// now.
fn checkpoint(own: &Sqlite, wish: CheckpointRequest) -> rusqlite::Result<(bool, i32)> {
    let sql = match wish {
        CheckpointRequest::Nothing | CheckpointRequest::Most | CheckpointRequest::Rest => {
            "PRAGMA wal_checkpoint(PASSIVE)"
        }
        CheckpointRequest::All => "PRAGMA wal_checkpoint(RESTART)",
    };
    own.query_row(sql, [], |row| Ok((row.get::<_, i32>(0)? == 0, row.get(2)?)))
}

/// Logs the failure of a checkpoint, unless a connection was in its way; the next checkpoint moves what this
/// one left.
fn log_checkpoint_error(error: &rusqlite::Error) {
    if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
        tracing::warn!(?error, "the write-ahead log cannot be moved into the database file");
    }
}

#[cfg(test)]
mod tests;
