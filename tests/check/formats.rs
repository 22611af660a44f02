//! A store of an older format is migrated when it is opened, and keeps all its data.
//!
//! `formats` has the dump of a store of each older format, on both engines. `formats/make` made them with a
//! program of that format; all of them hold the same data.

use imagestore::{
    error::Kind,
    model::{BlobOwner, ChunkRange, Digest, SessionId},
    namespace::{self, schema::FORMAT, server::Joining, sql::Row},
    store::{Call, Store},
};

use crate::harness::{DEEP, FOR_EVER, Folder, SESSION, check, copy, path, put};

/// Each older format, with a dump of SQLite and one of PostgreSQL.
const DUMPS: [(i64, [&str; 2]); 6] = [
    (1, [include_str!("formats/1.sqlite.sql"), include_str!("formats/1.postgres.sql")]),
    (2, [include_str!("formats/2.sqlite.sql"), include_str!("formats/2.postgres.sql")]),
    (3, [include_str!("formats/3.sqlite.sql"), include_str!("formats/3.postgres.sql")]),
    (4, [include_str!("formats/4.sqlite.sql"), include_str!("formats/4.postgres.sql")]),
    (5, [include_str!("formats/5.sqlite.sql"), include_str!("formats/5.postgres.sql")]),
    (6, [include_str!("formats/6.sqlite.sql"), include_str!("formats/6.postgres.sql")]),
];

/// The files of a dump, each with its size in bytes and the byte that fills it.
const FILES: [(&str, usize, u8); 8] = [
    ("app/_.dir", 0, b'r'),
    ("app/conf", 10, b'f'),
    ("app/bin/run", 70_000, b'n'),
    ("app/deep/x/y", 20, b'y'),
    ("app2/conf", 10, b'f'),
    ("app2/bin/run", 70_000, b'n'),
    ("app3/_.dir", 0, b'r'),
    ("app3/deep/x/y", 20, b'y'),
];

/// Queries whose results no migration step may change.
const KEPT: [&str; 8] = [
    "SELECT folder, folded, name, child, content, size, version, modified FROM entry
     ORDER BY folder, folded, name",
    "SELECT id, files, bytes FROM folder ORDER BY id",
    "SELECT id, size, etag, digest FROM content ORDER BY id",
    "SELECT content, start, part FROM content_part ORDER BY content, start",
    "SELECT id, digest, size, bytes, object FROM part ORDER BY id",
    "SELECT id, path, total, received, modified, committed FROM upload_session ORDER BY id",
    "SELECT session, start, size, part FROM upload_chunk ORDER BY session, start",
    "SELECT seq, id, kind, fingerprint, state, source, destination, files_done, bytes_done,
       files_skipped, bytes_skipped, started, updated, finished FROM operation ORDER BY seq",
];

/// The columns of all tables.
const COLUMNS: [&str; 2] = [
    "SELECT t.name, c.name, c.type, c.\"notnull\", c.pk
     FROM sqlite_schema t JOIN pragma_table_info(t.name) c
     WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.name",
    "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT),
       CAST(is_nullable AS TEXT)
     FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2",
];

/// All indexes.
const INDEXES: [&str; 2] = [
    "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
    "SELECT CAST(indexname AS TEXT), REPLACE(indexdef, current_schema() || '.', '')
     FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
];

/// The reach of every folder: as stored in its row, and as recounted from the entries.
const REACH: [&str; 2] = [
    "SELECT id, depth, length FROM folder
     WHERE EXISTS (SELECT 1 FROM entry WHERE folder = folder.id) ORDER BY id",
    "WITH RECURSIVE below (top, id, depth, length) AS (
       SELECT id, id, CAST(0 AS BIGINT), CAST(0 AS BIGINT) FROM folder
       UNION SELECT b.top, e.child, b.depth + 1, b.length + OCTET_LENGTH(e.name) + 1
       FROM below b JOIN entry e ON e.folder = b.id WHERE e.child IS NOT NULL)
     SELECT b.top, MAX(b.depth + 1), MAX(b.length + OCTET_LENGTH(e.name))
     FROM below b JOIN entry e ON e.folder = b.id GROUP BY b.top ORDER BY b.top",
];

/// The bytes that each row of the garbage frees: null for a folder that a path still leads to, two files, and
/// the part of the upload that the kill of the server broke off.
const WAITING: &str = "SELECT kind, id, bytes FROM garbage ORDER BY kind, id";

/// The engine that the tests run on, as an index: 0 for SQLite, 1 for PostgreSQL.
fn engine(folder: &Folder) -> usize {
    usize::from(matches!(folder.database(), namespace::Database::Postgres(_)))
}

/// Creates a closed store from a dump, and its objects, whose bytes are found by their digests.
fn load(dump: [&str; 2]) -> Folder {
    let folder = Folder::new();
    folder.sql(dump[engine(&folder)]);
    for row in
        folder.reader().rows("SELECT object, size, digest FROM part WHERE object IS NOT NULL")
    {
        let size = usize::try_from(row.int(1).unwrap()).unwrap();
        let digest = row.digest(2).unwrap();
        let bytes = b"aenr".iter().map(|byte| vec![*byte; size]);
        let bytes = bytes.into_iter().find(|bytes| Digest::of(bytes) == digest).unwrap();
        let file = folder.path().join("blobs").join(row.text(0).unwrap());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    folder
}

/// Opens and closes only the namespace, so that no background work changes it.
fn migrate(folder: &Folder) -> namespace::Recovered {
    let database = folder.database();
    // On a separate thread, because connections block and must not run on a thread of an async runtime.
    let open = move || {
        namespace::open(&database, &Joining::alone(uuid::Uuid::new_v4()), BlobOwner::Unknown)
            .unwrap()
            .recovered
    };
    std::thread::scope(|scope| scope.spawn(open).join()).unwrap()
}

async fn read(store: &Store, at: &str) -> Vec<u8> {
    let mut download = store.download(&path(at), (0, None), None, &Call::system()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

fn rows(folder: &Folder, all: &[&'static str]) -> Vec<Vec<Row>> {
    let reader = folder.reader();
    all.iter().map(|sql| reader.rows(sql)).collect()
}

#[test]
fn every_older_format_has_a_dump() {
    let formats: Vec<i64> = DUMPS.iter().map(|(format, _)| *format).collect();
    assert_eq!(formats, (1..FORMAT).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_gets_the_tables_of_a_new_one_and_keeps_its_rows() {
    let new = Folder::new();
    migrate(&new);
    let is = engine(&new);
    let tables = rows(&new, &[COLUMNS[is], INDEXES[is]]);
    assert!(tables.iter().all(|rows| rows.len() > 10), "{tables:?}");
    for (format, dump) in DUMPS {
        let folder = load(dump);
        let number = "SELECT value FROM meta WHERE name = 'format'";
        assert_eq!(folder.reader().number(number), format);
        let kept = rows(&folder, &KEPT);
        assert!(kept.iter().all(|rows| !rows.is_empty()), "{format}: {kept:?}");
        let recovered = migrate(&folder);
        assert_eq!(recovered.pins, 1, "{format}");
        assert_eq!(folder.reader().number(number), FORMAT);
        assert_eq!(rows(&folder, &[COLUMNS[is], INDEXES[is]]), tables, "{format}");
        assert_eq!(rows(&folder, &KEPT), kept, "{format}");
        // A second open changes nothing.
        assert_eq!(migrate(&folder), namespace::Recovered::default());
        assert_eq!(rows(&folder, &KEPT), kept, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_gets_what_its_format_did_not_have() {
    for (format, dump) in DUMPS {
        let folder = load(dump);
        migrate(&folder);
        let reader = folder.reader();
        let [said, is] = REACH.map(|sql| reader.rows(sql));
        if format == 1 {
            assert_eq!(said, is);
        }
        let root = said.first().unwrap();
        assert_eq!((root.int(1).unwrap(), root.int(2).unwrap()), (121, 241), "{format}");
        assert_eq!(reader.number("SELECT pieces FROM upload_session"), 2, "{format}");
        let store = reader.number("SELECT value FROM meta WHERE name = 'store'");
        assert!(store > 0, "{format}");
        let change = reader.number("SELECT value FROM meta WHERE name = 'change'");
        assert_eq!(change, reader.number("SELECT MAX(change) FROM operation"), "{format}");
        if format < 3 {
            assert_eq!(reader.number("SELECT COUNT(*) FROM operation WHERE change <> seq"), 0);
        }
        let waiting: Vec<_> =
            reader.rows(WAITING).iter().map(|row| row.opt_int(2).unwrap()).collect();
        assert_eq!(waiting, [None, Some(30), Some(70_001), Some(8 << 20)], "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_is_well_and_goes_on() {
    for (format, dump) in DUMPS {
        let folder = load(dump);
        let store = folder.open(FOR_EVER).await;
        assert_eq!(check(&store, DEEP).await.findings, [], "{format}");
        for (at, size, byte) in FILES {
            assert!(read(&store, at).await == vec![byte; size], "{format}: {at}");
        }
        let deep = format!("{}f", "d/".repeat(120));
        assert_eq!(read(&store, &deep).await, b"f");
        let error = copy(&store, "d", "a/b/c/d/e/f/g/h/i", &[]).await.expect_err("too deep");
        assert_eq!(error.kind(), Kind::PathTooLong);
        copy(&store, "d", "a/b/c/d/e/f/g", &[]).await.unwrap();
        copy(&store, "app", "d/app", &["conf"]).await.unwrap();
        put(&store, "d/app/deep/x/z", b"z").await.unwrap();
        store.delete(&path("app2"), &Call::system()).await.unwrap();

        // The upload session can be continued.
        let id = SessionId::parse(SESSION).unwrap();
        let range = ChunkRange::new(100, 100, 300).unwrap();
        let mut chunk = store.chunk(id, path("late"), range, &Call::system()).await.unwrap();
        chunk.write(vec![b'b'; 100].into()).await.unwrap();
        chunk.finish().await.unwrap();
        store.commit_session(id, &Call::system()).await.unwrap().unwrap();
        let late = [b'a', b'b', b'c'].map(|byte| vec![byte; 100]).concat();
        assert!(read(&store, "late").await == late, "{format}");

        assert_eq!(check(&store, DEEP).await.findings, [], "{format}");
        store.close().await;
    }
}
