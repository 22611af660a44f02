//! The database of a test: an SQLite file in its folder or, where `IMAGESTORE_TEST_POSTGRES` has the
//! URL of a server, a schema of its own there. So one test proves both engines, run once with each.

use std::{path::Path, thread};

use imagestore::namespace::{Database, PostgresUrl};

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
