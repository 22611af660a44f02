//! A blob store in memory whose reads wait at a gate, so that a test decides how long an operation
//! that reads parts runs, and one whose bytes go bad when a test says so.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use tokio::sync::{Semaphore, watch};

/// The gate of a store; it is open at first. Clones are one gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: InMemory,
    is_open: watch::Sender<bool>,
    passes: Semaphore,
    is_bad: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let is_open = watch::Sender::new(true);
        let (parts, passes) = (InMemory::new(), Semaphore::new(0));
        Self(Arc::new(Inner { parts, is_open, passes, is_bad: AtomicBool::new(false) }))
    }

    /// Lets no read begin any more.
    pub(crate) fn close(&self) {
        self.0.is_open.send_replace(false);
    }

    /// Lets some reads through a closed gate.
    pub(crate) fn pass(&self, reads: usize) {
        self.0.passes.add_permits(reads);
    }

    /// Lets all reads through.
    pub(crate) fn open(&self) {
        self.0.is_open.send_replace(true);
    }

    /// Flips a bit of all that is read from now on.
    pub(crate) fn spoil(&self) {
        self.0.is_bad.store(true, SeqCst);
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

#[tonic::async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        to: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.parts.put_opts(to, bytes, options).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.parts.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        let mut is_open = self.0.is_open.subscribe();
        tokio::select! {
            open = is_open.wait_for(|is_open| *is_open) => drop(open.expect("the gate is there")),
            pass = self.0.passes.acquire() => pass.expect("the gate is there").forget(),
        }
        let found = self.0.parts.get_opts(from, options).await?;
        if !self.0.is_bad.load(SeqCst) {
            return Ok(found);
        }
        let (meta, range, attributes) =
            (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let extensions = found.extensions.clone();
        let mut bytes = found.bytes().await?.to_vec();
        bytes[0] ^= 1;
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.parts.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.parts.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.parts.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.parts.copy_opts(from, to, options).await
    }
}
