//! Test support: a connection that counts the rows that statements read and write, and folders to walk over.

use crate::{
    error::Result,
    model::{BlobOwner, Totals},
    namespace::{
        Database, entries, initialize_or_recover,
        reach::Reach,
        server::Joining,
        sql::{Connection, Mode, Param, Row, Rows, Tx},
        tree::{self, File, Target},
    },
};

/// The statements and rows of one or more jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The number of statements.
    pub(super) statements: usize,
    /// The number of round trips to a database behind a connection.
    pub(super) round_trips: usize,
    /// The rows of all results.
    pub(super) rows: usize,
    /// The rows of the largest result.
    pub(super) rows_at_once: usize,
    /// The rows written.
    pub(super) written: u64,
}

/// A connection to a store, with counters.
pub(super) struct Metered {
    connection: Box<dyn Connection>,
    counts: Counts,
}

impl Metered {
    /// Makes a store in an empty database.
    pub(super) fn new(mut connection: Box<dyn Connection>) -> Self {
        initialize_or_recover(
            connection.as_mut(),
            &Joining::alone(uuid::Uuid::nil()),
            BlobOwner::Nobody,
        )
        .unwrap();
        Self { connection, counts: Counts::default() }
    }

    /// Runs a job in a transaction of its own, and returns its counts.
    pub(super) fn job<T>(&mut self, job: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> (T, Counts) {
        self.begin(Mode::Write).unwrap();
        self.counts = Counts::default();
        let done = job(&mut Tx::new(self)).unwrap();
        let counts = self.counts;
        self.commit().unwrap();
        (done, counts)
    }
}

impl Connection for Metered {
    fn begin(&mut self, mode: Mode) -> Result<()> {
        self.connection.begin(mode)
    }

    fn commit(&mut self) -> Result<()> {
        self.connection.commit()
    }

    fn rollback(&mut self) {
        self.connection.rollback();
    }

    fn in_transaction(&self) -> bool {
        self.connection.in_transaction()
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        let written = self.connection.execute(sql, params)?;
        self.counts.statements += 1;
        self.counts.round_trips += 1;
        self.counts.written += written;
        Ok(written)
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let rows = self.connection.query(sql, params)?;
        self.counts.statements += 1;
        self.counts.round_trips += 1;
        self.counts.rows += rows.len();
        self.counts.rows_at_once = self.counts.rows_at_once.max(rows.len());
        Ok(rows)
    }

    fn run(&mut self, sets: &[Rows<'_>]) -> Result<Vec<Vec<Row>>> {
        self.counts.statements += sets.iter().filter(|rows| !rows.is_empty()).count();
        self.counts.round_trips += 1;
        self.connection.run(sets)
    }

    fn now(&mut self) -> Result<i64> {
        self.connection.now()
    }

    fn disk_bytes(&mut self) -> Result<i64> {
        self.connection.disk_bytes()
    }

    fn has_tables(&mut self) -> Result<bool> {
        self.connection.has_tables()
    }

    fn make_tables(&mut self, tables: &str) -> Result<()> {
        self.connection.make_tables(tables)
    }

    fn settle(&mut self) -> Result<()> {
        self.connection.settle()
    }
}

/// A connection to an empty store, and the temporary folder of its database.
pub(super) fn store() -> (Metered, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(dir.path().join("namespace.sqlite"));
    (Metered::new(database.connect(Mode::Write).unwrap()), dir)
}

/// Makes a folder of empty files, and of the sub-folders `folders`, whose names are their numbers.
pub(super) fn folder(tx: &mut Tx<'_>, files: &[String], folders: &[i64]) -> i64 {
    let totals = Totals { files: (files.len() + folders.len()) as i64, bytes: 0 };
    let id = tree::new_folder(tx, totals, Reach::default()).unwrap();
    let file = Target::File(File { content: 1, size: 0, version: 0, modified: 0 });
    for name in files {
        entries::put(tx, id, name, &file).unwrap();
    }
    for (number, child) in folders.iter().enumerate() {
        entries::put(tx, id, &format!("d{number:06}"), &Target::Folder(*child)).unwrap();
    }
    id
}

/// `count` names of files, in order.
pub(super) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f{number:06}")).collect()
}

/// Runs jobs until one returns a result. Adds up their statements; of the rows at once, keeps the maximum.
pub(super) fn all<T>(
    store: &mut Metered,
    mut job: impl FnMut(&mut Tx<'_>) -> Result<Option<T>>,
) -> (T, Counts) {
    let mut sum = Counts::default();
    loop {
        let (done, counts) = store.job(&mut job);
        sum.statements += counts.statements;
        sum.rows_at_once = sum.rows_at_once.max(counts.rows_at_once);
        if let Some(done) = done {
            return (done, sum);
        }
    }
}
