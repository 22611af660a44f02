//! Parts in an object store: the only module that knows `object_store`.
//!
//! A part is immutable and at most [`PART_BYTES_MAX`] long. It is put and read whole, and every read is
//! checked against the digest that it was put with.
//!
//! A call that the object store leaves without an answer ends after [`BLOB_TIME`], and only so many run
//! at once ([`BLOB_CALLS_MAX`]): a disk that hangs blocks its own calls and nothing else.
//!
//! **Invariants.** A key is never used twice: it ends in a random suffix, so a late delete hits
//! nothing alive. A key is made of a digest and the run of the server that puts it, so no text of a user
//! reaches the object store, and an object without a row can be judged by who put it.
//! When [`Blobs::put`] returns, the part survives a power failure.
//!
//! **Deliberately absent:** which objects are needed. That is the namespace's knowledge; here
//! equal bytes put twice are two objects.

mod buffer;
pub mod durable;
mod error;
mod local;
mod reading;
#[cfg(test)]
mod suite;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, path::Path as Location};
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::limits::{BLOB_CALLS_MAX, BLOB_TIME, PART_BYTES_MAX};

pub use buffer::Buffer;
pub use error::Error;
use local::Folder;
use reading::Reading;

use crate::crash::{self, Point};

/// A handle to the parts; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The folder beneath `store` where it is one, for what the crate leaves behind in a crash.
    folder: Option<Folder>,
    /// The turns of calls. They need no shares: a call waits for no client and ends by itself, and whoever
    /// asks for one has a share of what he does it for, an upload, a download or a copy.
    calls: Arc<Semaphore>,
}

/// A folder of the blob store that could not be listed to its end.
#[derive(Debug)]
pub struct Unlisted {
    /// The folder: the first two digits of keys.
    pub folder: String,
    /// Why.
    pub error: Error,
}

/// What a listing says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The name in the object store, as [`Blobs::put`] returned it.
    pub key: String,
    /// The length, in bytes.
    pub size: u64,
    /// When the object was put, in microseconds since 1970, by the object store's clock.
    pub modified_micros: i64,
}

impl Blobs {
    /// Opens a folder of this machine, and makes it, with its parents, where it is missing.
    ///
    /// Blocks for some syncs of the disk.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`] where the folder cannot be made, read or synced.
    pub fn local(dir: &Path) -> Result<Self, Error> {
        let (folder, store) = Folder::open(dir)?;
        Ok(Self { folder: Some(folder), ..Self::new(Arc::new(store)) })
    }

    /// Keeps the parts in any object store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None, calls: Arc::new(Semaphore::new(BLOB_CALLS_MAX)) }
    }

    /// Stores a part under a key of [`new_key`]; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`], [`Error::Stalled`]. The object may be there then, or come later,
    /// whole or not; the key is not to be used again.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may leave an object, as one that fails.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        // Overwriting is one rename, where creating is a second link whose removal is not synced:
        // a power failure would bring that link back, and with it the bytes of a deleted part. A
        // key is new, so there is nothing to overwrite but the same put, repeated by the client of
        // a remote store.
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            crash::reach(Point::Put);
            match store.put(&Location::from(key.as_str()), bytes.into()).await {
                Ok(_) => {
                    crash::reach(Point::Stored);
                    Ok(())
                }
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// The store that the objects belong to, by the mark that it has left. Only a folder of this machine
    /// has one: its objects are what a wrong setting could have another store sweep.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn owner(&self) -> Result<Option<i64>, Error> {
        self.in_folder(|folder| folder.owner()).await.map(Option::flatten)
    }

    /// Marks the objects as those of a store, durably.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`].
    pub async fn mark(&self, owner: i64) -> Result<(), Error> {
        self.in_folder(move |folder| folder.mark(owner)).await.map(drop)
    }

    /// Does something that blocks, if there is a folder.
    async fn in_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        let done = tokio::task::spawn_blocking(move || work(folder)).await;
        done.map_err(|error| Error::Io(error.into()))?.map(Some)
    }

    /// Makes one call in a task of its own, and waits for it for a bounded time. The call keeps its
    /// turn until it ends, be it long after nobody waits any more.
    async fn call<T: Send + 'static>(
        &self,
        key: &str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let calls = Arc::clone(&self.calls);
        let answer = async {
            let turn = calls.acquire_owned().await.map_err(|error| Error::Io(error.into()))?;
            let made = async move {
                let answer = call.await;
                drop(turn);
                answer
            };
            let task = tokio::spawn(made.in_current_span());
            task.await.map_err(|error| Error::Io(error.into()))?
        };
        timeout(BLOB_TIME, answer)
            .await
            .unwrap_or_else(|_| Err(Error::Stalled { key: key.to_owned() }))
    }

    /// Reads a whole part and checks its length and its digest.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Corrupt`] where the bytes are not those that were put,
    /// [`Error::Io`], [`Error::Stalled`].
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time.
    pub async fn get(&self, key: &str, digest: &[u8; 32], size: u64) -> Result<Bytes, Error> {
        // Where the row lies about the size, nothing is read.
        let expected = usize::try_from(size).unwrap_or_default().min(PART_BYTES_MAX);
        let kept = Buffer::with_capacity(expected);
        let kept = self.call(key, self.read(key, (*digest, size), Some(kept))).await?;
        Ok(kept.unwrap_or_default().take())
    }

    /// Checks a part as [`Blobs::get`] does, and keeps none of its bytes: much faster, because a
    /// small buffer stays in the processor's cache where 8 MiB do not.
    ///
    /// # Errors
    ///
    /// Those of [`Blobs::get`].
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time.
    pub async fn check(&self, key: &str, digest: &[u8; 32], size: u64) -> Result<(), Error> {
        self.call(key, self.read(key, (*digest, size), None)).await.map(drop)
    }

    fn read(
        &self,
        key: &str,
        (digest, size): ([u8; 32], u64),
        kept: Option<Buffer>,
    ) -> impl Future<Output = Result<Option<Buffer>, Error>> + use<> {
        let (store, key) = (Arc::clone(&self.store), key.to_owned());
        async move {
            let failed = |error| Error::from_store(&key, error);
            let found = store.get(&Location::from(key.as_str())).await.map_err(failed)?;
            // Before a byte is read, so that a wrong object cannot fill the memory.
            if found.meta.size != size {
                return Err(Error::Corrupt { key });
            }
            let mut reading = Reading::new(kept);
            reading = match found.payload {
                GetResultPayload::File(file, _) => {
                    tokio::task::spawn_blocking(move || reading.file(file))
                        .await
                        .map_err(|error| Error::Io(error.into()))??
                }
                GetResultPayload::Stream(mut pieces) => {
                    while let Some(piece) = pieces.next().await {
                        reading.piece(&piece.map_err(failed)?);
                    }
                    reading
                }
            };
            match reading.finish(&digest) {
                (true, kept) => Ok(kept),
                (false, _) => Err(Error::Corrupt { key }),
            }
        }
    }

    /// Looks whether an object is there and has a length, without reading it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Corrupt`] where it has another length, [`Error::Io`],
    /// [`Error::Stalled`].
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time.
    pub async fn look(&self, key: &str, size: u64) -> Result<(), Error> {
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            match store.head(&Location::from(key.as_str())).await {
                Ok(found) if found.size == size => Ok(()),
                Ok(_) => Err(Error::Corrupt { key }),
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// Deletes an object; one that is missing is deleted already.
    ///
    /// Not synced: after a power failure the object can be back, without a row, for the sweep.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Stalled`].
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has deleted the object, or will, or not.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            crash::reach(Point::Delete);
            match store.delete(&Location::from(key.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                    crash::reach(Point::Deleted);
                    Ok(())
                }
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// Lists all objects, folder by folder, while others are put and deleted. A folder ends with its
    /// first error, and the next one follows; each object comes within [`BLOB_TIME`] of being asked for.
    ///
    /// What has no key of ours is left out, so that a sweep cannot touch a stranger's files.
    pub fn list(&self) -> BoxStream<'static, Result<ObjectInfo, Unlisted>> {
        let blobs = self.clone();
        let folders = stream::iter(prefixes()).flat_map(move |folder| {
            let objects = blobs.list_folder(&folder);
            objects
                .map(move |found| found.map_err(|error| Unlisted { folder: folder.clone(), error }))
        });
        folders.boxed()
    }

    /// Lists the objects of one folder. Ends after an error.
    fn list_folder(&self, folder: &str) -> BoxStream<'static, Result<ObjectInfo, Error>> {
        let objects = self.store.list(Some(&Location::from(folder)));
        let bounded = stream::unfold(Some(objects), async |objects| {
            let mut objects = objects?;
            match timeout(BLOB_TIME, objects.next()).await {
                Ok(Some(Ok(found))) => Some((Ok(found), Some(objects))),
                Ok(Some(Err(error))) => Some((Err(Error::from_store("", error)), None)),
                Ok(None) => None,
                Err(_) => Some((Err(Error::Stalled { key: "its listing".to_owned() }), None)),
            }
        });
        let objects = bounded.filter_map(async |found| match found {
            Ok(meta) if is_key(meta.location.as_ref()) => Some(Ok(ObjectInfo {
                key: meta.location.into(),
                size: meta.size,
                modified_micros: meta.last_modified.timestamp_micros(),
            })),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        objects.boxed()
    }

    /// Deletes what puts left behind that a crash broke off, but for the keys that are `in_use`, and
    /// returns how many files that were.
    ///
    /// Such files have no key, and [`Blobs::list`] does not show them. No other process may use the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where a folder cannot be read; the others are swept.
    pub async fn sweep_staging(
        &self,
        in_use: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<u64, Error> {
        let swept = self.in_folder(move |folder| folder.sweep_staging(&in_use)).await?;
        Ok(swept.unwrap_or(0))
    }
}

/// The folders of the objects: the first two digits of every digest.
pub(crate) fn prefixes() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|first| format!("{first:02x}"))
}

/// Makes a key that no one has: the digest below a folder of its first two digits, the run of the server
/// that puts it, and 122 bits of chance. `digest` is the BLAKE3 of the bytes.
pub fn new_key(digest: &[u8; 32], run: u64) -> String {
    let [first, ..] = digest;
    let digest = blake3::Hash::from_bytes(*digest).to_hex();
    format!("{first:02x}/{digest}-{run:016x}-{}", Uuid::new_v4().simple())
}

/// The run of the server that made a key; nothing in one of before keys named it.
pub fn run_of(key: &str) -> Option<u64> {
    let (_, rest) = key.split_once('-')?;
    let (run, _) = rest.split_once('-')?;
    u64::from_str_radix(run, 16).ok()
}

/// Whether [`new_key`] can have made this, now or before keys named the run.
fn is_key(key: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some((prefix, name)) = key.split_once('/') else { return false };
    let is_named = match name.split('-').collect::<Vec<_>>().as_slice() {
        [digest, run, chance] => hex(digest, 64) && hex(run, 16) && hex(chance, 32),
        [digest, chance] => hex(digest, 64) && hex(chance, 32),
        _ => false,
    };
    hex(prefix, 2) && is_named && name.starts_with(prefix)
}
