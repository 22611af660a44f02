//! Tests of the database file: its free space, and the reserved space of its log.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection as Sqlite;

use super::SqliteConnection;
use crate::{
    limits::WAL_BYTES,
    namespace::sql::{Connection, Mode, Param, Tx},
};

/// A timeout longer than anything here takes.
const SOON: Duration = Duration::from_mins(1);
const TABLE: &str = "CREATE TABLE text (id BIGINT NOT NULL, bytes BLOB)";
/// The bytes of one row.
const BYTES: usize = 1 << 20;
const ROWS: i64 = 8;

fn size(file: &Path, suffix: &str) -> u64 {
    let name = format!("{}{suffix}", file.display());
    std::fs::metadata(name).map_or(0, |found| found.len())
}

fn write(connection: &mut SqliteConnection, work: impl FnOnce(&mut Tx<'_>) -> bool) -> bool {
    connection.begin(Mode::Write).unwrap();
    let result = work(&mut Tx::new(connection));
    connection.commit().unwrap();
    result
}

/// Adds rows and deletes them again.
fn fill_and_delete(connection: &mut SqliteConnection) {
    let bytes = vec![7; BYTES];
    for row in 0..ROWS {
        write(connection, |tx| {
            let sql = "INSERT INTO text (id, bytes) VALUES ($1, $2)";
            tx.execute(sql, &[Param::Int(row), Param::Bytes(&bytes)]).unwrap();
            true
        });
    }
    write(connection, |tx| tx.execute("DELETE FROM text", &[]).is_ok());
}

fn file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("text.sqlite")
}

#[test]
fn what_is_free_goes_back_to_the_disk_but_for_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    let mut connection = SqliteConnection::open(&file, Mode::Write).unwrap();
    connection.make_tables(TABLE).unwrap();
    fill_and_delete(&mut connection);
    let free = connection.free().unwrap();
    assert!(free.can_go && free.bytes >= ROWS as u64 * BYTES as u64, "{free:?}");
    let kept = BYTES as u64;
    let mut steps = 1;
    while write(&mut connection, |tx| tx.give_back(kept, &|| true).unwrap()) {
        steps += 1;
    }
    assert!(steps > 16, "a step that is pressed gives little: {steps} steps");
    let left = connection.free().unwrap().bytes;
    assert!(left <= kept && left + (1 << 18) > kept, "{left} bytes are kept");
    // The thread checkpoints the log by itself.
    let started = Instant::now();
    while size(&file, "") > 2 * kept {
        assert!(started.elapsed() < SOON, "{} bytes on the disk", size(&file, ""));
        std::thread::yield_now();
    }
}

#[test]
fn a_file_of_an_older_program_keeps_what_is_free_for_new_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    Sqlite::open(&file).unwrap().execute_batch(TABLE).unwrap();
    let mut connection = SqliteConnection::open(&file, Mode::Write).unwrap();
    fill_and_delete(&mut connection);
    let free = connection.free().unwrap();
    assert!(!free.can_go && free.bytes >= ROWS as u64 * BYTES as u64, "{free:?}");
    assert!(!write(&mut connection, |tx| tx.give_back(0, &|| false).unwrap()));
    assert_eq!(connection.free().unwrap(), free);
}

#[test]
fn the_log_has_its_room_from_the_start_and_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir);
    let mut connection = SqliteConnection::open(&file, Mode::Write).unwrap();
    connection.make_tables(TABLE).unwrap();
    connection.settle().unwrap();
    assert_eq!(size(&file, "-wal"), WAL_BYTES);
    for _ in 0..4 {
        fill_and_delete(&mut connection);
    }
    assert_eq!(size(&file, "-wal"), WAL_BYTES);
    let row = |tx: &mut Tx<'_>| tx.execute("INSERT INTO text (id) VALUES (1)", &[]).is_ok();
    assert!(write(&mut connection, row));
    // The state that a kill leaves.
    drop(connection);
    let mut connection = SqliteConnection::open(&file, Mode::Write).unwrap();
    assert!(write(&mut connection, row));
    connection.settle().unwrap();
    drop(connection);
    assert_eq!(size(&file, "-wal"), WAL_BYTES);
    let mut connection = SqliteConnection::open(&file, Mode::Read).unwrap();
    assert_eq!(connection.query("SELECT id FROM text", &[]).unwrap().len(), 2);
}
