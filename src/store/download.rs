//! Downloads: parts are read ahead, checked, and sent in pieces.
//!
//! Every part is checked against its digest before a byte of it is sent. What is sent is the content
//! that the path had at the start: its parts stay for the grace after a delete, and a download that
//! takes longer pins them.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, Kind, Result},
    limits::{BODY_STALL, DOWNLOAD_WAIT, STREAM_MESSAGE_BYTES},
    model::{Digest, StorePath},
    namespace::{
        content::{self, PartRow},
        pin::{self, Owner},
        sql::Tx,
        tree::{self, File, Target},
    },
    store::{Call, Store},
};

/// Parts that are read at once for one download.
const READ_AHEAD: usize = 2;
/// Pieces that wait for the receiver.
const PIECES_WAITING: usize = 2;

/// The bytes of a file, or of a range of it.
#[derive(Debug)]
pub struct Download {
    /// The size of the whole file.
    pub size: u64,
    pieces: mpsc::Receiver<Result<Bytes>>,
}

impl Download {
    /// The next bytes, at most [`STREAM_MESSAGE_BYTES`]; nothing after the last.
    ///
    /// # Errors
    /// `Corrupt` if a part is not what was stored.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.pieces.recv().await
    }
}

/// What a download sends.
struct Plan {
    path: StorePath,
    content: i64,
    from: i64,
    to: i64,
}

impl Store {
    /// Begins to read `length` bytes of a file from `offset` on; no length: to the end.
    ///
    /// # Errors
    /// `FileNotFound`, `UnsatisfiableRange` if the offset is beyond the end, `Changed` if the file has
    /// another etag than the one that is given.
    pub async fn download(
        &self,
        path: &StorePath,
        (offset, length): (u64, Option<u64>),
        etag: Option<Digest>,
        call: Call,
    ) -> Result<Download> {
        let at = path.clone();
        let file = self.0.engine.read(call.deadline, move |tx| find(tx, &at, etag)).await?;
        let size = file.size as u64;
        if offset > size {
            let message = format!("offset {offset} is beyond the {size} bytes of \"{path}\"");
            return Err(Error::new(Kind::UnsatisfiableRange, message)
                .field("offset")
                .with("size_bytes", size.to_string()));
        }
        let to = length.and_then(|length| offset.checked_add(length)).unwrap_or(size).min(size);
        let busy = || Error::new(Kind::Busy, "too many downloads run already; try again later");
        let turn = timeout(DOWNLOAD_WAIT, Arc::clone(&self.0.downloads).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let plan =
            Plan { path: path.clone(), content: file.content, from: offset as i64, to: to as i64 };
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let store = self.clone();
        self.0.tasks.spawn(async move { store.send(plan, sender, turn).await });
        Ok(Download { size, pieces })
    }

    /// Sends a download, until it is done, its receiver is gone or stands still, or the store closes.
    async fn send(
        &self,
        plan: Plan,
        sender: mpsc::Sender<Result<Bytes>>,
        _turn: OwnedSemaphorePermit,
    ) {
        let _pin = self.pin_if_it_lasts(plan.content);
        let sent = tokio::select! {
            sent = self.send_parts(&plan, &sender) => sent,
            () = self.0.stop.cancelled() => {
                Err(Error::new(Kind::Busy, "the server is stopping; try again"))
            }
            () = sender.closed() => return,
        };
        if let Err(error) = sent {
            if error.kind() == Kind::Internal {
                tracing::error!(path = %plan.path, ?error, "a download failed");
            }
            // A receiver that stands still does not get it, but then its stream just ends early.
            drop(timeout(BODY_STALL, sender.send(Err(error))).await);
        }
    }

    async fn send_parts(&self, plan: &Plan, sender: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        let mut from = plan.from;
        while from < plan.to {
            let content = plan.content;
            let parts =
                self.0.engine.read(None, move |tx| content::parts(tx, content, from)).await?;
            // What is being taken apart loses its first parts first.
            let has = |part: &PartRow| (part.start..part.start + part.size).contains(&from);
            if !parts.first().is_some_and(has) {
                let message = format!("\"{}\" was deleted while it was read", plan.path);
                return Err(Error::new(Kind::Changed, message).with("path", plan.path.as_str()));
            }
            let wanted = parts.into_iter().filter(|part| part.start < plan.to);
            let mut read = stream::iter(wanted)
                .map(|part| self.spawn_read(plan.path.clone(), part))
                .buffered(READ_AHEAD);
            while let Some(part) = read.next().await {
                let (start, bytes) = part?;
                let mut bytes = cut(&bytes, from - start, plan.to - start);
                from += bytes.len() as i64;
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(STREAM_MESSAGE_BYTES));
                    match timeout(BODY_STALL, sender.send(Ok(piece))).await {
                        Ok(sent) => sent.map_err(|_| left())?,
                        Err(_) => return Err(left()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a part in a task of its own, so that reading goes on while the part before is sent.
    async fn spawn_read(&self, path: StorePath, part: PartRow) -> Result<(i64, Bytes)> {
        let store = self.clone();
        let start = part.start;
        let read = tokio::spawn(async move { store.read_part(&path, part).await });
        Ok((start, read.await.map_err(Error::internal)??))
    }

    /// Pins a content once half the grace has passed, until the guard is dropped.
    fn pin_if_it_lasts(&self, content: i64) -> DropGuard {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        let store = self.clone();
        self.0.tasks.spawn(async move {
            let wait = store.0.config.reclaim_grace / 2;
            if timeout(wait, over.cancelled()).await.is_ok() {
                return;
            }
            let owner = Owner::new(&store.0.server);
            let id = owner.id.clone();
            let pin = move |tx: &mut Tx<'_>| content::pin_content(tx, &owner, content);
            if let Err(error) = store.0.engine.write(None, pin).await {
                tracing::info!(%error, "a long download could not be pinned");
                return;
            }
            over.cancelled().await;
            if let Err(error) = store.0.engine.write(None, move |tx| pin::unpin(tx, &id)).await {
                tracing::warn!(?error, "the pin of a download is left to expire");
            }
        });
        guard
    }
}

fn find(tx: &mut Tx<'_>, path: &StorePath, etag: Option<Digest>) -> Result<File> {
    let Some(Target::File(file)) = tree::resolve(tx, path)? else {
        let message = format!("there is no file \"{path}\"");
        return Err(Error::new(Kind::FileNotFound, message)
            .field("path")
            .with("path", path.as_str()));
    };
    if etag.is_some() && content::digests(tx, file.content)?.0 != etag {
        let message = format!("\"{path}\" has changed meanwhile; read it from the start");
        return Err(Error::new(Kind::Changed, message).field("etag").with("path", path.as_str()));
    }
    Ok(file)
}

/// The bytes of a part between two offsets, or what there is of them.
fn cut(bytes: &Bytes, from: i64, to: i64) -> Bytes {
    let clamp = |offset| usize::try_from(offset).unwrap_or(0).min(bytes.len());
    bytes.slice(clamp(from)..clamp(to).max(clamp(from)))
}

fn left() -> Error {
    Error::new(Kind::Cancelled, "the receiver left or stood still")
}
