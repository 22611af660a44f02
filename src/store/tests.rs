//! Tests of the store from inside, of interleavings that a client cannot force.
//!
//! A job of the test blocks the writer, so that later jobs are queued in a known order and run in one batch.

mod backups;
mod checks;
mod copies;
#[path = "../../tests/support/database.rs"]
mod database;
mod deadlines;
mod disk;
mod downloads;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../tests/support/gate.rs"]
mod gate;
mod links;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../tests/support/log.rs"]
mod log;
mod long;
mod migrations;
mod packages;
mod runs;
mod sweeps;
mod tokens;
mod turns;
mod unpack;
mod uploads;
mod waiting;
mod watchers;

use std::{sync::mpsc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{
    budget::{Budget, Peer, Permit},
    limits::{
        BACKUPS_MAX, DOWNLOAD_POOL_BYTES, DOWNLOADS_MAX, LISTINGS_MAX, READERS,
        UPLOAD_BUFFER_POOL_BYTES, VERIFIES_MAX, WATCHERS_MAX, micros,
    },
    model::{Conditions, CopyRequest, IfExists, Replaces, SkipFiles},
    namespace::sql::{Row, Tx, params},
    store::tests::{gate::Gate, log::Log},
};

/// The timeout of waits in these tests, longer than any of them takes.
const SOON: Duration = Duration::from_secs(20);

/// A store whose blob store has a gate: the test can block, fail and count its calls.
struct Fixture {
    store: Store,
    gate: Gate,
    /// The number of background tasks, which never end.
    background: usize,
    log: Log,
    _dir: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        Self::with_grace(Duration::ZERO).await
    }

    async fn with_grace(grace: Duration) -> Self {
        let log = Log::of_test();
        let dir = tempfile::tempdir().unwrap();
        let database = database::database(dir.path());
        let mut config = Config { database, ..Config::new(dir.path()) };
        config.reclaim_grace = grace;
        config.reserve_bytes = 0;
        let gate = Gate::new();
        let blobs = Blobs::new(Arc::new(gate.clone()));
        let (store, _) = Store::open(config, blobs).await.unwrap();
        let background = store.0.tasks.len();
        Self { store, gate, background, log, _dir: dir }
    }

    async fn upload(&self, at: &str, bytes: impl Into<Bytes>) -> Result<Stat> {
        let incoming = UploadSpec::new(path(at));
        let mut upload = self.store.upload(incoming, &Call::system()).await?;
        upload.write(bytes.into()).await?;
        upload.finish().await
    }

    async fn download(&self, at: &str) -> Download {
        self.store.download(&path(at), (0, None), None, &Call::system()).await.unwrap()
    }

    async fn read(&self, at: &str) -> Result<Vec<u8>> {
        let mut download = self.download(at).await;
        let mut all = Vec::new();
        while let Some(piece) = download.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    /// The number that a statement selects.
    async fn number(&self, sql: &'static str) -> i64 {
        self.rows(sql).await.first().unwrap().int(0).unwrap()
    }

    async fn rows(&self, sql: &'static str) -> Vec<Row> {
        self.store.0.engine.read(None, move |tx: &mut Tx<'_>| tx.all(sql, &[])).await.unwrap()
    }

    /// Blocks the writer until the returned sender is dropped or used.
    async fn hold_writer(&self) -> mpsc::Sender<()> {
        let (go_on, wait) = mpsc::channel::<()>();
        let (begun, began) = tokio::sync::oneshot::channel();
        let engine = self.store.0.engine.clone();
        tokio::spawn(async move {
            engine
                .write(None, move |_| {
                    begun.send(()).unwrap();
                    wait.recv_timeout(SOON).ok();
                    Ok(())
                })
                .await
        });
        began.await.unwrap();
        go_on
    }

    /// Blocks all readers until the returned senders are dropped.
    async fn hold_readers(&self) -> Vec<mpsc::Sender<()>> {
        let mut held = Vec::new();
        for _ in 0..READERS {
            let (go_on, wait) = mpsc::channel::<()>();
            let (begun, began) = tokio::sync::oneshot::channel();
            let engine = self.store.0.engine.clone();
            tokio::spawn(async move {
                let hold = move |_: &mut Tx<'_>| {
                    begun.send(()).unwrap();
                    wait.recv_timeout(SOON).ok();
                    Ok(())
                };
                engine.read(None, hold).await
            });
            began.await.unwrap();
            held.push(go_on);
        }
        held
    }

    /// Makes all queued garbage older.
    async fn age(&self, span: Duration) {
        let age = move |tx: &mut Tx<'_>| {
            tx.execute("UPDATE garbage SET since = since - $1", params![micros(span)])
        };
        self.store.0.engine.write(None, age).await.unwrap();
    }

    /// Waits until the store has no tasks but those of the background.
    async fn idle(&self) {
        let tasks = &self.store.0.tasks;
        until("no task is left", async || tasks.len() <= self.background).await;
    }

    /// Waits until at least `jobs` jobs are queued for the writer.
    async fn waiting(&self, jobs: usize) {
        let engine = &self.store.0.engine;
        until("jobs wait for the writer", async || engine.waiting() >= jobs).await;
    }

    /// Reclaims until no table but the given ones has a row, and no object is left.
    async fn expect_nothing_left(&self) {
        until("everything is reclaimed", async || {
            self.store.reclaim().await.unwrap();
            let rows = "SELECT (SELECT COUNT(*) FROM pin) + (SELECT COUNT(*) FROM part)
                + (SELECT COUNT(*) FROM content) + (SELECT COUNT(*) FROM garbage)
                + (SELECT COUNT(*) FROM dead_object) + (SELECT COUNT(*) FROM folder) - 1";
            self.number(rows).await == 0 && self.gate.keys().await.is_empty()
        })
        .await;
    }
}

fn path(text: &str) -> StorePath {
    StorePath::parse(text, "path").unwrap()
}

fn request(source: &str, destination: &str) -> CopyRequest {
    CopyRequest {
        source: path(source),
        destination: path(destination),
        skip_files: SkipFiles::default(),
        check_mark_file: false,
        if_exists: IfExists::Overwrite,
        conditions: Conditions::default(),
        verify: false,
        id: OperationId::new(),
    }
}

/// Bytes that are too many for an inline part, so that they become an object.
fn object(byte: u8) -> Bytes {
    vec![byte; crate::limits::INLINE_BYTES_MAX + 1].into()
}

async fn finish(mut copying: Copying) -> Result<Operation> {
    let mut last = None;
    while let Some(operation) = copying.next().await? {
        last = Some(operation);
    }
    Ok(last.unwrap())
}

/// Acquires all permits of a budget that a peer may have.
fn all(turns: &Budget, peer: Peer) -> Vec<Permit> {
    std::iter::from_fn(|| turns.try_acquire(peer, 1).ok()).collect()
}

/// Waits until a condition is true.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_true().await {
        assert!(started.elapsed() < SOON, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}
