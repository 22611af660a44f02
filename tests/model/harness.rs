//! A store in its own folder, and short functions to call it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use imagestore::{
    blob::Blobs,
    error::{Kind, Result},
    limits::UPLOADS_MAX,
    model::{
        Conditions, CopyRequest, Digest, Entry, IfExists, Operation, OperationId, SkipFiles, Stat,
        StorePath,
    },
    namespace::Recovered,
    store::{Call, Config, Store, UploadSpec},
};
use object_store::{ObjectStore, memory::InMemory};
use tempfile::TempDir;

use crate::{database::database, reader::Reader};

/// How long a test waits for a condition.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A store in a temporary folder, by default with its objects in memory.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// A reader of the tables.
    pub(crate) tables: Reader,
    config: Config,
    blobs: Blobs,
    _dir: TempDir,
}

impl Fixture {
    /// A new store without a grace.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, Arc::new(InMemory::new())).await
    }

    /// A new store with other settings or another object store.
    pub(crate) async fn with(set: impl FnOnce(&mut Config), objects: Arc<dyn ObjectStore>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { database: database(dir.path()), ..Config::new(dir.path()) };
        config.reclaim_grace = Duration::ZERO;
        config.reserve_bytes = 0;
        set(&mut config);
        let blobs = Blobs::new(Arc::clone(&objects));
        let (store, recovered) = Store::open(config.clone(), blobs.clone()).await.unwrap();
        let tables = Reader::open(&config.database);
        Self { store, recovered, objects, tables, config, blobs, _dir: dir }
    }

    /// Closes the store and opens it again.
    pub(crate) async fn restart(&mut self) {
        self.store.close().await;
        let (store, recovered) =
            Store::open(self.config.clone(), self.blobs.clone()).await.unwrap();
        self.store = store;
        self.recovered = recovered;
    }

    /// The keys in the object store.
    pub(crate) async fn object_keys(&self) -> Vec<String> {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        let mut keys: Vec<_> = objects.into_iter().map(|meta| meta.location.to_string()).collect();
        keys.sort();
        keys
    }

    pub(crate) async fn upload(&self, at: &str, bytes: impl Into<Bytes>) -> Result<Stat> {
        let incoming = UploadSpec::new(path(at));
        // In boxes, so that a future that contains an upload stays small.
        let mut upload = Box::pin(self.store.upload(incoming, &Call::system())).await?;
        Box::pin(upload.write(bytes.into())).await?;
        Box::pin(upload.finish()).await
    }

    /// Uploads files whose content is their own path.
    pub(crate) async fn fill(&self, paths: &[&str]) {
        for at in paths {
            self.upload(at, (*at).to_owned()).await.unwrap();
        }
    }

    /// Uploads many files of the same bytes.
    pub(crate) async fn fill_with(&self, bytes: &'static str, paths: Vec<String>) {
        let uploads = futures::stream::iter(paths).map(async |at| self.upload(&at, bytes).await);
        let all: Result<Vec<Stat>> = uploads.buffer_unordered(UPLOADS_MAX).try_collect().await;
        all.unwrap();
    }

    pub(crate) async fn read(&self, at: &str) -> Result<Vec<u8>> {
        self.read_range(at, (0, None)).await
    }

    pub(crate) async fn read_range(&self, at: &str, range: (u64, Option<u64>)) -> Result<Vec<u8>> {
        let mut download = self.store.download(&path(at), range, None, &Call::system()).await?;
        let mut all = Vec::new();
        while let Some(piece) = download.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    pub(crate) async fn delete(&self, at: &str) -> Result<()> {
        self.store.delete(&path(at), &Call::system()).await.map(drop)
    }

    /// Runs a copy to its end.
    pub(crate) async fn copy(&self, request: CopyRequest) -> Result<Operation> {
        let mut copying = self.store.copy(request, false, &Call::system()).await?;
        let mut last = None;
        while let Some(operation) = copying.next().await? {
            last = Some(operation);
        }
        Ok(last.expect("a copy has a last state"))
    }

    /// All entries of one folder, in pages of `size`.
    pub(crate) async fn list(&self, at: &str, size: usize) -> Result<Vec<Entry>> {
        self.list_tagged(at, size).await.map(|(entries, _)| entries)
    }

    /// All entries of one folder, in pages of `size`, and the change tag of each page.
    pub(crate) async fn list_tagged(
        &self,
        at: &str,
        size: usize,
    ) -> Result<(Vec<Entry>, Vec<Option<String>>)> {
        let (path, mut all, mut tags) = (path(at), Vec::new(), Vec::new());
        let mut token = String::new();
        loop {
            let page = self.store.list(&path, size, token, &Call::system()).await?;
            all.extend(page.items);
            tags.push(page.change_tag);
            match page.next {
                Some(next) => token = next,
                None => return Ok((all, tags)),
            }
        }
    }

    /// The paths of all files below a folder.
    pub(crate) async fn files(&self, at: &str) -> Vec<String> {
        let (mut folders, mut files) = (vec![at.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in self.list(&folder, 0).await.unwrap() {
                match entry.kind {
                    imagestore::model::EntryKind::Folder => {
                        folders.push(entry.path.as_str().to_owned());
                    }
                    imagestore::model::EntryKind::File { .. } => {
                        files.push(entry.path.as_str().to_owned());
                    }
                }
            }
        }
        files.sort();
        files
    }

    /// Deletes everything, reclaims, and checks that nothing but the root is left.
    pub(crate) async fn empty(&self) {
        for entry in self.list("", 0).await.unwrap() {
            self.delete(entry.path.as_str()).await.unwrap();
        }
        self.settle().await;
        assert_eq!(self.leftovers(), [], "leftovers");
    }

    /// Reclaims until nothing but the root is left, for at most [`SOON`].
    pub(crate) async fn settle(&self) {
        let started = std::time::Instant::now();
        loop {
            self.store.reclaim().await.unwrap();
            // Cancelled calls clean up in tasks, which need this thread.
            if (self.leftovers().is_empty() && self.object_keys().await.is_empty())
                || started.elapsed() > SOON
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The tables that have rows although the tree is empty, with their numbers of rows.
    pub(crate) fn leftovers(&self) -> Vec<(&'static str, i64)> {
        [
            ("folder", "SELECT COUNT(*) FROM folder WHERE id <> 1"),
            ("entry", "SELECT COUNT(*) FROM entry"),
            ("content", "SELECT COUNT(*) FROM content"),
            ("content_part", "SELECT COUNT(*) FROM content_part"),
            ("part", "SELECT COUNT(*) FROM part"),
            ("garbage", "SELECT COUNT(*) FROM garbage"),
            ("dead_object", "SELECT COUNT(*) FROM dead_object"),
            ("pin", "SELECT COUNT(*) FROM pin"),
            ("upload_chunk", "SELECT COUNT(*) FROM upload_chunk"),
        ]
        .into_iter()
        .map(|(table, sql)| (table, self.tables.number(sql)))
        .filter(|(_, rows)| *rows > 0)
        .collect()
    }
}

/// A path, or the root.
pub(crate) fn path(text: &str) -> StorePath {
    StorePath::parse_or_root(text, "path").unwrap()
}

/// A plain copy with a new id.
pub(crate) fn copy(source: &str, destination: &str) -> CopyRequest {
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

/// A copy with a skip list.
pub(crate) fn copy_without(source: &str, destination: &str, skip: &[&str]) -> CopyRequest {
    CopyRequest { skip_files: SkipFiles::new(skip).unwrap(), ..copy(source, destination) }
}

/// The kind of the error.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("an error").kind()
}

/// BLAKE3 of bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// Waits until a condition is true, for at most [`SOON`].
pub(crate) async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_true().await {
        assert!(started.elapsed() < SOON, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}
