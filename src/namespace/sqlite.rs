//! The SQLite driver.
//!
//! Write-ahead log and `synchronous=FULL`: a commit is on disk when it returns, and readers never wait for
//! the writer. There is one writing connection. Its transactions begin IMMEDIATE, so that none fails half-way
//! because it cannot get the lock.

mod checkpoint;

use std::{fs::File, path::Path, time::Duration};

use rusqlite::{
    Connection as Sqlite, ErrorCode, OpenFlags, ToSql,
    config::DbConfig,
    ffi::SQLITE_IOERR_SHMSIZE,
    types::{ToSqlOutput, ValueRef},
};

use rustix::{fs::FallocateFlags, io::Errno};

use crate::{
    error::{Error, Kind, Result},
    limits::{DATABASE_CACHE_KIB, DATABASE_PAGE_BYTES, FREE_CHUNK_PAGES, WAL_BYTES},
    namespace::{
        sql::{Connection, Free, Mode, Param, Row, Value},
        sqlite::checkpoint::Checkpoints,
    },
};

/// The timeout for a lock. Only the start and checkpoints compete for one.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// The names of parameters; no statement has more parameters.
const NAMES: [&str; 24] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15",
    "$16", "$17", "$18", "$19", "$20", "$21", "$22", "$23", "$24",
];
/// The mode of `auto_vacuum` in which free pages return to the disk on request.
const INCREMENTAL: i64 = 2;
const INCREMENTAL_VACUUM: &str = "PRAGMA incremental_vacuum(16)";
const _: () = assert!(FREE_CHUNK_PAGES == 16);
/// The size of the cache of prepared statements: more than the program has.
const STATEMENTS: usize = 256;

/// A connection to an SQLite file.
#[derive(Debug)]
pub(super) struct SqliteConnection {
    /// The thread that checkpoints the log; only on the writing connection.
    checkpoints: Option<Checkpoints>,
    sqlite: Sqlite,
    /// Whether a statement failed on a full disk since the last transaction began.
    was_full: bool,
    /// The error for which SQLite rolled back a transaction by itself.
    undone: Option<Error>,
}

impl SqliteConnection {
    /// Opens a database file, and makes it if it is missing.
    ///
    /// # Errors
    /// `Internal` if it is no database or cannot be opened.
    pub(super) fn open(path: &Path, mode: Mode) -> Result<Self> {
        let mut sqlite = connect(path).map_err(|e| error(&e))?;
        let checkpoints = match mode {
            Mode::Read => None,
            Mode::Write => {
                let own = connect(path).map_err(|e| error(&e))?;
                let file = File::open(path).map_err(Error::internal)?;
                Some(Checkpoints::start(&mut sqlite, own, file)?)
            }
        };
        Ok(Self { checkpoints, sqlite, was_full: false, undone: None })
    }

    /// Records a failure that later calls depend on: a full disk, or a transaction that SQLite rolled back.
    fn noted<T>(&mut self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|why| {
            let error = error(&why);
            self.was_full |= error.kind() == Kind::NoSpace;
            if !self.in_transaction() {
                self.undone = Some(error.clone());
            }
            error
        })
    }
}

/// Opens a file with the settings that all connections share.
fn connect(path: &Path) -> rusqlite::Result<Sqlite> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let is_new = std::fs::metadata(path).map_or(true, |found| found.len() == 0);
    let sqlite = Sqlite::open_with_flags(path, flags)?;
    sqlite.busy_timeout(BUSY_WAIT)?;
    sqlite.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan must not depend on the values of parameters. Otherwise SQLite parses and plans some statements
    // again at every other call, which takes ten times as long as running them.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The log and its index stay when the database is closed, so that a start needs no disk space for them.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let mut pragmas = vec![("page_size", DATABASE_PAGE_BYTES.to_string())];
    // An existing file would have to be rewritten for this mode; without it, the file keeps its free pages.
    if is_new {
        pragmas.push(("auto_vacuum", INCREMENTAL.to_string()));
    }
    pragmas.extend([
        ("journal_mode", "WAL".to_owned()),
        ("synchronous", "FULL".to_owned()),
        ("journal_size_limit", WAL_BYTES.to_string()),
        // The thread of `checkpoint` does this.
        ("wal_autocheckpoint", "0".to_owned()),
        ("cache_size", format!("-{DATABASE_CACHE_KIB}")),
        ("temp_store", "MEMORY".to_owned()),
    ]);
    for (pragma, value) in pragmas {
        sqlite
            .pragma_update_and_check(None, pragma, value, |_| Ok(()))
            .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(()) } else { Err(e) })?;
    }
    Ok(sqlite)
}

impl Connection for SqliteConnection {
    fn begin(&mut self, mode: Mode) -> Result<()> {
        let sql = match mode {
            Mode::Read => "BEGIN DEFERRED",
            Mode::Write => "BEGIN IMMEDIATE",
        };
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.make_room(self.was_full)?;
        }
        (self.was_full, self.undone) = (false, None);
        self.execute(sql, &[]).map(drop)
    }

    fn commit(&mut self) -> Result<()> {
        self.execute("COMMIT", &[]).map(drop)
    }

    fn rollback(&mut self) {
        if self.in_transaction()
            && let Err(error) = self.execute("ROLLBACK", &[])
        {
            tracing::error!(error = ?error, "a transaction cannot be rolled back");
        }
    }

    fn in_transaction(&self) -> bool {
        !self.sqlite.is_autocommit()
    }

    fn undone(&mut self) -> Error {
        let unknown = || Error::internal("SQLite undid a transaction and no statement failed");
        self.undone.take().unwrap_or_else(unknown)
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        let changed = execute(&self.sqlite, sql, params);
        self.noted(changed)
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let found = query(&self.sqlite, sql, params);
        self.noted(found)?
    }

    fn now(&mut self) -> Result<i64> {
        // SQLite's clock has a resolution of milliseconds.
        let row = self.query("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000", &[])?;
        row.first().ok_or_else(|| Error::internal("the clock has no row"))?.int(0)
    }

    fn disk_bytes(&mut self) -> Result<i64> {
        let file = self.sqlite.path().unwrap_or_default();
        let bytes = |suffix| std::fs::metadata(format!("{file}{suffix}")).map_or(0, |m| m.len());
        Ok((bytes("") + bytes("-wal") + bytes("-shm")) as i64)
    }

    fn free(&mut self) -> Result<Free> {
        let number = |rows: Vec<Row>| {
            rows.first().ok_or_else(|| Error::internal("a pragma has no value"))?.int(0)
        };
        let pages = number(self.query("PRAGMA freelist_count", &[])?)?;
        let can_go = number(self.query("PRAGMA auto_vacuum", &[])?)? == INCREMENTAL;
        Ok(Free { bytes: (pages * DATABASE_PAGE_BYTES) as u64, can_go })
    }

    fn give_back(&mut self) -> Result<()> {
        // The file shrinks only after a checkpoint of the whole log.
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.move_next();
        }
        // SQLite frees one page for each row that is read.
        self.query(INCREMENTAL_VACUUM, &[]).map(drop)
    }

    fn has_tables(&mut self) -> Result<bool> {
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'";
        Ok(!self.query(sql, &[])?.is_empty())
    }

    fn make_tables(&mut self, tables: &str) -> Result<()> {
        let text = tables
            .replace("{id}", "INTEGER PRIMARY KEY AUTOINCREMENT")
            .replace("{text}", "TEXT")
            .replace("{bytes}", "BLOB")
            .replace("{clustered}", " WITHOUT ROWID");
        self.sqlite.execute_batch(&text).map_err(|e| error(&e))
    }

    /// Checkpoints the whole log, reserves disk space for the log, and syncs its folder: the name of a new
    /// file is durable only after that. If the disk is full, the log stays as it is, which is as durable.
    fn settle(&mut self) -> Result<()> {
        if let Some(checkpoints) = &self.checkpoints
            && let Err(error) = checkpoints.make_room(true)
        {
            tracing::debug!(?error, "the log of the database is not moved yet");
        }
        let checkpoint = self.sqlite.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        match checkpoint.map_err(|e| error(&e)) {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::NoSpace => {
                tracing::warn!(?error, "the disk is full, so that the log of the database stays");
            }
            Err(error) => return Err(error),
        }
        if let Some(file) = self.sqlite.path()
            && let Err(error) = reserve_log(&format!("{file}-wal"))
        {
            tracing::warn!(?error, "the disk has no room for the whole log of the database");
        }
        let folder = self.sqlite.path().and_then(|file| Path::new(file).parent());
        let sync = |folder| File::open(folder).and_then(|folder| folder.sync_all());
        folder.map_or(Ok(()), sync).map_err(Error::internal)
    }
}

/// Makes the log file as long as the log can become; SQLite ignores zeros at its end.
fn reserve_log(file: &str) -> std::io::Result<()> {
    let log = File::options().write(true).create(true).truncate(false).open(file)?;
    match rustix::fs::fallocate(&log, FallocateFlags::empty(), 0, WAL_BYTES) {
        // The file system cannot allocate in advance: the log grows as it is written, into the reserve of the
        // disk.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

fn execute(sqlite: &Sqlite, sql: &str, params: &[Param<'_>]) -> rusqlite::Result<u64> {
    let mut statement = sqlite.prepare_cached(sql)?;
    bind(&mut statement, params)?;
    Ok(statement.raw_execute()? as u64)
}

/// The outer error is that of SQLite; the inner one is for a value of a type that no table of the store has.
fn query(sqlite: &Sqlite, sql: &str, params: &[Param<'_>]) -> rusqlite::Result<Result<Vec<Row>>> {
    let mut statement = sqlite.prepare_cached(sql)?;
    let columns = statement.column_count();
    bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get_ref(column)).map(|got| got.map(value));
        match values.collect::<rusqlite::Result<Result<_>>>()? {
            Ok(values) => found.push(Row(values)),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(found))
}

/// Binds `$1`, `$2`… by name: SQLite itself numbers parameters in the order of their appearance.
fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Param<'_>]) -> rusqlite::Result<()> {
    for (name, param) in NAMES.iter().zip(params) {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, param)?;
        }
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(bytes) => {
            Value::Text(String::from_utf8(bytes.to_vec()).map_err(Error::internal)?)
        }
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Error::internal("a column holds a floating-point number")),
    })
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Param::Null => ValueRef::Null,
            Param::Int(value) => ValueRef::Integer(value),
            Param::Text(value) => ValueRef::Text(value.as_bytes()),
            Param::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

/// Converts an error. A caller can act only on a full disk or a busy file; all others are internal.
fn error(error: &rusqlite::Error) -> Error {
    let cause = error.to_string();
    let full = || Error::new(Kind::NoSpace, "the disk is full");
    if error.sqlite_error().is_some_and(|e| e.extended_code == SQLITE_IOERR_SHMSIZE) {
        return full().because(cause);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => full().because(cause),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Kind::Busy, "the database is busy; try again").because(cause)
        }
        _ => Error::internal(cause),
    }
}

#[cfg(test)]
mod tests;
