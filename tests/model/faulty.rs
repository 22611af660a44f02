//! An object store on a local folder, with faults injected by a schedule.

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

/// The kind of a call of the object store; a listing counts as one call for each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Put,
    Get,
    Delete,
    List,
}

/// A fault of a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The call does nothing and returns an error.
    Fail,
    /// The call takes effect and returns an error.
    Lie,
    /// A put writes part of the bytes and returns an error.
    Tear,
    /// A put writes part of the bytes and returns success.
    Short,
    /// A read returns the bytes with one bit flipped.
    Flip,
    /// The call does nothing and returns the error of a full disk.
    Full,
    /// The call never returns. [`Faulty::run`] advances the clock past its timeout.
    Stall,
    /// The call waits for a permit, then proceeds.
    Hold(Arc<Semaphore>),
}

type Schedule = Box<dyn FnMut(Asked) -> Option<Fault> + Send>;

/// The object store; at first without faults.
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

    /// Injects the fault that a function returns for each call.
    pub(crate) fn schedule(&self, schedule: impl FnMut(Asked) -> Option<Fault> + Send + 'static) {
        *self.state.schedule.lock().unwrap() = Box::new(schedule);
    }

    /// Injects a fault into every call of a kind except the first `sound` ones.
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

    /// Injects a fault into the next call of a kind.
    pub(crate) fn once(&self, asked: Asked, fault: Fault) {
        let mut fault = Some(fault);
        self.schedule(move |call| fault.take_if(|_| call == asked));
    }

    /// Stops the injection of faults.
    pub(crate) fn stop(&self) {
        self.schedule(|_| None);
    }

    /// Runs a future, and advances the clock whenever a call stalls. Nothing else advances the clock, so a
    /// call that answers is always in time.
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

    /// The number of faults injected so far.
    pub(crate) fn faults(&self) -> usize {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// Sets whether listings report all objects as old enough for the sweep.
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

    /// Applies the faults that precede a call. Returns a fault that the call itself has to apply.
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

/// Advances the clock by the timeout of a call, and a millisecond, which is the resolution of timers.
pub(crate) async fn pass_time() {
    tokio::time::advance(BLOB_TIME + Duration::from_millis(1)).await;
}

/// Stops the clock of a runtime, except for [`pass_time`], until the returned sender is dropped. A clock that
/// is merely paused advances by itself whenever the runtime waits for a database thread.
pub(crate) fn stop_clock() -> mpsc::Sender<()> {
    tokio::time::pause();
    let (end, ended) = mpsc::channel();
    // A blocking task keeps the paused clock from advancing; the task ends when the sender is dropped.
    drop(tokio::task::spawn_blocking(move || ended.recv().is_ok()));
    end
}

/// An error with internals that no caller may see.
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
