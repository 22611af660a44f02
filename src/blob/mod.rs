//! Parts in an object store: the only module that knows `object_store`.
//!
//! A part is immutable and at most [`PART_BYTES_MAX`] long. It is put and read whole, and every read is
//! checked against the digest that it was put with.
//!
//! A call to the object store ends after [`BLOB_TIME`] even without a response, and at most
//! [`BLOB_CALLS_MAX`] calls run at once: a disk that hangs blocks its own calls and nothing else. A listing
//! has the same timeout for each object, and takes no permit.
//!
//! **Invariants.** A key is never used twice: it ends in a random suffix, so a late delete cannot hit a newer
//! object. A key is made of a digest and the run of the server that puts the object. So no text of a user
//! reaches the object store, and the sweep can tell which run put an object that has no row.
//! When [`Blobs::put`] returns, the part survives a power failure.
//!
//! **Deliberately absent:** which objects are needed. The namespace knows that; here, equal bytes that are
//! put twice are two objects.

mod bucket;
mod buffer;
pub mod durable;
mod error;
mod key;
mod listing;
mod local;
mod location;
mod reading;
#[cfg(test)]
mod suite;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use object_store::{
    GetResultPayload, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key,
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;

use crate::limits::{BLOB_CALLS_MAX, BLOB_TIME, PART_BYTES_MAX};

pub use bucket::Refused;
pub use buffer::Buffer;
pub use error::Error;
use key::is_key;
pub use key::{Putter, new_key, prefixes, putter};
pub use listing::{ObjectInfo, Unlisted};
use local::Folder;
pub use local::MARK;
pub use location::{Bucket, Cloud, Location, absolute_path};
use reading::Reading;

use crate::{
    crash::{self, Point},
    model::BlobOwner,
};

/// A handle to the object store; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    place: Place,
    /// The permits of calls. No peer has a share of its own here: a call depends on no client and ends by
    /// itself, and its caller has a share of the budget of uploads, downloads or copies already.
    calls: Arc<Semaphore>,
}

/// What is known of a store beside its objects.
#[derive(Clone, Debug)]
enum Place {
    /// A folder of this machine, with the files that `object_store` leaves there after a crash.
    Folder(Folder),
    /// A bucket, or the memory of this process.
    Bucket,
    /// Any other store, which has no mark.
    Other,
}

impl Blobs {
    /// Opens a folder of this machine. Makes the folder and its parents where they are missing.
    ///
    /// Blocks while it syncs folders.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`] where the folder cannot be made, read or synced.
    pub fn local(dir: &Path) -> Result<Self, Error> {
        let (folder, store) = Folder::open(dir)?;
        Ok(Self { place: Place::Folder(folder), ..Self::new(Arc::new(store)) })
    }

    /// Opens a bucket, and proves that its objects can be put, read, listed and deleted. What the proof has put is
    /// deleted again.
    ///
    /// # Errors
    ///
    /// What the bucket refuses, and what to do.
    pub async fn bucket(bucket: &Bucket) -> Result<Self, Refused> {
        let store = bucket::open(bucket).await?;
        Ok(Self { place: Place::Bucket, ..Self::new(store) })
    }

    /// Keeps the objects in the memory of this process, until the last handle is dropped.
    pub fn memory() -> Self {
        Self { place: Place::Bucket, ..Self::new(Arc::new(InMemory::new())) }
    }

    /// Uses any object store, which must have passed the tests of `suite`.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, place: Place::Other, calls: Arc::new(Semaphore::new(BLOB_CALLS_MAX)) }
    }

    /// Stores a part under a key of [`new_key`]. The part is durable when the call returns.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`], [`Error::Stalled`]. After an error the object may exist or appear
    /// later, whole or in part; the key must not be used again.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time. The object may be put nevertheless, as after an error.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        // `object_store` puts in its mode *overwrite*, which is one rename. Its mode *create* makes a second
        // link and does not sync the removal of the first one: a power failure would bring that link back,
        // and with it the bytes of a deleted part. Since a key is new, only a retry of the same put by the
        // client of a remote store can overwrite anything.
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            crash::reach(Point::Put);
            match store.put(&Key::from(key.as_str()), bytes.into()).await {
                Ok(_) => {
                    crash::reach(Point::Stored);
                    Ok(())
                }
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// The store that the objects belong to, from the mark beside them. The mark keeps a server with a wrong setting from
    /// sweeping the objects of another store.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Stalled`].
    pub async fn owner(&self) -> Result<BlobOwner, Error> {
        if let Place::Bucket = self.place {
            let store = Arc::clone(&self.store);
            let owners = async move {
                bucket::owners(&*store).await.map_err(|error| Error::from_store("", error))
            };
            let owner = self.call("its mark", owners).await?.into_iter().next();
            return Ok(owner.map_or(BlobOwner::Nobody, BlobOwner::Store));
        }
        let owner = self.in_folder(|folder| folder.owner()).await?.flatten();
        Ok(owner.map_or(BlobOwner::Unknown, BlobOwner::Store))
    }

    /// Marks the place of the objects as that of a store, durably. Does nothing where there is no folder and no bucket.
    /// Returns the id of another store that has marked the bucket meanwhile; this store has not marked it then.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`], [`Error::Stalled`].
    pub async fn mark(&self, owner: i64) -> Result<Option<i64>, Error> {
        if let Place::Bucket = self.place {
            let store = Arc::clone(&self.store);
            let mark = async move {
                let other = bucket::mark(&*store, owner).await;
                other.map_err(|error| Error::from_store("", error))
            };
            return self.call("its mark", mark).await;
        }
        self.in_folder(move |folder| folder.mark(owner)).await.map(|_| None)
    }

    /// Runs blocking work on the folder of a local store, on the blocking pool. `None`: the store is not
    /// local.
    async fn in_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Place::Folder(folder) = self.place.clone() else { return Ok(None) };
        let done = tokio::task::spawn_blocking(move || work(folder)).await;
        done.map_err(|error| Error::Io(error.into()))?.map(Some)
    }

    /// Runs one call in a task of its own and waits for its result, at most [`BLOB_TIME`]. The task keeps its
    /// permit until the call ends, even long after the caller has stopped waiting.
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
        // If the size in the row is wrong, `read` fails before it reads a byte.
        let expected = usize::try_from(size).unwrap_or_default().min(PART_BYTES_MAX);
        let kept = Buffer::with_capacity(expected);
        let kept = self.call(key, self.read(key, (*digest, size), Some(kept))).await?;
        Ok(kept.unwrap_or_default().take())
    }

    /// Checks a part as [`Blobs::get`] does, and keeps none of its bytes. This is much faster than `get`,
    /// because a small buffer stays in the cache of the processor and 8 MiB do not.
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
            let found = store.get(&Key::from(key.as_str())).await.map_err(failed)?;
            // Before any byte is read, so that a wrong object cannot fill the memory.
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

    /// Checks that an object exists and has the length `size` in bytes, without reading it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Corrupt`] where it has another length, [`Error::Io`],
    /// [`Error::Stalled`].
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time.
    pub async fn head(&self, key: &str, size: u64) -> Result<(), Error> {
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            match store.head(&Key::from(key.as_str())).await {
                Ok(found) if found.size == size => Ok(()),
                Ok(_) => Err(Error::Corrupt { key }),
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// Deletes an object. A missing object is no error.
    ///
    /// The deletion is not synced: after a power failure the object may be back, without a row, until the
    /// sweep finds it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Stalled`].
    ///
    /// # Cancel safety
    ///
    /// Can be dropped at any time. The object may be deleted nevertheless, at once or later.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let (store, at) = (Arc::clone(&self.store), key);
        let key = key.to_owned();
        self.call(at, async move {
            crash::reach(Point::Delete);
            match store.delete(&Key::from(key.as_str())).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                    crash::reach(Point::Deleted);
                    Ok(())
                }
                Err(error) => Err(Error::from_store(&key, error)),
            }
        })
        .await
    }

    /// Deletes the staging files that a crash left of unfinished puts, except those of keys that are
    /// `in_use`. Returns the number of deleted files.
    ///
    /// A staging file is no object, and [`Blobs::list`] does not show it. No other process may use the
    /// folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where a folder cannot be read or a file cannot be deleted; the other folders are swept.
    pub async fn sweep_staging(
        &self,
        in_use: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<u64, Error> {
        let swept = self.in_folder(move |folder| folder.sweep_staging(&in_use)).await?;
        Ok(swept.unwrap_or(0))
    }
}
