//! A small store with every kind of row, and functions to damage it while it is closed.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use imagestore::{
    blob::Blobs,
    error::Result,
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX},
    model::{
        CheckReport, CheckRequest, ChunkRange, Conditions, CopyRequest, FindingKind, IfExists,
        OperationId, SessionId, SkipFiles, StorePath,
    },
    namespace::Database,
    store::{Call, Config, Store, UploadSpec},
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    database::{administer, new_schema, parse, postgres},
    reader::Reader,
};

/// The upload session of the small store, of which 100 of 300 bytes are missing.
pub(crate) const SESSION: &str = "00000000-0000-4000-8000-000000000001";

/// A grace that outlasts every test, so that deleted content stays.
pub(crate) const FOR_EVER: Duration = Duration::from_hours(1);

/// A check that neither reads all bytes nor repairs.
pub(crate) const LOOK: CheckRequest = CheckRequest { deep: false, repair: false };
/// A check that reads every byte.
pub(crate) const DEEP: CheckRequest = CheckRequest { deep: true, repair: false };
/// A check that repairs.
pub(crate) const REPAIR: CheckRequest = CheckRequest { deep: false, repair: true };

/// Functions that SQLite has and PostgreSQL lacks.
const FUNCTIONS: &str = "
    CREATE FUNCTION zeroblob(size BIGINT) RETURNS BYTEA LANGUAGE SQL
        AS $$ SELECT decode(repeat('00', CAST(size AS INT)), 'hex') $$;
    CREATE FUNCTION unhex(digits TEXT) RETURNS BYTEA LANGUAGE SQL
        AS $$ SELECT decode(digits, 'hex') $$;";

/// A data folder, and a database of the engine of this run, for a store that is opened and closed.
pub(crate) struct Folder {
    dir: TempDir,
    database: Database,
    /// The URL of a PostgreSQL database; `None` with SQLite.
    url: Option<String>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = postgres().map(|url| new_schema(&url));
        if let Some(url) = &url {
            administer(url, FUNCTIONS);
        }
        let file = Database::Sqlite(dir.path().join("namespace.sqlite"));
        let database = url.as_deref().map_or(file, parse);
        Self { dir, database, url }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn database(&self) -> Database {
        self.database.clone()
    }

    /// Opens the store with a grace for deleted content.
    pub(crate) async fn open(&self, grace: Duration) -> Store {
        let mut config = Config::new(self.dir.path());
        config.database = self.database.clone();
        config.reclaim_grace = grace;
        config.reserve_bytes = 0;
        let blobs = Blobs::local(&self.dir.path().join("blobs")).unwrap();
        Store::open(config, blobs).await.unwrap().0
    }

    /// Runs statements on the closed store.
    pub(crate) fn sql(&self, statements: &str) {
        match (&self.database, &self.url) {
            (_, Some(url)) => administer(url, statements),
            (Database::Sqlite(file), None) => {
                Connection::open(file).unwrap().execute_batch(statements).unwrap();
            }
            (Database::Postgres(_), None) => panic!("a database without its URL"),
        }
    }

    /// A reader of the tables.
    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.database)
    }

    /// The file of the object of the part with this size.
    pub(crate) fn object(&self, size: usize) -> PathBuf {
        let rows = self.reader().rows("SELECT object, size FROM part WHERE object IS NOT NULL");
        let size = i64::try_from(size).unwrap();
        let row = rows.iter().find(|row| row.int(1).unwrap() == size).unwrap();
        self.dir.path().join("blobs").join(row.text(0).unwrap())
    }

    /// The number of objects.
    pub(crate) fn objects(&self) -> usize {
        let folders = fs::read_dir(self.dir.path().join("blobs")).unwrap();
        folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    /// Adds an object of an age that no row names, as if an earlier run had put it. Returns its path.
    pub(crate) fn add_object(&self, age: Duration) -> PathBuf {
        self.add_file(&format!("{}-{}-{}", "a".repeat(64), "c".repeat(16), "b".repeat(32)), age)
    }

    /// Adds the same with a key of the older form, which does not name the run.
    pub(crate) fn add_old_object(&self, age: Duration) -> PathBuf {
        self.add_file(&format!("{}-{}", "a".repeat(64), "b".repeat(32)), age)
    }

    fn add_file(&self, name: &str, age: Duration) -> PathBuf {
        let path = self.dir.path().join("blobs/aa").join(name);
        fs::write(&path, "nobody's").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - age).unwrap();
        path
    }
}

/// The size of the file `app/big`, which has two parts.
pub(crate) const BIG: usize = PART_BYTES_MAX + LAST;
/// The size of the second part of `app/big`.
pub(crate) const LAST: usize = 3 * INLINE_BYTES_MAX;
/// The size of `app/bin/run`, which has an object.
pub(crate) const RUN: usize = 2 * INLINE_BYTES_MAX;

/// Fills a store: `app` with inline files, an object and a file of two parts; its copy `app2`; a
/// session; and garbage.
pub(crate) async fn fill(store: &Store) {
    for (path, size) in [
        ("app/_.dir", 0),
        ("app/conf", 10),
        ("app/bin/run", RUN),
        ("app/big", BIG),
        ("app/deep/x/y", 20),
        ("gone", 30),
    ] {
        put(store, path, &noise(path, size)).await.unwrap();
    }
    copy(store, "app", "app2", &[]).await.unwrap();
    store.delete(&path("gone"), &Call::system()).await.unwrap();
    for offset in [0, 200] {
        chunk(store, SESSION, "late", (offset, 100, 300)).await.unwrap();
    }
}

/// Pseudorandom bytes that depend on the seed alone.
pub(crate) fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) async fn put(store: &Store, at: &str, bytes: &[u8]) -> Result<()> {
    let incoming = UploadSpec::new(path(at));
    let mut upload = store.upload(incoming, &Call::system()).await?;
    upload.write(Bytes::copy_from_slice(bytes)).await?;
    upload.finish().await.map(drop)
}

pub(crate) async fn copy(store: &Store, from: &str, to: &str, skip: &[&str]) -> Result<()> {
    let request = CopyRequest {
        source: path(from),
        destination: path(to),
        skip_files: SkipFiles::new(skip).unwrap(),
        check_mark_file: false,
        if_exists: IfExists::Overwrite,
        conditions: Conditions::default(),
        verify: false,
        id: OperationId::new(),
    };
    let mut copying = store.copy(request, false, &Call::system()).await?;
    while copying.next().await?.is_some() {}
    Ok(())
}

pub(crate) async fn chunk(
    store: &Store,
    session: &str,
    at: &str,
    (offset, length, total): (u64, u64, u64),
) -> Result<()> {
    let range = ChunkRange::new(offset, length, total)?;
    let id = SessionId::parse(session)?;
    let mut chunk = store.chunk(id, path(at), range, &Call::system()).await?;
    let bytes = noise(&format!("{session} {offset}"), usize::try_from(length).unwrap());
    chunk.write(bytes.into()).await?;
    chunk.finish().await
}

pub(crate) fn path(text: &str) -> StorePath {
    StorePath::parse(text, "path").unwrap()
}

/// Checks a store, and returns the last report with all findings.
pub(crate) async fn check(store: &Store, request: CheckRequest) -> CheckReport {
    let mut checking = store.check(request, &Call::system()).unwrap();
    let (mut findings, mut last) = (Vec::new(), None);
    while let Some(mut report) = checking.next().await.unwrap() {
        assert!(!last.is_some_and(|last: CheckReport| last.done), "a report after the last");
        findings.append(&mut report.findings);
        last = Some(report);
    }
    let last = last.expect("a report");
    assert!(last.done);
    assert_eq!(last.total, findings.len() as u64, "{findings:?}");
    assert_eq!(last.repaired, findings.iter().filter(|found| found.repaired).count() as u64);
    CheckReport { findings, ..last }
}

/// The kinds of the findings, each once, sorted by name.
pub(crate) fn kinds(report: &CheckReport) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    kinds.dedup();
    kinds
}
