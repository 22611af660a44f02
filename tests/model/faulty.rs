//! An object store around a local folder whose calls go wrong on a schedule.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::pending,
    stream::{self, BoxStream},
};
use imagestore::limits::{BLOB_TIME, SWEEP_AGE};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, local::LocalFileSystem, path::Path,
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

/// What the store is asked to do; a listing asks once for each of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Put,
    Get,
    Delete,
    List,
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing is done, and an error says so.
    Fail,
    /// It is done, and an error says that it is not.
    Lie,
    /// A put writes some of the bytes, and an error follows.
    Tear,
    /// A put writes some of the bytes, and says that it wrote all.
    Short,
    /// A read returns one bit that is not what was put.
    Flip,
    /// The disk is full.
    Full,
    /// There is never an answer. [`Faulty::run`] lets the time pass that is given to it.
    Stall,
    /// The call waits for a permit, and goes on.
    Hold(Arc<Semaphore>),
}

type Schedule = Box<dyn FnMut(Asked) -> Option<Fault> + Send>;

/// The store. Nothing goes wrong at first.
pub(crate) struct Faulty {
    inner: Arc<LocalFileSystem>,
    state: Arc<State>,
    _dir: TempDir,
}

struct State {
    schedule: Mutex<Schedule>,
    faults: AtomicUsize,
    stalls: watch::Sender<usize>,
    is_aged: AtomicBool,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
        let state = Arc::new(State {
            schedule: Mutex::new(Box::new(|_| None)),
            faults: AtomicUsize::new(0),
            stalls: watch::Sender::new(0),
            is_aged: AtomicBool::new(false),
        });
        Arc::new(Self { inner, state, _dir: dir })
    }

    /// Lets calls go wrong as a function says.
    pub(crate) fn schedule(&self, schedule: impl FnMut(Asked) -> Option<Fault> + Send + 'static) {
        *self.state.schedule.lock().unwrap() = Box::new(schedule);
    }

    /// Lets every call of a kind go wrong but for the first few.
    pub(crate) fn after(&self, mut sound: usize, asked: Asked, fault: Fault) {
        self.schedule(move |call| {
            if call != asked {
                return None;
            }
            let is_sound = sound > 0;
            sound = sound.saturating_sub(1);
            (!is_sound).then(|| fault.clone())
        });
    }

    /// Lets one call go wrong, the next one of its kind.
    pub(crate) fn once(&self, asked: Asked, fault: Fault) {
        let mut fault = Some(fault);
        self.schedule(move |call| fault.take_if(|_| call == asked));
    }

    /// Lets nothing go wrong any more.
    pub(crate) fn stop(&self) {
        self.schedule(|_| None);
    }

    /// Does something, and lets time pass whenever a call stalls meanwhile. Nothing else moves the
    /// clock, so that what does answer is always in time afterwards.
    pub(crate) async fn run<T>(&self, act: impl Future<Output = T>) -> T {
        let mut stalls = self.state.stalls.subscribe();
        let clock = async {
            loop {
                stalls.changed().await.unwrap();
                pass_time().await;
            }
        };
        tokio::select! {
            done = act => done,
            done = clock => done,
        }
    }

    /// How many calls went wrong so far.
    pub(crate) fn faults(&self) -> usize {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// Says of all objects that they are old enough to be swept, or no longer.
    pub(crate) fn age(&self, is_aged: bool) {
        self.state.is_aged.store(is_aged, Ordering::SeqCst);
    }
}

impl State {
    fn fault(&self, asked: Asked) -> Option<Fault> {
        let fault = (self.schedule.lock().unwrap())(asked);
        self.faults.fetch_add(usize::from(fault.is_some()), Ordering::SeqCst);
        fault
    }

    /// Does what goes wrong before a call; what is left is done with it.
    async fn begin(&self, asked: Asked, key: &Path) -> Result<Option<Fault>> {
        match self.fault(asked) {
            Some(Fault::Fail) => Err(broken(key)),
            Some(Fault::Full) => {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
                Err(Error::Generic { store: "faulty", source })
            }
            Some(Fault::Stall) => {
                self.stalls.send_modify(|stalls| *stalls += 1);
                pending().await
            }
            Some(Fault::Hold(permits)) => {
                permits.acquire().await.unwrap().forget();
                Ok(None)
            }
            fault => Ok(fault),
        }
    }
}

/// Lets as much time pass as a call may take; timers are as exact as a millisecond.
pub(crate) async fn pass_time() {
    tokio::time::advance(BLOB_TIME + Duration::from_millis(1)).await;
}

/// Stops the clock of a runtime until the end of a test, but for [`pass_time`]. A clock that is merely
/// paused runs ahead whenever the runtime waits for a database thread.
pub(crate) fn stop_clock() -> mpsc::Sender<()> {
    tokio::time::pause();
    let (end, ended) = mpsc::channel();
    // What blocks keeps the clock from running ahead; it ends when the sender is dropped.
    drop(tokio::task::spawn_blocking(move || ended.recv().is_ok()));
    end
}

/// An error that names what no caller may see.
fn broken(key: &Path) -> Error {
    Error::Generic { store: "faulty", source: format!("/srv/secret/{key} is on fire").into() }
}

fn half(payload: PutPayload) -> PutPayload {
    let bytes = Bytes::from(payload);
    bytes.slice(..bytes.len() / 2).into()
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[tonic::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.state.begin(Asked::Put, location).await?;
        let is_partial = matches!(fault, Some(Fault::Tear | Fault::Short));
        let payload = if is_partial { half(payload) } else { payload };
        let put = self.inner.put_opts(location, payload, options).await?;
        match fault {
            Some(Fault::Tear | Fault::Lie) => Err(broken(location)),
            _ => Ok(put),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.state.begin(Asked::Get, location).await?;
        let mut found = self.inner.get_opts(location, options).await?;
        match fault {
            Some(Fault::Flip) => {
                let mut bytes = self.inner.get(location).await?.bytes().await?.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                let pieces = stream::once(async move { Ok(bytes.into()) });
                found.payload = GetResultPayload::Stream(pieces.boxed());
                Ok(found)
            }
            Some(_) => Err(broken(location)),
            None => Ok(found),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
        let deleted = locations.then(move |location| {
            let (inner, state) = (Arc::clone(&inner), Arc::clone(&state));
            async move {
                let location = location?;
                let fault = state.begin(Asked::Delete, &location).await?;
                inner.delete(&location).await?;
                if fault.is_some() { Err(broken(&location)) } else { Ok(location) }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = Arc::clone(&self.state);
        let listed = self.inner.list(prefix).then(move |found| {
            let state = Arc::clone(&state);
            async move {
                let mut meta = found?;
                state.begin(Asked::List, &meta.location).await?;
                if state.is_aged.load(Ordering::SeqCst) {
                    meta.last_modified -= 2 * SWEEP_AGE;
                }
                Ok(meta)
            }
        });
        listed.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
