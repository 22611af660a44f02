//! One part: storing, reading, verifying, and replacing it when it is damaged.
//!
//! An upload of bytes that are stored already reads the stored part first, so that an acknowledged file has been
//! seen to be readable. A part that cannot be read back is stored again under a new key, which repairs every file
//! and copy that shares it; the old object is marked for deletion. A new upload is therefore all that a repair
//! needs, and no list of damaged parts is kept.
//!
//! **Invariants:** an upload that replaces a part holds a pin on it, so that its row stays. Where two uploads
//! replace a part at once, the object of the later one is marked for deletion. A reader that finds no object looks
//! up the key once more, since the part may have been replaced.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    blob,
    error::{Error, Kind, Result, chain},
    limits::INLINE_BYTES_MAX,
    model::{Digest, StorePath},
    namespace::{
        content::{self, Part, PartRow, Place},
        pin::Owner,
        sql::Tx,
    },
    store::{Store, blob_error, object::ObjectGuard},
};

impl Store {
    /// Stores a part, unless it is stored already, and pins it.
    pub(super) async fn store_part(
        &self,
        owner: &Owner,
        path: &StorePath,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<Part> {
        let size = bytes.len() as i64;
        if !self.find_part(owner, path, digest, &bytes).await? {
            let (place, object) = self.place(path, digest, bytes).await?;
            let (part, owner) = (Part { digest, size, place }, owner.clone());
            self.0.engine.write(None, move |tx| content::add_part(tx, &owner, &part)).await?;
            object.into_iter().for_each(ObjectGuard::disarm);
        }
        Ok(Part { digest, size, place: Place::Stored })
    }

    /// Pins a stored part, and replaces it from `bytes` if it cannot be read. Returns whether the part is stored.
    ///
    /// # Cancel safety
    /// A call that is dropped may leave the pin.
    pub(super) async fn find_part(
        &self,
        owner: &Owner,
        path: &StorePath,
        digest: Digest,
        bytes: &Bytes,
    ) -> Result<bool> {
        if !self.0.engine.read(None, move |tx| content::has_part(tx, &digest)).await? {
            return Ok(false);
        }
        let owner = owner.clone();
        let pin = self.0.engine.write(None, move |tx| content::pin_part(tx, &owner, &digest));
        let Some(part) = pin.await? else { return Ok(false) };
        let damage = match self.fetch(&part, Keep::Nothing).await {
            Ok(_) => return Ok(true),
            // The part may be good, and a blob store that does not answer takes no new object either.
            Err(error @ blob::Error::Stalled { .. }) => return Err(blob_error(path, error)),
            Err(damage) => damage,
        };
        let damage = chain(&damage);
        tracing::warn!(%path, damage, "a stored part cannot be read; an upload puts it anew");
        let (place, object) = self.place(path, digest, bytes.clone()).await?;
        let (id, was) = (part.id, part.object);
        let heal = move |tx: &mut Tx<'_>| content::replace_part(tx, id, was.as_deref(), &place);
        if self.0.engine.write(None, heal).await? {
            object.into_iter().for_each(ObjectGuard::disarm);
        }
        Ok(true)
    }

    /// Stores bytes by their size: inline for the database, or as an object.
    async fn place(
        &self,
        path: &StorePath,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<(Place, Option<ObjectGuard>)> {
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok((Place::Inline(bytes), None));
        }
        let object = self.put_object(path, digest, bytes).await?;
        Ok((Place::Object(object.key.clone()), Some(object)))
    }

    /// Puts an object, in a task that continues if the caller drops this future.
    pub(super) async fn put_object(
        &self,
        path: &StorePath,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<ObjectGuard> {
        let (reply, answer) = oneshot::channel();
        let store = self.clone();
        self.spawn(async move {
            let object = ObjectGuard::new(&store, &digest, bytes.len());
            let put = match store.0.blobs.put(&object.key, bytes).await {
                Ok(()) => Ok(object),
                Err(error) => {
                    object.disarm();
                    Err(error)
                }
            };
            // If the caller is gone, the guard is dropped with the reply and marks the object for deletion.
            drop(reply.send(put));
        });
        answer.await.map_err(Error::internal)?.map_err(|error| blob_error(path, error))
    }

    /// A page of rows of the parts of a content, as [`content::parts`]; `path` is the file for errors, or the root.
    ///
    /// # Errors
    /// `Corrupt` or `Changed`, naming the path.
    pub(super) async fn parts(
        &self,
        path: &StorePath,
        content: i64,
        from: i64,
    ) -> Result<Vec<PartRow>> {
        let parts = self.0.engine.read(None, move |tx| content::parts(tx, content, from)).await;
        parts.map_err(|error| {
            if path.is_root() || !matches!(error.kind(), Kind::Corrupt | Kind::Changed) {
                return error;
            }
            Error::new(error.kind(), format!("\"{path}\": {}", error.message()))
                .with("path", path.as_str())
        })
    }

    /// Reads a part and verifies its digest.
    ///
    /// # Errors
    /// `Corrupt`, `Changed` if the part was reclaimed, `Busy` or `Internal` if the blob store fails.
    pub(super) async fn read_part(&self, path: &StorePath, part: PartRow) -> Result<Bytes> {
        self.fetch_from_anywhere(path, part, Keep::Bytes).await
    }

    /// Verifies the digest of a part, and keeps none of its bytes.
    ///
    /// # Errors
    /// Those of [`Store::read_part`].
    pub(super) async fn check_part(&self, path: &StorePath, part: PartRow) -> Result<()> {
        self.fetch_from_anywhere(path, part, Keep::Nothing).await.map(drop)
    }

    async fn fetch_from_anywhere(
        &self,
        path: &StorePath,
        part: PartRow,
        keep: Keep,
    ) -> Result<Bytes> {
        let error = match self.fetch(&part, keep).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        if !matches!(error, blob::Error::Missing { .. } | blob::Error::Corrupt { .. }) {
            return Err(blob_error(path, error));
        }
        // An upload may have replaced the part since its row was read.
        let id = part.id;
        let Some(now) = self.0.engine.read(None, move |tx| content::part(tx, id)).await? else {
            let message = format!("\"{path}\" was deleted while it was read");
            return Err(Error::new(Kind::Changed, message).with("path", path.as_str()));
        };
        if (&now.object, &now.bytes) == (&part.object, &part.bytes) {
            return Err(blob_error(path, error));
        }
        self.fetch(&now, keep).await.map_err(|error| blob_error(path, error))
    }

    /// Reads a part from the place in its row, and verifies its digest.
    pub(super) async fn fetch(&self, part: &PartRow, keep: Keep) -> Result<Bytes, blob::Error> {
        let (digest, size) = (&part.digest.0, part.size as u64);
        match (&part.bytes, &part.object, keep) {
            (Some(bytes), _, _) if Digest::of(bytes) == part.digest => Ok(bytes.clone()),
            (None, Some(object), Keep::Bytes) => self.0.blobs.get(object, digest, size).await,
            (None, Some(object), Keep::Nothing) => {
                self.0.blobs.check(object, digest, size).await.map(|()| Bytes::new())
            }
            (None, None, _) | (Some(_), _, _) => {
                Err(blob::Error::Corrupt { key: part.digest.to_string() })
            }
        }
    }
}

/// What a read of a part returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Its bytes.
    Bytes,
    /// No bytes: the read only verifies the digest.
    Nothing,
}
