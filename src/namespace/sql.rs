//! The small synchronous interface of an SQL engine, against which all logic of the namespace is written.
//!
//! Each statement is one text for all engines. It uses only what SQLite and PostgreSQL both understand:
//! parameters `$1`, `$2`…, integers of 64 bits, times as integer microseconds. No statement is built from
//! input.

mod row;
mod set;

pub use row::Row;
pub(crate) use set::set;
pub use set::{Rows, Set};

use std::time::Instant;

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    limits::{STEP, WRITE_BATCH_MAX},
    model::Usage,
    namespace::{
        counted::{Counted, Sums},
        expelled::Expelled,
    },
};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Int(i64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a crate::model::Digest> for Param<'a> {
    fn from(value: &'a crate::model::Digest) -> Self {
        Self::Bytes(&value.0)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Makes the parameters of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::namespace::sql::Param::from($value)),*] };
}
pub(crate) use params;

/// The SQL expression of a number, bounded as [`Row::count`] bounds it.
macro_rules! count {
    ($value:literal) => {
        concat!(
            "CASE WHEN ",
            $value,
            " < 0 THEN 0 WHEN ",
            $value,
            " > 9007199254740992 ",
            "THEN 9007199254740992 ELSE ",
            $value,
            " END"
        )
    };
}
pub(crate) use count;

/// The SQL expression of the sum of such numbers, at most [`TOTAL_MAX`]. The sum is one of doubles, which
/// cannot overflow and are exact up to that bound.
macro_rules! sum {
    ($value:literal) => {
        concat!(
            "CASE WHEN SUM(CAST(",
            $crate::namespace::sql::count!($value),
            " AS DOUBLE PRECISION)) ",
            "> 9007199254740992 THEN 9007199254740992 ELSE CAST(COALESCE(SUM(CAST(",
            $crate::namespace::sql::count!($value),
            " AS DOUBLE PRECISION)), 0) AS BIGINT) END"
        )
    };
}
pub(crate) use sum;

/// The kind of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One snapshot; nothing is written.
    Read,
    /// Reads and writes, under the only write lock from the first statement on.
    Write,
}

/// Free space inside the file of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Free {
    /// The bytes that new rows can take before the file grows.
    pub bytes: u64,
    /// Whether the free space can be returned to the disk.
    pub can_go: bool,
}

/// A connection to an engine.
pub trait Connection: Send {
    /// Begins a transaction.
    fn begin(&mut self, mode: Mode) -> Result<()>;
    /// Commits the transaction. It survives a power failure when this returns.
    fn commit(&mut self) -> Result<()>;
    /// Rolls the transaction back, and may not wait for the answer. A failure is only logged: what was not committed is
    /// lost with the connection.
    fn rollback(&mut self);
    /// Whether a transaction is open. An engine may roll one back by itself, for example when the disk is
    /// full.
    fn in_transaction(&self) -> bool;
    /// The error for which the engine rolled back the last transaction by itself.
    fn undone(&mut self) -> Error {
        Error::internal("the database undid a transaction by itself")
    }
    /// The error of a statement since the last begin that did not end in time, if there was one; further
    /// statements would take as long. The default is for an engine in this process, which always responds.
    fn stalled(&self) -> Option<Error> {
        None
    }
    /// Runs a statement and returns the number of rows it changed.
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64>;
    /// Runs a statement and returns its rows.
    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>>;
    /// Runs statements over sets of rows, one after the other, and returns the rows of each. The default runs them
    /// row by row; an engine behind a connection sends all at once.
    fn run(&mut self, sets: &[Rows<'_>]) -> Result<Vec<Vec<Row>>> {
        let all = sets.iter().map(|rows| {
            let found = rows.iter().map(|row| self.query(rows.set.one, row));
            Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        });
        all.collect()
    }
    /// The most jobs in one transaction, each in a savepoint of its own.
    fn batch_max(&self) -> usize {
        WRITE_BATCH_MAX
    }
    /// The clock of the database, in microseconds since 1970.
    fn now(&mut self) -> Result<i64>;
    /// The bytes on disk of the tables, their indexes and their log.
    fn disk_bytes(&mut self) -> Result<i64>;
    /// Free space inside the database file. The default is for an engine that manages its free space itself.
    fn free(&mut self) -> Result<Free> {
        Ok(Free::default())
    }
    /// Frees at most [`FREE_CHUNK_PAGES`](crate::limits::FREE_CHUNK_PAGES) pages of the database file. They
    /// return to the disk after the transaction is committed.
    fn give_back(&mut self) -> Result<()> {
        Ok(())
    }
    /// Counts each later commit in the row of the server, which is committed with the count 0: so that a server that was
    /// declared dead writes nothing, and a commit whose response is lost is known to be made or not. The default is for
    /// an engine in this process, whose commits are never in doubt and whose file is locked.
    fn register(&mut self, _server: Uuid) {}
    /// How often the database was connected to, beside the first time.
    fn reconnects(&self) -> u64 {
        0
    }
    /// Gives the connection up, so that the next transaction begins on a new one.
    fn disconnect(&mut self) {}
    /// Why this connection never writes again under the id of its server.
    fn expelled(&self) -> Option<Expelled> {
        None
    }
    /// Whether the database has the tables of a store.
    fn has_tables(&mut self) -> Result<bool>;
    /// Makes the tables. `{id}` stands for an integer key that is never used twice, `{text}` for text that is
    /// ordered by its bytes, `{bytes}` for bytes, `{clustered}` for a table that is stored in the order of
    /// its primary key.
    fn make_tables(&mut self, tables: &str) -> Result<()>;
    /// Stores values of a table that fit into a page in its rows, where the engine would move them to another table.
    fn keep_in_rows(&mut self, _table: &'static str) -> Result<()> {
        Ok(())
    }
    /// Finishes the work of the driver outside of transactions, for example a checkpoint. Called after the
    /// transaction of the start, and once before the connection closes.
    fn settle(&mut self) -> Result<()>;
}

/// A transaction, as the logic of the namespace uses it.
pub struct Tx<'a> {
    connection: &'a mut dyn Connection,
    now: Option<i64>,
    counted: Sums,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a> Tx<'a> {
    /// Wraps a connection on which a transaction is open.
    pub fn new(connection: &'a mut dyn Connection) -> Self {
        Self { connection, now: None, counted: Sums::default() }
    }

    /// Runs a statement and returns the number of rows it changed.
    pub fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.connection.execute(sql, params)
    }

    /// Runs a statement and returns its rows.
    pub fn all(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.connection.query(sql, params)
    }

    /// Runs a statement and returns its first row.
    pub fn first(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.all(sql, params)?.into_iter().next())
    }

    /// Runs a statement whose result has exactly one row.
    pub fn one(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Row> {
        self.first(sql, params)?
            .ok_or_else(|| Error::internal(format!("a row is missing for: {sql}")))
    }

    /// Whether the result of a statement has a row.
    pub fn exists(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<bool> {
        Ok(!self.all(sql, params)?.is_empty())
    }

    /// Runs statements over sets of rows, one after the other, and returns the rows of each. On PostgreSQL this is
    /// one round trip, however many they are.
    pub fn run<const SETS: usize>(&mut self, sets: &[Rows<'_>; SETS]) -> Result<[Vec<Row>; SETS]> {
        let found = self.connection.run(sets)?;
        found.try_into().map_err(|_| Error::internal("a set has no result"))
    }

    /// The bytes that the database takes on disk.
    pub fn disk_bytes(&mut self) -> Result<i64> {
        self.connection.disk_bytes()
    }

    /// Makes tables, as [`Connection::make_tables`].
    pub fn make_tables(&mut self, tables: &str) -> Result<()> {
        self.connection.make_tables(tables)
    }

    /// Stores values of a table in its rows, as [`Connection::keep_in_rows`].
    pub fn keep_in_rows(&mut self, table: &'static str) -> Result<()> {
        self.connection.keep_in_rows(table)
    }

    /// Adds to the sums of the store: `count` rows of a kind, which may be negative, and their bytes. The
    /// engine stores the change if the job of this transaction succeeds.
    pub fn count(&mut self, what: Counted, count: i64, bytes: i64) {
        self.counted.add(what, Usage { bytes, count });
    }

    /// Takes the changes of sums so far.
    pub fn counted(&mut self) -> Sums {
        std::mem::take(&mut self.counted)
    }

    /// Free space inside the database file.
    pub fn free(&mut self) -> Result<Free> {
        self.connection.free()
    }

    /// Returns free space of the database file to the disk, down to `kept` bytes, for about [`STEP`]. Ends
    /// early if `has_waiting_writers`. Returns whether there is more to do.
    pub fn give_back(&mut self, kept: u64, has_waiting_writers: &dyn Fn() -> bool) -> Result<bool> {
        let started = Instant::now();
        loop {
            let free = self.connection.free()?;
            if free.bytes <= kept || !free.can_go {
                return Ok(false);
            }
            self.connection.give_back()?;
            if started.elapsed() >= STEP || has_waiting_writers() {
                return Ok(true);
            }
        }
    }

    /// The time of this transaction by the clock of the database, in microseconds since 1970.
    pub fn now(&mut self) -> Result<i64> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = self.connection.now()?;
        self.now = Some(now);
        Ok(now)
    }
}
