//! Downloads: parts are read ahead, verified, and sent in pieces.
//!
//! Every part is compared with its digest before a byte of it is sent. A download sends the content that the path
//! had at its start: after a delete the parts stay for the grace period, and a download that takes longer pins
//! them.
//!
//! **Memory.** A piece is produced on demand, so none is buffered for a slow receiver. All downloads share one
//! budget for parts in memory. When the budget is used up, a download whose client reads slowly or not at all
//! drops its part and reads it again later, so that no slow client blocks others.
//!
//! A file that fits into one message takes one read of the database, which finds its part as well, and no task
//! ([`single_part`]).

pub(super) mod single_part;

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use self::single_part::SinglePart;
use crate::{
    budget::{Peer, Permit, PermitHandle},
    error::{Error, Kind, Result, chain},
    limits::{DOWNLOAD_HOLD, DOWNLOAD_MESSAGE_BYTES, DOWNLOAD_PIECE_WAIT, PART_BYTES_MAX},
    model::{Digest, Stat, StorePath},
    namespace::{
        content::{self, PartRow},
        list,
        pin::Owner,
        sql::Tx,
        tree::{self, File, Target},
    },
    store::{
        Call, Store,
        pieces::{self, Interruption, PieceReceiver, PieceRequests},
    },
};

/// A running download of a file, or of a range of it.
#[derive(Debug)]
pub struct Download {
    /// The metadata of the file at the start of the download; all bytes are of that version.
    pub stat: Stat,
    /// The number of bytes that are still to come.
    left: u64,
    source: DownloadState,
}

/// The source of the bytes of a download.
#[derive(Debug)]
enum DownloadState {
    /// No bytes.
    Nothing,
    /// The only part of a file of one message.
    SinglePart(Box<SinglePart>),
    /// A task that reads the parts.
    Sender(PieceReceiver),
}

impl Download {
    /// The next bytes, at most [`DOWNLOAD_MESSAGE_BYTES`]; `None` after the last or an error.
    ///
    /// # Errors
    /// `Corrupt` if a part is damaged or missing, `Changed` if the content was reclaimed, `Busy` if the permit
    /// of the download is revoked for others, too many downloads wait, the blob store does not answer, or the
    /// store closes, `Internal`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.left == 0 {
            return None;
        }
        let next = match &mut self.source {
            DownloadState::Nothing => None,
            DownloadState::SinglePart(single_part) => single_part.read().await,
            DownloadState::Sender(sender) => sender.next().await,
        };
        let next = next.unwrap_or_else(|| {
            let message = "the download stood still while others waited, or the server is stopping; \
                           try again";
            Err(Error::new(Kind::Busy, message))
        });
        // Nothing follows an error.
        self.left = next.as_ref().map_or(0, |bytes| self.left.saturating_sub(bytes.len() as u64));
        Some(next)
    }
}

/// A part in memory: its offset in the file, its bytes, and its permit in the pool.
struct LoadedPart {
    start: i64,
    bytes: Bytes,
    _share: Permit,
}

/// The range of a content that a download sends.
#[derive(Debug)]
struct Plan {
    path: StorePath,
    content: i64,
    from: i64,
    to: i64,
    peer: Peer,
}

impl Store {
    /// Begins to read `length` bytes of a file from `offset` on; without a length, to the end. A range that
    /// ends beyond the file is cut.
    ///
    /// # Errors
    /// `FileNotFound`, `UnsatisfiableRange` if the offset is beyond the end, `Changed` if the file has
    /// another etag than the one that is given, `Busy` if too many downloads wait, `Timeout`.
    pub async fn download(
        &self,
        path: &StorePath,
        (offset, length): (u64, Option<u64>),
        etag: Option<Digest>,
        call: &Call,
    ) -> Result<Download> {
        // The permit is acquired before the look-up, since the file may be replaced during the wait.
        let turn = call.until(self.0.budgets.downloads.acquire(call.peer(), 1)).await?;
        let at = path.clone();
        let look = move |tx: &mut Tx<'_>| {
            let (file, stat) = find(tx, &at, etag)?;
            let part = single_part::part(tx, &file)?;
            Ok((file, stat, part))
        };
        let (file, stat, part) = self.0.engine.read(call.deadline(), look).await?;
        let size = file.size as u64;
        if offset > size {
            let message = format!("offset {offset} is beyond the {size} bytes of \"{path}\"");
            return Err(Error::new(Kind::UnsatisfiableRange, message)
                .field("offset")
                .with("size_bytes", size.to_string()));
        }
        let to = length.and_then(|length| offset.checked_add(length)).unwrap_or(size).min(size);
        let plan = Plan {
            path: path.clone(),
            content: file.content,
            from: offset as i64,
            to: to as i64,
            peer: call.peer(),
        };
        let left = to - offset;
        if left == 0 {
            return Ok(Download { stat, left, source: DownloadState::Nothing });
        }
        if let Some(part) = part {
            let single_part = Box::new(SinglePart { store: self.clone(), plan, part });
            return Ok(Download { stat, left, source: DownloadState::SinglePart(single_part) });
        }
        let sender = self.begin_send(plan, turn.hold().clone(), Some(turn));
        Ok(Download { stat, left, source: DownloadState::Sender(sender) })
    }

    /// Begins to send all bytes of a file that is pinned, in the turn of the work that reads it.
    pub(super) fn send_pinned(
        &self,
        path: StorePath,
        file: &File,
        (peer, turn): (Peer, PermitHandle),
    ) -> PieceReceiver {
        let plan = Plan { path, content: file.content, from: 0, to: file.size, peer };
        self.begin_send(plan, turn, None)
    }

    /// Begins the task that sends the bytes of a plan. `turn` is the permit that the task itself holds.
    fn begin_send(&self, plan: Plan, hold: PermitHandle, turn: Option<Permit>) -> PieceReceiver {
        let permits = turn.into_iter().collect();
        let (receiver, asks, interruption) = pieces::channel(vec![hold], permits, &self.0.stop);
        let store = self.clone();
        self.spawn(async move { store.send(plan, asks, interruption).await });
        receiver
    }

    /// The task of a download: sends the pieces until all are sent or the work is interrupted.
    async fn send(&self, plan: Plan, mut asks: PieceRequests, mut interruption: Interruption) {
        let _pin = self.pin_after(plan.content, self.0.config.reclaim_grace / 2);
        let sent = tokio::select! {
            sent = self.send_parts(&plan, &mut asks) => sent,
            () = interruption.wait() => return,
        };
        if let Err(error) = sent {
            asks.fail(error, interruption).await;
        }
    }

    async fn send_parts(&self, plan: &Plan, asks: &mut PieceRequests) -> Result<()> {
        let mut from = plan.from;
        while from < plan.to {
            if !asks.wait().await {
                // The receiver is gone.
                return Ok(());
            }
            from = self.send_some(plan, from, asks).await?;
        }
        Ok(())
    }

    /// Sends the parts of one page of rows, until its end or until the receiver is too slow. Returns the next
    /// offset; no part is in memory then.
    async fn send_some(&self, plan: &Plan, mut from: i64, asks: &mut PieceRequests) -> Result<i64> {
        let parts = self.parts(&plan.path, plan.content, from).await?;
        let mut parts = parts.into_iter().filter(|part| part.start < plan.to).peekable();
        let mut ahead = None;
        loop {
            let reading = if let Some(reading) = ahead.take() {
                reading
            } else {
                let Some(part) = parts.next() else { return Ok(from) };
                let share = self.share(plan.peer, &part).await?;
                self.begin_read(plan, part, share)
            };
            let LoadedPart { start, bytes, _share } = reading.await.map_err(Error::internal)??;
            // The next part is read ahead, if the pool has room for both.
            let pool = &self.0.budgets.download_pool;
            let share = |next| pool.try_acquire(plan.peer, pool_size(next)).ok();
            if let Some(share) = parts.peek().and_then(share) {
                ahead = parts.next().map(|next| self.begin_read(plan, next, share));
            }
            let begun = Instant::now();
            let mut bytes = cut(&bytes, from - start, plan.to - start);
            while !bytes.is_empty() {
                if !self.wait_while_held(asks, begun).await {
                    return Ok(from);
                }
                let piece = bytes.split_to(bytes.len().min(DOWNLOAD_MESSAGE_BYTES));
                from += piece.len() as i64;
                asks.answer(Ok(piece));
            }
        }
    }

    /// Waits until a piece is requested of the part that is in memory since `begun`. Returns false if the part is
    /// to be dropped: the receiver is gone, or the pool has no room for the parts of others and the receiver
    /// requests nothing for [`DOWNLOAD_PIECE_WAIT`] or has had the part for [`DOWNLOAD_HOLD`].
    async fn wait_while_held(&self, asks: &mut PieceRequests, begun: Instant) -> bool {
        let is_scarce = || self.0.budgets.download_pool.is_scarce(PART_BYTES_MAX);
        while begun.elapsed() < DOWNLOAD_HOLD || !is_scarce() {
            if asks.wait_until(Instant::now() + DOWNLOAD_PIECE_WAIT).await {
                return true;
            }
            if is_scarce() || asks.is_gone() {
                break;
            }
        }
        false
    }

    /// Acquires the permit of the pool that a part needs.
    pub(super) async fn share(&self, peer: Peer, part: &PartRow) -> Result<Permit> {
        self.0.budgets.download_pool.acquire(peer, pool_size(part)).await
    }

    /// Reads a part in a task of its own, so that the read continues while the previous part is sent. The permit is
    /// held as long as the bytes, even if the download is dropped.
    fn begin_read(
        &self,
        plan: &Plan,
        part: PartRow,
        share: Permit,
    ) -> JoinHandle<Result<LoadedPart>> {
        let (store, path, start) = (self.clone(), plan.path.clone(), part.start);
        let read = async move {
            let bytes = store.read_part(&path, part).await?;
            Ok(LoadedPart { start, bytes, _share: share })
        };
        tokio::spawn(read.in_current_span())
    }

    /// Pins a content after `wait`, until the guard is dropped.
    fn pin_after(&self, content: i64, wait: Duration) -> DropGuard {
        let over = CancellationToken::new();
        let guard = over.clone().drop_guard();
        let store = self.clone();
        self.spawn(async move {
            if timeout(wait, over.cancelled()).await.is_ok() {
                return;
            }
            let owner = Owner::new(&store.0.server);
            let id = owner.id.clone();
            let pin = move |tx: &mut Tx<'_>| content::pin_content(tx, &owner, content);
            if let Err(error) = store.0.engine.write(None, pin).await {
                tracing::info!(error = chain(&error), "a long download could not be pinned");
                return;
            }
            over.cancelled().await;
            store.unpin(id);
        });
        guard
    }
}

fn find(tx: &mut Tx<'_>, path: &StorePath, etag: Option<Digest>) -> Result<(File, Stat)> {
    let Some(target @ Target::File(file)) = tree::resolve(tx, path)? else {
        let message = format!("there is no file \"{path}\"");
        return Err(Error::new(Kind::FileNotFound, message)
            .field("path")
            .with("path", path.as_str()));
    };
    let stat = list::describe(tx, path, &target)?;
    if etag.is_some() && stat.etag != etag {
        let message = format!("\"{path}\" has changed meanwhile; read it from the start");
        return Err(Error::new(Kind::Changed, message).field("etag").with("path", path.as_str()));
    }
    Ok((file, stat))
}

/// The bytes between two offsets within a part, cut to its bounds.
fn cut(bytes: &Bytes, from: i64, to: i64) -> Bytes {
    let clamp = |offset| usize::try_from(offset).unwrap_or(0).min(bytes.len());
    bytes.slice(clamp(from)..clamp(to).max(clamp(from)))
}

/// The bytes that a part takes of the pool. A part of one message takes none, so that it need not wait behind
/// large ones.
fn pool_size(part: &PartRow) -> usize {
    // A row with a wrong size is refused when its part is read; the bound keeps it from waiting for ever before.
    let size = usize::try_from(part.size).unwrap_or(0).min(PART_BYTES_MAX);
    if size <= DOWNLOAD_MESSAGE_BYTES { 0 } else { size }
}
