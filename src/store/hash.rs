//! The BLAKE3 digests of an upload: of each part, and of the whole file.
//!
//! Parts are hashed on the blocking pool, several at once. The hasher of the whole file is handed from part to
//! part in their order, so that no bytes are kept for it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    model::Digest,
};

/// The digest of a whole file, passed from part to part in order.
#[derive(Debug, Default)]
pub(super) struct Hasher(Option<oneshot::Receiver<blake3::Hasher>>);

impl Hasher {
    /// Where the next part takes the state from, and where it leaves it.
    pub(super) fn link(
        &mut self,
    ) -> (Option<oneshot::Receiver<blake3::Hasher>>, oneshot::Sender<blake3::Hasher>) {
        let (after, next) = oneshot::channel();
        (self.0.replace(next), after)
    }

    /// The digest, once every part is done.
    pub(super) async fn finish(&mut self) -> Result<Digest> {
        let last = self.0.take().ok_or_else(|| Error::internal("no part was hashed"))?;
        Ok(last.await.map_err(Error::internal)?.finalize().into())
    }
}

/// Digests a part, and the file as far as it goes.
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
    // An upload that broke off needs no digest.
    drop(after.send(whole));
    Ok((digest, bytes))
}

/// Goes on with a digest.
pub(super) async fn update(mut hasher: blake3::Hasher, bytes: Bytes) -> Result<blake3::Hasher> {
    let update = move || {
        hasher.update(&bytes);
        hasher
    };
    tokio::task::spawn_blocking(update).await.map_err(Error::internal)
}

/// Digests a file of one part.
pub(super) async fn hash_alone(bytes: Bytes) -> Result<(Digest, Bytes)> {
    tokio::task::spawn_blocking(move || (Digest::of(&bytes), bytes)).await.map_err(Error::internal)
}
