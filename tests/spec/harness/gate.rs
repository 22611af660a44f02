//! A blob store whose reads wait for the test: work that takes its time, without any.

use std::{fmt, sync::Arc};

use futures::{TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};
use tokio::sync::Semaphore;

/// Objects in memory behind a gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    objects: Arc<InMemory>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Nothing can be read until the gate lets it.
    pub(crate) fn closed() -> Self {
        Self { objects: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    /// Lets some reads pass.
    pub(crate) fn pass(&self, reads: usize) {
        self.open.add_permits(reads);
    }

    /// Lets every read pass.
    pub(crate) fn open(&self) {
        self.pass(Semaphore::MAX_PERMITS / 2);
    }

    /// Flips a bit in every object.
    pub(crate) async fn flip(&self) {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.expect("listed");
        for object in objects {
            let found = self.objects.get(&object.location).await.expect("an object");
            let mut bytes = found.bytes().await.expect("bytes").to_vec();
            bytes[0] ^= 1;
            self.objects.put(&object.location, bytes.into()).await.expect("put");
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a gate")
    }
}

#[tonic::async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.open.acquire().await.expect("never closed").forget();
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
