//! An object store in memory whose reads can be held up and whose writes can fail.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};
use tokio::sync::watch;

/// Older than whatever may be put by a server that lives.
const LONG_AGO: Duration = Duration::from_hours(1_000);

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The gate. It is open at first.
#[derive(Debug)]
pub(super) struct Gate {
    objects: InMemory,
    is_open: watch::Sender<bool>,
    /// Reads that wait at the gate, or have.
    reads: AtomicUsize,
    puts_left: AtomicUsize,
    holds_puts: AtomicBool,
    /// Whether the answers of puts wait at the gate: the objects are there by then.
    holds_answers: AtomicBool,
    /// Puts whose objects are there.
    puts: AtomicUsize,
    is_aged: AtomicBool,
    panics: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            objects: InMemory::new(),
            is_open: watch::Sender::new(true),
            reads: AtomicUsize::new(0),
            puts_left: AtomicUsize::new(usize::MAX),
            holds_puts: AtomicBool::new(false),
            holds_answers: AtomicBool::new(false),
            puts: AtomicUsize::new(0),
            is_aged: AtomicBool::new(false),
            panics: AtomicBool::new(false),
        }
    }
}

impl Gate {
    /// Holds up reads.
    pub(super) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets reads go on.
    pub(super) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Lets reads go on, and panic.
    pub(super) fn panic(&self) {
        self.panics.store(true, Ordering::SeqCst);
        self.open();
    }

    /// How many reads came so far.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// Lets so many puts succeed, and no others.
    pub(super) fn fail_after(&self, puts: usize) {
        self.puts_left.store(puts, Ordering::SeqCst);
    }

    /// Holds up puts, for ever.
    pub(super) fn hold_puts(&self) {
        self.holds_puts.store(true, Ordering::SeqCst);
    }

    /// Holds up the answers of puts whose objects are there.
    pub(super) fn hold_answers(&self) {
        self.holds_answers.store(true, Ordering::SeqCst);
        self.close();
    }

    /// How many objects were put so far.
    pub(super) fn puts(&self) -> usize {
        self.puts.load(Ordering::SeqCst)
    }

    /// Says of all objects that they were put long ago, as after a suspension of the machine.
    pub(super) fn age(&self) {
        self.is_aged.store(true, Ordering::SeqCst);
    }

    /// Puts other bytes in the place of every object.
    pub(super) async fn spoil(&self, bytes: &Bytes) {
        for key in self.keys().await {
            self.objects.put(&Path::from(key), bytes.clone().into()).await.unwrap();
        }
    }

    pub(super) async fn keys(&self) -> Vec<String> {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        objects.into_iter().map(|meta| meta.location.to_string()).collect()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

impl ObjectStore for Gate {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            if self.holds_puts.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let take = |left: usize| left.checked_sub(1);
            if self.puts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
                let source = "no more puts".into();
                return Err(object_store::Error::Generic { store: "gate", source });
            }
            let put = self.objects.put_opts(location, payload, options).await?;
            self.puts.fetch_add(1, Ordering::SeqCst);
            if self.holds_answers.load(Ordering::SeqCst) {
                self.is_open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
            }
            Ok(put)
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.objects.put_multipart_opts(location, options)
    }

    fn get_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.is_open.subscribe().wait_for(|is_open| *is_open).await.unwrap();
            assert!(!self.panics.load(Ordering::SeqCst), "a panic of a test");
            self.objects.get_opts(location, options).await
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let age = if self.is_aged.load(Ordering::SeqCst) { LONG_AGO } else { Duration::ZERO };
        let objects = self.objects.list(prefix);
        objects
            .map_ok(move |meta| ObjectMeta { last_modified: meta.last_modified - age, ..meta })
            .boxed()
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.objects.list_with_delimiter(prefix)
    }

    fn copy_opts<'a, 'b, 'c, 'd>(
        &'a self,
        from: &'b Path,
        to: &'c Path,
        options: CopyOptions,
    ) -> Answer<'d, ()>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
        Self: 'd,
    {
        self.objects.copy_opts(from, to, options)
    }
}
