//! The BLAKE3 digests of an upload: of each part, and of the whole file.
//!
//! Parts are hashed on the blocking pool, several at once. The hasher of the whole file is passed from part to
//! part in their order, so that the bytes of earlier parts need not be kept.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    model::Digest,
};

/// The end of the chain of parts through which the hasher of the whole file is passed.
#[derive(Debug, Default)]
pub(super) struct Hasher(Option<oneshot::Receiver<blake3::Hasher>>);

impl Hasher {
    /// Adds a part to the chain. Returns where it receives the hasher (`None`: it is the first) and where it
    /// sends the hasher.
    pub(super) fn link(
        &mut self,
    ) -> (Option<oneshot::Receiver<blake3::Hasher>>, oneshot::Sender<blake3::Hasher>) {
        let (after, next) = oneshot::channel();
        (self.0.replace(next), after)
    }

    /// The digest of the file, once every part is hashed.
    pub(super) async fn finish(&mut self) -> Result<Digest> {
        let last = self.0.take().ok_or_else(|| Error::internal("no part was hashed"))?;
        Ok(last.await.map_err(Error::internal)?.finalize().into())
    }
}

/// Hashes a part, and adds it to the hasher of the whole file.
pub(super) async fn hash(
    bytes: Bytes,
    before: Option<oneshot::Receiver<blake3::Hasher>>,
    after: oneshot::Sender<blake3::Hasher>,
) -> Result<(Digest, Bytes)> {
    let mut whole = match before {
        Some(before) => before.await.map_err(Error::internal)?,
        None => blake3::Hasher::new(),
    };
    let (digest, bytes, whole) = tokio::task::spawn_blocking(move || {
        whole.update(&bytes);
        (Digest::of(&bytes), bytes, whole)
    })
    .await
    .map_err(Error::internal)?;
    // The receiver is gone if the upload was dropped.
    drop(after.send(whole));
    Ok((digest, bytes))
}

/// Adds bytes to a hasher, on the blocking pool.
pub(super) async fn update(mut hasher: blake3::Hasher, bytes: Bytes) -> Result<blake3::Hasher> {
    let update = move || {
        hasher.update(&bytes);
        hasher
    };
    tokio::task::spawn_blocking(update).await.map_err(Error::internal)
}

/// Hashes bytes on the blocking pool, and returns them with their digest.
pub(super) async fn hash_alone(bytes: Bytes) -> Result<(Digest, Bytes)> {
    tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes)).await.map_err(Error::internal)
}
