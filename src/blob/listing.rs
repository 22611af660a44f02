//! The listing of all objects.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::path::Path as Key;
use tokio::time::timeout;

use super::{Blobs, Error, is_key, prefixes};
use crate::limits::BLOB_TIME;

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
    /// Lists all objects, folder by folder, while others are put and deleted. The listing of a folder ends at
    /// its first error, and the next folder follows. An object that takes longer than [`BLOB_TIME`] is an
    /// error.
    ///
    /// Objects whose key [`new_key`](super::new_key) cannot have made are left out, so that the sweep cannot touch foreign
    /// files.
    pub fn list(&self) -> BoxStream<'static, Result<ObjectInfo, Unlisted>> {
        self.list_from(0)
    }

    /// As [`Blobs::list`]; the first folder is the one with this number, and those before it come last.
    pub fn list_from(&self, first: u8) -> BoxStream<'static, Result<ObjectInfo, Unlisted>> {
        let blobs = self.clone();
        let first = usize::from(first);
        let turned = prefixes().skip(first).chain(prefixes().take(first));
        let folders = stream::iter(turned).flat_map(move |folder| {
            let objects = blobs.list_folder(&folder);
            objects
                .map(move |found| found.map_err(|error| Unlisted { folder: folder.clone(), error }))
        });
        folders.boxed()
    }

    /// Lists the objects of one folder. Ends after an error.
    fn list_folder(&self, folder: &str) -> BoxStream<'static, Result<ObjectInfo, Error>> {
        let objects = self.store.list(Some(&Key::from(folder)));
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
}
