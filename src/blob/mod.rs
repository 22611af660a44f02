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
pub use local::MARK;
use reading::Reading;

use crate::crash::{self, Point};

/// A handle to the object store; clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The folder of a local store, for the files that `object_store` leaves there after a crash; else
    /// `None`.
    folder: Option<Folder>,
    /// The permits of calls. No peer has a share of its own here: a call depends on no client and ends by
    /// itself, and its caller has a share of the budget of uploads, downloads or copies already.
    calls: Arc<Semaphore>,
}

/// A folder of the blob store that could not be listed to its end.
#[derive(Debug)]
pub struct Unlisted {
    /// The folder: the first two digits of keys.
    pub folder: String,
    /// Why the listing ended.
    pub error: Error,
}

/// What a listing says about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key of the object, as it was given to [`Blobs::put`].
    pub key: String,
    /// The length, in bytes.
    pub size: u64,
    /// When the object was put, in microseconds since 1970, by the object store's clock.
    pub modified_micros: i64,
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
        Ok(Self { folder: Some(folder), ..Self::new(Arc::new(store)) })
    }

    /// Uses any object store, which must have passed the tests of `suite`.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: None, calls: Arc::new(Semaphore::new(BLOB_CALLS_MAX)) }
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

    /// The id of the store that the objects belong to, from the mark in their folder; `None` without a mark.
    /// Only a local folder has one. The mark keeps a server with a wrong setting from sweeping the objects of
    /// another store.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub async fn owner(&self) -> Result<Option<i64>, Error> {
        self.in_folder(|folder| folder.owner()).await.map(Option::flatten)
    }

    /// Marks the folder of the objects as that of a store, durably. Does nothing without a local folder.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`].
    pub async fn mark(&self, owner: i64) -> Result<(), Error> {
        self.in_folder(move |folder| folder.mark(owner)).await.map(drop)
    }

    /// Runs blocking work on the folder of a local store, on the blocking pool. `None`: the store is not
    /// local.
    async fn in_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
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
            let found = store.get(&Location::from(key.as_str())).await.map_err(failed)?;
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
            match store.head(&Location::from(key.as_str())).await {
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

    /// Lists all objects, folder by folder, while others are put and deleted. The listing of a folder ends at
    /// its first error, and the next folder follows. An object that takes longer than [`BLOB_TIME`] is an
    /// error.
    ///
    /// Objects whose key [`new_key`] cannot have made are left out, so that the sweep cannot touch foreign
    /// files.
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

/// The folders of the objects: the first two hexadecimal digits of every digest.
pub(crate) fn prefixes() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|first| format!("{first:02x}"))
}

/// Makes a new, unique key: a folder named by the first two digits of the digest, then the digest, the run of
/// the server that puts the object, and 122 random bits. `digest` is the BLAKE3 digest of the bytes.
pub fn new_key(digest: &[u8; 32], run: u64) -> String {
    let [first, ..] = digest;
    let digest = blake3::Hash::from_bytes(*digest).to_hex();
    format!("{first:02x}/{digest}-{run:016x}-{}", Uuid::new_v4().simple())
}

/// The run of the server that made a key; `None` for the key of an older program, which names no run.
pub fn run_of(key: &str) -> Option<u64> {
    let (_, rest) = key.split_once('-')?;
    let (run, _) = rest.split_once('-')?;
    u64::from_str_radix(run, 16).ok()
}

/// Whether [`new_key`] can have made this key, in this program or in an older one that did not name the run.
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
