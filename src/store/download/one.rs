//! Files of one message: their part is found with them, and read by whoever asks for its bytes. Until then they
//! hold nothing that others could wait for.

use bytes::Bytes;

use super::{Plan, cut};
use crate::{
    error::{Kind, Result},
    limits::DOWNLOAD_MESSAGE_BYTES,
    namespace::{
        content::{self, PartRow},
        sql::Tx,
        tree::File,
    },
    store::Store,
};

/// The part of a download, which is still to be read.
#[derive(Debug)]
pub(super) struct One {
    pub(super) store: Store,
    pub(super) plan: Plan,
    pub(super) part: PartRow,
}

impl One {
    /// Reads the bytes; nothing where the store closes.
    ///
    /// # Errors
    /// Those of [`Store::read_part`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn read(&self) -> Option<Result<Bytes>> {
        let Self { store, plan, part, .. } = self;
        let bytes = tokio::select! {
            bytes = store.read_part(&plan.path, part.clone()) => bytes,
            () = store.0.stop.cancelled() => return None,
        };
        Some(bytes.map(|bytes| cut(&bytes, plan.from, plan.to)))
    }
}

/// The only part of a file that goes out in one message. Where its list is not what it should be, there is none:
/// the download itself finds out what is wrong.
///
/// # Errors
/// Those of the engine.
pub(super) fn part(tx: &mut Tx<'_>, file: &File) -> Result<Option<PartRow>> {
    if file.size == 0 || file.size > DOWNLOAD_MESSAGE_BYTES as i64 {
        return Ok(None);
    }
    let parts = match content::parts(tx, file.content, 0) {
        Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Changed) => return Ok(None),
        parts => parts?,
    };
    let part = <[PartRow; 1]>::try_from(parts).ok().map(|[part]| part);
    Ok(part.filter(|part| part.size == file.size))
}
