//! Downloads of files that fit into one message: the look-up of the file finds its part as well, and the part is
//! read when the caller requests the bytes. Until then the download holds no permit.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{Plan, cut};
use crate::{
    error::{Error, Kind, Result},
    limits::DOWNLOAD_MESSAGE_BYTES,
    namespace::{
        content::{self, PartRow},
        sql::Tx,
        tree::File,
    },
    store::Store,
};

/// A download of one part that is not read yet.
#[derive(Debug)]
pub(super) struct SinglePart {
    pub(super) store: Store,
    pub(super) plan: Plan,
    pub(super) part: PartRow,
}

impl SinglePart {
    /// Reads the bytes; `None` if the store closes.
    ///
    /// # Errors
    /// Those of [`Store::read_part`]; `Busy` if too many downloads wait; `Corrupt` for a part of another size.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn read(&self) -> Option<Result<Bytes>> {
        tokio::select! {
            bytes = self.read_part() => Some(bytes),
            () = self.store.0.stop.cancelled() => None,
        }
    }

    async fn read_part(&self) -> Result<Bytes> {
        let Self { store, plan, part } = self;
        let mut read = pin!(async {
            // Every read of an object has a permit of the downloads, so that peers share the blob store.
            let _turn = match part.object {
                Some(_) => Some(store.0.budgets.downloads.acquire(plan.peer, 1).await?),
                None => None,
            };
            store.read_part(&plan.path, part.clone()).await
        });
        let bytes = if let Ok(bytes) = timeout(store.0.config.reclaim_grace / 2, &mut read).await {
            bytes?
        } else {
            let _pin = store.pin_after(plan.content, Duration::ZERO);
            read.await?
        };
        if bytes.len() as i64 != part.size {
            let message =
                format!("\"{}\": a part has {} bytes, not {}", plan.path, bytes.len(), part.size);
            return Err(Error::new(Kind::Corrupt, message).with("path", plan.path.as_str()));
        }
        Ok(cut(&bytes, plan.from, plan.to))
    }
}

/// The only part of a file that fits into one message. `None` for other files, and for a damaged list of parts,
/// which the ordinary download reports.
///
/// # Errors
/// Those of the engine.
pub(in crate::store) fn part(tx: &mut Tx<'_>, file: &File) -> Result<Option<PartRow>> {
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
