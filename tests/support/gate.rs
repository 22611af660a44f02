//! An in-memory object store whose reads can be blocked by a gate, so that a test controls how long an operation that
//! reads parts runs. It can also inject faults: failing or blocked puts, panics in reads, and changed bytes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    future::pending,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, memory::InMemory, path::Path,
};
use tokio::sync::{Semaphore, watch};

/// An age at which no object can belong to an unfinished put of a running server.
const LONG_AGO: Duration = Duration::from_hours(1_000);

/// The object store with its gate, which is open at first. Clones share the store and the gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<State>);

#[derive(Debug)]
struct State {
    objects: InMemory,
    is_open: watch::Sender<bool>,
    /// Permits for reads that pass a closed gate.
    passes: Semaphore,
    /// The number of reads that have reached the gate.
    reads: AtomicUsize,
    /// The number of further puts that succeed.
    puts_left: AtomicUsize,
    holds_puts: AtomicBool,
    /// Whether puts wait at the gate after they have stored the object.
    holds_answers: AtomicBool,
    /// The number of objects that were put.
    puts: AtomicUsize,
    is_aged: AtomicBool,
    panics: AtomicBool,
    flips: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State {
            objects: InMemory::new(),
            is_open: watch::Sender::new(true),
            passes: Semaphore::new(0),
            reads: AtomicUsize::new(0),
            puts_left: AtomicUsize::new(usize::MAX),
            holds_puts: AtomicBool::new(false),
            holds_answers: AtomicBool::new(false),
            puts: AtomicUsize::new(0),
            is_aged: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            flips: AtomicBool::new(false),
        }))
    }

    /// Closes the gate: new reads wait.
    pub(crate) fn close(&self) {
        self.0.is_open.send_replace(false);
    }

    /// Lets this number of reads pass a closed gate.
    pub(crate) fn pass(&self, reads: usize) {
        self.0.passes.add_permits(reads);
    }

    /// Opens the gate for all reads.
    pub(crate) fn open(&self) {
        self.0.is_open.send_replace(true);
    }

    /// Opens the gate, and makes all reads panic.
    pub(crate) fn panic(&self) {
        self.0.panics.store(true, SeqCst);
        self.open();
    }

    /// Flips a bit of every object that is read from now on.
    pub(crate) fn flip(&self) {
        self.0.flips.store(true, SeqCst);
    }

    /// The number of reads that have reached the gate so far.
    pub(crate) fn reads(&self) -> usize {
        self.0.reads.load(SeqCst)
    }

    /// Lets the next `puts` puts succeed; all later ones fail.
    pub(crate) fn fail_after(&self, puts: usize) {
        self.0.puts_left.store(puts, SeqCst);
    }

    /// Blocks all later puts without end, before they store anything.
    pub(crate) fn hold_puts(&self) {
        self.0.holds_puts.store(true, SeqCst);
    }

    /// Closes the gate, and blocks puts there after they have stored the object.
    pub(crate) fn hold_answers(&self) {
        self.0.holds_answers.store(true, SeqCst);
        self.close();
    }

    /// The number of objects that were put so far.
    pub(crate) fn puts(&self) -> usize {
        self.0.puts.load(SeqCst)
    }

    /// Makes listings report that all objects were put long ago, as after a suspension of the machine.
    pub(crate) fn age(&self) {
        self.0.is_aged.store(true, SeqCst);
    }

    /// Replaces the bytes of every object.
    pub(crate) async fn spoil(&self, bytes: &Bytes) {
        for key in self.keys().await {
            self.0.objects.put(&Path::from(key), bytes.clone().into()).await.expect("put");
        }
    }

    /// Puts the bytes of an object under another key.
    pub(crate) async fn copy(&self, from: &str, to: &str) {
        self.0.objects.copy(&Path::from(from), &Path::from(to)).await.expect("copied");
    }

    /// The keys of all objects.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let objects: Vec<_> = self.0.objects.list(None).try_collect().await.expect("a list");
        objects.into_iter().map(|meta| meta.location.to_string()).collect()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

/// The same object with a bit flipped.
async fn flipped(found: GetResult) -> Result<GetResult> {
    let (meta, range) = (found.meta.clone(), found.range.clone());
    let (attributes, extensions) = (found.attributes.clone(), found.extensions.clone());
    let mut bytes = found.bytes().await?.to_vec();
    bytes[0] ^= 1;
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

#[tonic::async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        to: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.0.holds_puts.load(SeqCst) {
            pending::<()>().await;
        }
        let take = |left: usize| left.checked_sub(1);
        if self.0.puts_left.fetch_update(SeqCst, SeqCst, take).is_err() {
            return Err(Error::Generic { store: "gate", source: "no more puts".into() });
        }
        let put = self.0.objects.put_opts(to, bytes, options).await?;
        self.0.puts.fetch_add(1, SeqCst);
        if self.0.holds_answers.load(SeqCst) {
            self.0.is_open.subscribe().wait_for(|is_open| *is_open).await.expect("the gate");
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.objects.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.reads.fetch_add(1, SeqCst);
        let mut is_open = self.0.is_open.subscribe();
        tokio::select! {
            open = is_open.wait_for(|is_open| *is_open) => drop(open.expect("the gate")),
            pass = self.0.passes.acquire() => pass.expect("the gate").forget(),
        }
        assert!(!self.0.panics.load(SeqCst), "a panic of a test");
        let found = self.0.objects.get_opts(from, options).await?;
        if self.0.flips.load(SeqCst) { flipped(found).await } else { Ok(found) }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let age = if self.0.is_aged.load(SeqCst) { LONG_AGO } else { Duration::ZERO };
        let objects = self.0.objects.list(prefix);
        objects
            .map_ok(move |meta| ObjectMeta { last_modified: meta.last_modified - age, ..meta })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.objects.copy_opts(from, to, options).await
    }
}
