//! The database of a test: an SQLite file in its folder or, where `IMAGESTORE_TEST_POSTGRES` has the
//! URL of a server, a schema of its own there. So one test proves both engines, run once with each.

use std::{
    path::Path,
    sync::{
        Mutex,
        mpsc::{self, Sender},
    },
    thread,
};

use imagestore::namespace::{
    Database, PostgresUrl,
    sql::{Mode, Row},
};

/// The URL of the PostgreSQL server of this run, if it has one.
#[expect(clippy::disallowed_methods, reason = "tests/run tells the tests what it started")]
pub(crate) fn postgres() -> Option<String> {
    std::env::var("IMAGESTORE_TEST_POSTGRES").ok()
}

/// A new and empty database; `folder` is where its file is, if it has one.
pub(crate) fn database(folder: &Path) -> Database {
    match postgres() {
        Some(url) => parse(&new_schema(&url)),
        None => Database::Sqlite(folder.join("namespace.sqlite")),
    }
}

/// The database of a URL of a PostgreSQL server.
pub(crate) fn parse(url: &str) -> Database {
    Database::Postgres(Box::new(PostgresUrl::parse(url).expect("a URL")))
}

/// Makes a schema, and returns the URL by which it is the one that is used.
pub(crate) fn new_schema(url: &str) -> String {
    let schema = format!("test_{}", uuid::Uuid::new_v4().simple());
    administer(url, &format!("CREATE SCHEMA {schema}"));
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

/// Runs statements that the store itself never does.
pub(crate) fn administer(url: &str, sql: &str) {
    let run = || {
        let mut client = postgres::Client::connect(url, postgres::NoTls).expect("connected");
        client.batch_execute(sql).expect("done");
    };
    // The client blocks, which no thread of an async runtime may do.
    thread::scope(|scope| scope.spawn(run).join()).expect("no panic");
}

/// Reads the tables of a database beside the store that has it open.
pub(crate) struct Reader(Mutex<Sender<Question>>);

/// A statement, and where its rows go.
type Question = (&'static str, Sender<Vec<Row>>);

impl Reader {
    /// Connects.
    pub(crate) fn open(database: &Database) -> Self {
        let database = database.clone();
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            let mut connection = database.connect(Mode::Read).expect("connected");
            for (sql, answer) in asked {
                // Whoever asked has failed if it is gone.
                answer.send(connection.query(sql, &[]).expect(sql)).ok();
            }
        });
        Self(Mutex::new(questions))
    }

    /// The rows of a statement, on the newest snapshot.
    pub(crate) fn rows(&self, sql: &'static str) -> Vec<Row> {
        let (answer, rows) = mpsc::channel();
        self.0.lock().expect("no panic").send((sql, answer)).expect("it reads");
        rows.recv().expect(sql)
    }

    /// The number in the one row of a statement.
    pub(crate) fn number(&self, sql: &'static str) -> i64 {
        self.rows(sql).first().expect("a row").int(0).expect("a number")
    }
}
