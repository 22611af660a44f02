//! A whole store on PostgreSQL, where this engine differs from SQLite.

use std::{collections::BTreeSet, path::Path, time::Duration};

use imagestore::{
    blob::Blobs,
    error::{Kind, Result},
    limits::{NAME_BYTES_MAX, PATH_BYTES_MAX},
    model::{ChunkRange, SessionId, Stat, StorePath},
    namespace::Database,
    store::{BackupMessage, Call, Config, Store, UploadSpec},
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    database::{administer, database},
    driver::{cut, named, url},
    reader::Reader,
};

pub(crate) async fn open(folder: &Path, database: Database) -> Store {
    let blobs = Blobs::local(&folder.join("blobs")).expect("a blob store");
    let config = Config { database, reserve_bytes: 0, ..Config::new(folder) };
    Store::open(config, blobs).await.expect("opened").0
}

async fn new() -> (TempDir, Database, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database(folder.path());
    let store = open(folder.path(), database.clone()).await;
    (folder, database, store)
}

pub(crate) async fn upload(store: &Store, path: &StorePath, bytes: &'static [u8]) -> Stat {
    try_upload(store, path, bytes).await.expect("uploaded")
}

pub(crate) async fn try_upload(
    store: &Store,
    path: &StorePath,
    bytes: &'static [u8],
) -> Result<Stat> {
    let incoming = UploadSpec::new(path.clone());
    let mut upload = store.upload(incoming, &Call::system()).await?;
    upload.write(bytes.into()).await?;
    upload.finish().await
}

pub(crate) fn path(text: &str) -> StorePath {
    StorePath::parse(text, "path").expect("a path")
}

#[tokio::test]
async fn a_store_is_there_after_a_restart() {
    let (folder, database, store) = new().await;
    let info = store.info(&Call::system()).await.expect("measured");
    assert!(info.metadata_bytes > 0 && info.folders == 1, "{info:?}");
    let stored = upload(&store, &path("a/b"), b"bytes").await;
    store.close().await;
    let store = open(folder.path(), database).await;
    assert_eq!(store.stat(&path("a/b"), &Call::system()).await.expect("there"), stored);
    store.close().await;
}

#[tokio::test]
async fn the_longest_names_and_paths_fit_the_indexes() {
    let (_folder, _, store) = new().await;
    // The lower case of this letter has more bytes than the letter: no folded name is longer than this one.
    let name = "\u{23A}".repeat(NAME_BYTES_MAX / 2);
    assert_eq!(name.to_lowercase().len(), NAME_BYTES_MAX / 2 * 3);
    // Random text, because PostgreSQL compresses repetitive text.
    let mut random = String::new();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    while random.len() + 2 <= NAME_BYTES_MAX {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The 32 Cyrillic capital letters from U+0400 on.
        random.extend(char::from_u32(0x400 + (seed >> 59) as u32));
    }
    for name in [&name, &random] {
        let long = path(&[name.as_str(); PATH_BYTES_MAX / NAME_BYTES_MAX - 1].join("/"));
        upload(&store, &long, b"x").await;
        let page = store.list(&StorePath::root(), 0, name.clone(), &Call::system()).await;
        assert_eq!(page.expect("a page").items.first().expect("an entry").path, path(name));

        let id = SessionId::parse(&uuid::Uuid::new_v4().to_string()).expect("an id");
        let range = ChunkRange { offset: 0, length: 1, total: 2 };
        let chunk = store.chunk(id, long.clone(), range, &Call::system()).await;
        let mut chunk = chunk.expect("begun");
        chunk.write(b"y".as_slice().into()).await.expect("written");
        chunk.finish().await.expect("stored");
        let sessions = store.sessions(Some(long), 0, String::new(), &Call::system()).await;
        assert_eq!(sessions.expect("a page").items.len(), 1);
    }
    store.close().await;
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let (_folder, database, store) = new().await;
    let mut uploads = JoinSet::new();
    for number in 0..64 {
        let store = store.clone();
        uploads.spawn(async move {
            let path = path(&format!("all/{}/{number}", number % 4));
            upload(&store, &path, b"the same").await;
        });
    }
    uploads.join_all().await;
    let stat = store.stat(&path("all"), &Call::system()).await.expect("there");
    assert_eq!((stat.entry.totals.files, stat.entry.totals.bytes), (64, 64 * 8));
    let reader = Reader::open(&database);
    assert_eq!(reader.number("SELECT COUNT(*) FROM part"), 1);
    assert_eq!(reader.number("SELECT COUNT(*) FROM entry WHERE content IS NOT NULL"), 64);
    store.close().await;
}

/// Restores a full backup of a store into an empty store.
async fn transfer(from: &Store, to: &Store) {
    let mut backup = from.backup(true, &Call::system()).await.expect("begun");
    let mut restore = to.restore(&Call::system()).await.expect("begun");
    while let Some(piece) = backup.next().await {
        match piece.expect("a piece") {
            BackupMessage::Record(record) => restore.record(record).await.expect("taken"),
            BackupMessage::Data(data) => restore.data(data).await.expect("taken"),
            BackupMessage::Offer(_) | BackupMessage::Folders(_) => panic!("nothing is offered"),
        }
    }
    restore.finish(&Call::system()).await.expect("restored");
}

#[tokio::test]
async fn a_backup_moves_a_store_from_one_engine_to_the_other_and_back() {
    let (_folder, _, first) = new().await;
    // Names that the engines would order differently by default.
    for name in ["a/B", "a/a", "a/ä", "a/Z", "a/z", "a/\u{1F600}", "a/ b", "a/~"] {
        upload(&first, &path(&format!("{name}/x")), b"bytes").await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Database::Sqlite(folder.path().join("namespace.sqlite"));
    let second = open(folder.path(), sqlite).await;
    transfer(&first, &second).await;
    let (_folder, _, third) = new().await;
    transfer(&second, &third).await;
    let list = async |store: &Store| {
        let page = store.list(&path("a"), 0, String::new(), &Call::system()).await.expect("a page");
        let mut found = Vec::new();
        for entry in page.items {
            found.push(store.stat(&entry.path.child("x"), &Call::system()).await.expect("a file"));
        }
        found
    };
    let files = list(&first).await;
    assert_eq!(files.len(), 8);
    assert_eq!(list(&second).await, files);
    assert_eq!(list(&third).await, files);
    for store in [first, second, third] {
        store.close().await;
    }
}

/// The writes of each writer while connections are terminated.
const WRITES: usize = 12;
/// The number of concurrent writers.
const WRITERS: usize = 8;
/// Longer than all writes take on any machine.
const WRITE_TIME: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_lost_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let (name, database) = named();
    let store = open(folder.path(), database.clone()).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let mut refused = 0;
            for number in 0..WRITES {
                let path = path(&format!("{writer}/{number}"));
                // A client retries a call that is refused as busy.
                while let Err(error) = try_upload(&store, &path, b"bytes").await {
                    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
                    refused += 1;
                }
            }
            refused
        });
    }
    let mut refused = 0;
    let mut cuts = 0;
    let write = async {
        while !writers.is_empty() {
            if let Some(done) = writers.try_join_next() {
                refused += done.expect("no panic");
            } else {
                let name = name.clone();
                tokio::task::spawn_blocking(move || cut(&name)).await.expect("no panic");
                cuts += 1;
                // One write succeeds between two cuts; otherwise the writers might never finish.
                while let Err(error) = try_upload(&store, &path("between"), b"cuts").await {
                    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
                }
            }
        }
    };
    timeout(WRITE_TIME, write).await.expect("all is written");
    println!("{cuts} cuts, {refused} calls refused");
    let expected = (WRITERS * WRITES + 1) as i64;
    let info = store.info(&Call::system()).await.expect("measured");
    assert_eq!(info.logical.count, expected);
    let reader = Reader::open(&database);
    assert_eq!(reader.number("SELECT COUNT(*) FROM entry WHERE content IS NOT NULL"), expected);
    assert_eq!(reader.number("SELECT COUNT(*) FROM part"), 2);
    store.close().await;
}

/// Whether a server process is that of a writer, which claims the database.
const WRITES_SQL: &str = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";

/// The numbers of the server processes of a named database's connections, as far as a condition holds.
async fn processes(name: &str, condition: &str) -> BTreeSet<i32> {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND {condition}"
    );
    let ask = move || {
        let mut client = postgres::Client::connect(&url(), postgres::NoTls).expect("connected");
        let rows = client.query(&sql, &[]).expect("answered");
        rows.iter().map(|row| row.get(0)).collect()
    };
    tokio::task::spawn_blocking(ask).await.expect("no panic")
}

#[tokio::test]
async fn readers_connect_again_after_the_writer_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (name, database) = named();
    let store = open(folder.path(), database).await;
    upload(&store, &path("a"), b"bytes").await;
    let before = processes(&name, "TRUE").await;
    let writer = processes(&name, WRITES_SQL).await;
    assert_eq!(writer.len(), 1);
    // As a failover may move the writer to another server, while the old one still answers the readers.
    let cut_writer = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE application_name = '{name}' AND {WRITES_SQL}"
    );
    tokio::task::spawn_blocking(move || administer(&url(), &cut_writer)).await.expect("cut");
    while let Err(error) = try_upload(&store, &path("b"), b"bytes").await {
        assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    }
    let all_anew = async {
        while !processes(&name, "TRUE").await.is_disjoint(&before) {
            store.stat(&path("b"), &Call::system()).await.expect("read");
        }
    };
    timeout(WRITE_TIME, all_anew).await.expect("all readers");
    store.close().await;
}
