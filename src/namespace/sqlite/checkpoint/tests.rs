//! Tests of when the log is checkpointed, and how long it can become meanwhile.

use std::{path::PathBuf, time::Instant};

use tempfile::TempDir;

use super::*;
use crate::namespace::{
    sql::{Connection, Mode, Param},
    sqlite::SqliteConnection,
};

/// A timeout longer than anything here takes.
const SOON: Duration = Duration::from_mins(1);
/// The number of commits that fills the log several times.
const COMMITS: i64 = 12;
/// The bytes of one commit: half of the bound of the log.
const BYTES: usize = WAL_PAGES_MAX as usize / 2 * 4096;
/// The longest log: its bound and one commit, and a few pages for what is not the bytes of rows.
const LOG_BYTES_MAX: u64 = (WAL_PAGES_MAX as u64 * 3 / 2 + 64) * (4096 + 24);

#[test]
fn a_writer_waits_for_what_is_little_or_has_grown_too_long() {
    let mut log = CheckpointState::default();
    let mut check = |pages, moved: Option<i32>, is_woken, due| {
        log.moved = moved.unwrap_or(log.moved);
        assert_eq!(log.grown(pages), is_woken, "{pages} pages, {moved:?} moved");
        assert_eq!(log.due(false), due, "{pages} pages, {moved:?} moved");
    };
    let (new, long, most) = (WAL_CHECKPOINT_PAGES, WAL_PAGES_LONG, WAL_PAGES_MAX);
    check(new - 1, None, false, CheckpointRequest::Nothing);
    check(new, None, true, CheckpointRequest::Nothing);
    check(new + 1, None, false, CheckpointRequest::Nothing);
    // Everything is checkpointed, and the log is not long.
    check(long - 1, Some(long - 1), false, CheckpointRequest::Nothing);
    check(long, Some(long - WAL_PAGES_LEFT - 1), true, CheckpointRequest::Nothing);
    check(long + 1, Some(long + 1 - WAL_PAGES_LEFT), false, CheckpointRequest::Rest);
    // A reader keeps an older snapshot, so the log cannot restart.
    check(long + 2, None, false, CheckpointRequest::Nothing);
    check(most - 1, None, true, CheckpointRequest::Nothing);
    check(most, None, false, CheckpointRequest::All);
    check(most + 1, None, false, CheckpointRequest::All);
    // The log restarts.
    check(1, None, false, CheckpointRequest::Nothing);
    check(new, None, true, CheckpointRequest::Nothing);
    assert_eq!(log.due(true), CheckpointRequest::All, "the disk was full");
}

/// A database with one table.
struct Fixture {
    writer: SqliteConnection,
    file: PathBuf,
    rows: i64,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("text.sqlite");
        let mut writer = SqliteConnection::open(&file, Mode::Write).unwrap();
        writer.make_tables("CREATE TABLE text (id BIGINT NOT NULL, bytes BLOB)").unwrap();
        let mut fixture = Self { writer, file, rows: 0, _dir: dir };
        fixture.wait_for(SOON);
        fixture
    }

    /// Sets how long the writer waits for the checkpoint thread.
    fn wait_for(&mut self, wait: Duration) {
        self.writer.checkpoints.as_mut().unwrap().wait = wait;
    }

    /// Adds a row in a transaction.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        let bytes = vec![7; bytes];
        self.writer.begin(Mode::Write)?;
        let sql = "INSERT INTO text (id, bytes) VALUES ($1, $2)";
        self.writer.execute(sql, &[Param::Int(self.rows), Param::Bytes(&bytes)])?;
        self.writer.commit()?;
        self.rows += 1;
        Ok(())
    }

    fn size(&self, suffix: &str) -> u64 {
        let name = format!("{}{suffix}", self.file.display());
        std::fs::metadata(name).map_or(0, |found| found.len())
    }

    fn check(&mut self) {
        let bytes = self.size("-wal");
        assert!(bytes <= LOG_BYTES_MAX, "{bytes} bytes of log");
        let rows = self.writer.query("SELECT COUNT(*) FROM text", &[]).unwrap();
        assert_eq!(rows[0].int(0).unwrap(), self.rows);
    }
}

#[test]
fn a_log_that_is_filled_is_moved_while_the_writer_goes_on() {
    let mut fixture = Fixture::new();
    fixture.fill(BYTES).unwrap();
    // No commit follows, so the thread does this.
    let started = Instant::now();
    while fixture.size("") < BYTES as u64 {
        assert!(started.elapsed() < SOON, "nothing was moved");
        std::thread::yield_now();
    }
    (1..COMMITS).for_each(|_| fixture.fill(BYTES).unwrap());
    fixture.check();
    // The thread ends although it may be at work.
}

#[test]
fn a_log_that_cannot_be_moved_in_time_refuses_what_is_written() {
    let mut fixture = Fixture::new();
    let mut reader = SqliteConnection::open(&fixture.file, Mode::Read).unwrap();
    reader.begin(Mode::Read).unwrap();
    reader.query("SELECT COUNT(*) FROM text", &[]).unwrap();
    fixture.wait_for(Duration::ZERO);
    // The pages after the reader's snapshot cannot be checkpointed, as on a disk that hangs.
    let refused = (0..COMMITS).find_map(|_| fixture.fill(BYTES).err()).expect("a bound");
    assert_eq!(refused.kind(), Kind::Busy);
    assert_eq!(fixture.fill(1).unwrap_err().kind(), Kind::Busy, "it stays refused");
    fixture.check();
    reader.rollback();
    fixture.wait_for(SOON);
    (0..COMMITS).for_each(|_| fixture.fill(BYTES).unwrap());
    fixture.check();
}

#[test]
fn a_writer_that_waits_is_served_by_a_thread_that_is_at_work() {
    let mut fixture = Fixture::new();
    // Small commits, so that the thread always finds new pages.
    while fixture.size("") < 4 * BYTES as u64 {
        (0..16).for_each(|_| fixture.fill(64 << 10).unwrap());
        let bytes = fixture.size("-wal");
        assert!(bytes <= LOG_BYTES_MAX, "{bytes} bytes of log");
    }
    fixture.check();
}

#[test]
fn a_writer_that_found_the_disk_full_begins_the_log_anew() {
    let mut fixture = Fixture::new();
    (0..8).for_each(|_| fixture.fill(BYTES / 32).unwrap());
    let before = fixture.size("-wal");
    fixture.writer.was_full = true;
    fixture.fill(BYTES / 8).unwrap();
    assert_eq!(fixture.size("-wal"), before, "it had no room for more");
    assert!(!fixture.writer.was_full);
    fixture.check();
}

#[test]
fn a_disk_that_is_full_is_named_as_why_the_log_stays() {
    let shared = Arc::new(Shared::default());
    let checkpoints = Checkpoints { shared, thread: None, wait: Duration::ZERO };
    checkpoints.shared.lock().pages = WAL_PAGES_MAX;
    assert_eq!(checkpoints.make_room(false).unwrap_err().kind(), Kind::Busy);
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    let full = || rusqlite::Error::SqliteFailure(full, None);
    checkpoints.shared.lock().moved_by(CheckpointRequest::All, Err(full()));
    assert_eq!(checkpoints.make_room(false).unwrap_err().kind(), Kind::NoSpace);
    checkpoints.shared.lock().moved_by(CheckpointRequest::All, Ok((false, 0)));
    assert_eq!(checkpoints.make_room(false).unwrap_err().kind(), Kind::Busy);
    checkpoints.shared.lock().moved_by(CheckpointRequest::All, Ok((true, 0)));
    checkpoints.make_room(false).unwrap();
}
