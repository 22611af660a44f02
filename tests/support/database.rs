//! The database of a test: an SQLite file in the test's folder or, if `IMAGESTORE_TEST_POSTGRES` has the URL of a
//! PostgreSQL server, a new schema on that server. So the same tests run on both engines, in one run for each.

use std::{path::Path, thread};

use imagestore::namespace::{Database, PostgresUrl};

/// The URL of the PostgreSQL server of this run, if there is one.
#[expect(clippy::disallowed_methods, reason = "tests/run tells the tests what it started")]
pub(crate) fn postgres() -> Option<String> {
    std::env::var("IMAGESTORE_TEST_POSTGRES").ok()
}

/// A new, empty database; an SQLite file is in `folder`.
pub(crate) fn database(folder: &Path) -> Database {
    match postgres() {
        Some(url) => parse(&new_schema(&url)),
        None => Database::Sqlite(folder.join("namespace.sqlite")),
    }
}

/// The PostgreSQL database of a URL.
pub(crate) fn parse(url: &str) -> Database {
    Database::Postgres(Box::new(PostgresUrl::parse(url).expect("a URL")))
}

/// Creates a schema, and returns the URL of a connection that uses it.
pub(crate) fn new_schema(url: &str) -> String {
    let schema = format!("test_{}", uuid::Uuid::new_v4().simple());
    administer(url, &format!("CREATE SCHEMA {schema}"));
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

/// Runs SQL statements for a test, on a separate connection.
pub(crate) fn administer(url: &str, sql: &str) {
    let run = || {
        let mut client = postgres::Client::connect(url, postgres::NoTls).expect("connected");
        client.batch_execute(sql).expect("done");
    };
    // On a separate thread, because the client blocks and must not run on a thread of an async runtime.
    thread::scope(|scope| scope.spawn(run).join()).expect("no panic");
}
