//! Cuts a stream of bytes into parts, and stores each part while the next one is filled.
//!
//! Every upload may buffer a guaranteed minimum. Above it, the buffer of a whole part is taken from a budget that
//! all uploads share, and parts that are being written count as well. When the budget is used up, an upload waits
//! for room, since parts of another size are not deduplicated. It waits for a bounded time only. After that it
//! cuts smaller parts and waits for each to be written, up to the offset at which the next whole part begins. An
//! upload with many small parts then waits for whole ones.
//!
//! A client that needs seconds to fill a part keeps its buffer only while the budget has room for others; when it
//! has none, the bytes that have arrived become a part. So no upload blocks another, and all uploads together
//! hold at most the budget and a minimum each.

use std::pin::pin;

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tracing::Instrument;

use crate::{
    blob::Buffer,
    budget::{Peer, Permit},
    error::{Error, Kind, Result},
    limits::{
        INLINE_BYTES_MAX, PART_BYTES_MAX, UPLOAD_BUFFER_BYTES_MIN, UPLOAD_HOLD, UPLOAD_HOLD_BYTES,
        UPLOAD_PARTS_EARLY, UPLOAD_PARTS_IN_FLIGHT, UPLOAD_PARTS_MAX,
    },
    model::{Digest, StorePath},
    namespace::{
        content::{Part, Place},
        pin::Owner,
    },
    store::{
        Store,
        hash::{Hasher, hash, hash_alone},
        object::ObjectGuard,
        space::Claim,
    },
};

/// Cuts a stream into parts and stores them.
#[derive(Debug)]
pub(super) struct PartWriter {
    store: Store,
    path: StorePath,
    peer: Peer,
    /// The owner of the pins of the parts.
    pub(super) owner: Owner,
    buffer: Buffer,
    /// The permit of the buffer in the pool, and when it was acquired.
    pool: Option<(Permit, Instant)>,
    /// The number of bytes to come in all, if it is known.
    expected: Option<u64>,
    /// The number of bytes in the parts that were cut.
    flushed: u64,
    /// Whether the wait for a whole buffer failed: parts are cut small until the next whole one begins.
    is_late: bool,
    pub(super) received: u64,
    hasher: Hasher,
    /// The parts that are stored or being stored, each pinned.
    pub(super) parts: Vec<Storing>,
    /// The number of parts, from the first on, whose storing has ended.
    settled: usize,
    /// The claim on the disk of a file of one part, until its upload ends.
    claim: Option<Claim>,
    /// Whether there are pins, or may be: a write job that has begun commits even if its future is dropped.
    pub(super) has_pins: bool,
}

/// The error for an upload with more than [`UPLOAD_PARTS_MAX`] parts.
pub(super) fn too_many_parts(path: &StorePath) -> Error {
    let message = format!(
        "\"{path}\" has more than {UPLOAD_PARTS_MAX} parts of at most {PART_BYTES_MAX} bytes, so that it is \
         too large; nothing is stored; upload it as several files"
    );
    Error::new(Kind::TooLarge, message).field("size_bytes").with("path", path.as_str())
}

/// A part that is being stored, or was.
#[derive(Debug)]
pub(super) enum Storing {
    Running(JoinHandle<Result<Part>>),
    Done(Part),
    /// Its error was returned once.
    Failed,
}

impl Storing {
    async fn settle(&mut self) -> Result<()> {
        if let Self::Running(task) = self {
            let part = task.await.map_err(Error::internal).flatten();
            // A task can be joined only once.
            *self = part.as_ref().map_or(Self::Failed, |part| Self::Done(part.clone()));
            part?;
        }
        Ok(())
    }
}

impl PartWriter {
    /// Makes a part writer for `expected` bytes, if the number is known. The caller has a permit of the upload.
    pub(super) fn new(store: &Store, path: &StorePath, expected: Option<u64>, peer: Peer) -> Self {
        Self {
            store: store.clone(),
            path: path.clone(),
            peer,
            owner: Owner::new(&store.0.server),
            buffer: Buffer::default(),
            pool: None,
            expected,
            flushed: 0,
            is_late: false,
            received: 0,
            hasher: Hasher::default(),
            parts: Vec::new(),
            settled: 0,
            claim: None,
            has_pins: false,
        }
    }

    /// Takes the next bytes. Waits for buffers, and for parts that are being written.
    pub(super) async fn write(&mut self, mut data: Bytes) -> Result<()> {
        self.received += data.len() as u64;
        while !data.is_empty() {
            let left = self.part_bytes() - self.buffer.len();
            let room = if left == 0 { 0 } else { self.room(data.len().min(left)).await };
            if room == 0 {
                self.flush().await?;
                continue;
            }
            self.buffer.extend_from_slice(&data.split_to(room));
        }
        Ok(())
    }

    /// The size of the part that is being filled: it ends at a multiple of [`PART_BYTES_MAX`], unless it is cut
    /// early, so that equal files have equal parts.
    fn part_bytes(&self) -> usize {
        let into = usize::try_from(self.flushed % PART_BYTES_MAX as u64).unwrap_or(0);
        PART_BYTES_MAX - into
    }

    /// Returns how many of `wanted` bytes the buffer takes. Above the minimum, acquires the buffer of a whole part.
    async fn room(&mut self, wanted: usize) -> usize {
        let free = UPLOAD_BUFFER_BYTES_MIN.saturating_sub(self.buffer.len());
        if self.pool.is_some() || wanted <= free {
            return wanted;
        }
        let rest = self.expected.map_or(u64::MAX, |expected| expected - self.flushed);
        let part = usize::try_from(rest).unwrap_or(usize::MAX).min(self.part_bytes());
        let pool = &self.store.0.budgets.upload_pool;
        let mut room = if self.is_late {
            pool.try_acquire(self.peer, part)
        } else {
            pool.acquire(self.peer, part).await
        };
        while room.is_err() && self.parts.len() >= UPLOAD_PARTS_EARLY {
            sleep(UPLOAD_HOLD).await;
            room = pool.acquire(self.peer, part).await;
        }
        self.is_late = room.is_err();
        self.pool = room.ok().map(|room| (room, Instant::now()));
        if self.is_late { free } else { wanted }
    }

    /// Awaits the next bytes of the sender, and meanwhile gives back a buffer that it holds for too long.
    pub(super) async fn wait_for<T>(&mut self, bytes: impl Future<Output = T>) -> Result<T> {
        let mut bytes = pin!(bytes);
        loop {
            tokio::select! {
                biased;
                bytes = &mut bytes => return Ok(bytes),
                given = self.give_back() => given?,
            }
        }
    }

    /// Resolves when a slow sender's bytes are being stored as a part because others need the buffer. Never resolves
    /// without a buffer of the pool.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    async fn give_back(&mut self) -> Result<()> {
        let Some((_, since)) = &self.pool else { return std::future::pending().await };
        // The time that a sender of the required speed takes for the buffered bytes, and one step more.
        let steps = u32::try_from(self.buffer.len() / UPLOAD_HOLD_BYTES).unwrap_or(u32::MAX);
        let mut due = *since + UPLOAD_HOLD * (steps + 1);
        loop {
            sleep_until(due).await;
            if self.store.0.budgets.upload_pool.is_scarce(PART_BYTES_MAX) {
                return self.flush().await;
            }
            due = Instant::now() + UPLOAD_HOLD;
        }
    }

    /// Begins to store the buffer as a part.
    async fn flush(&mut self) -> Result<()> {
        self.settle(UPLOAD_PARTS_IN_FLIGHT - 1).await?;
        if self.parts.len() >= UPLOAD_PARTS_MAX {
            return Err(too_many_parts(&self.path));
        }
        let claim = self.store.0.space.claim(self.buffer.len() as u64).await?;
        let bytes = self.buffer.take();
        self.flushed += bytes.len() as u64;
        // At the offset of a whole part the wait for its buffer is tried again.
        self.is_late &= !self.flushed.is_multiple_of(PART_BYTES_MAX as u64);
        let (before, after) = self.hasher.link();
        let store = self.store.clone();
        let (owner, path) = (self.owner.clone(), self.path.clone());
        let pool = self.pool.take().map(|(room, _)| room);
        // The part in the guaranteed minimum needs a permit of its own, since the next part uses the minimum.
        let cover = || {
            self.store.0.budgets.upload_pool.try_acquire(self.peer, UPLOAD_BUFFER_BYTES_MIN).ok()
        };
        let cover = pool.or_else(cover);
        let is_covered = cover.is_some();
        // A task of its own, not aborted: an object that is put gets its row or is marked for deletion.
        let storing = async move {
            let (digest, bytes) = hash(bytes, before, after).await?;
            let part = store.store_part(&owner, &path, digest, bytes).await;
            drop((cover, claim));
            part
        };
        let task = tokio::spawn(storing.in_current_span());
        self.has_pins = true;
        self.parts.push(Storing::Running(task));
        if is_covered { Ok(()) } else { self.settle(0).await }
    }

    /// Waits until at most `left` parts are being stored.
    async fn settle(&mut self, left: usize) -> Result<()> {
        while self.parts.len() - self.settled > left
            && let Some(oldest) = self.parts.get_mut(self.settled)
        {
            oldest.settle().await?;
            self.settled += 1;
        }
        Ok(())
    }

    /// Stores the rest and waits for all parts. Returns the parts, the digest of all bytes, and the object of a
    /// single part, whose row is written with the entry.
    pub(super) async fn finish(&mut self) -> Result<(Vec<Part>, Digest, Option<ObjectGuard>)> {
        if self.parts.is_empty() {
            return self.finish_single().await;
        }
        let (parts, digest) = self.finish_stored().await?;
        Ok((parts, digest, None))
    }

    /// Stores the rest, also of a file of one part, and waits for all parts. Returns the parts, each pinned, and the
    /// digest of all bytes.
    pub(super) async fn finish_stored(&mut self) -> Result<(Vec<Part>, Digest)> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        self.settle(0).await?;
        let stored = self.parts.iter().map(|storing| match storing {
            Storing::Done(part) => Ok(part.clone()),
            Storing::Running(_) | Storing::Failed => {
                Err(Error::internal("a part of the upload was not stored"))
            }
        });
        let parts = stored.collect::<Result<_>>()?;
        let digest = self.hasher.finish().await?;
        Ok((parts, digest))
    }

    /// Finishes a file of at most one part. A new part needs no pin: its row is written with its entry.
    async fn finish_single(&mut self) -> Result<(Vec<Part>, Digest, Option<ObjectGuard>)> {
        let bytes = self.buffer.take();
        let size = bytes.len() as i64;
        if bytes.is_empty() {
            return Ok((Vec::new(), Digest::of(&[]), None));
        }
        self.claim = Some(self.store.0.space.claim(bytes.len() as u64).await?);
        if bytes.len() <= INLINE_BYTES_MAX {
            let digest = Digest::of(&bytes);
            return Ok((vec![Part { digest, size, place: Place::Inline(bytes) }], digest, None));
        }
        let (digest, bytes) = hash_alone(bytes).await?;
        // A part that is stored already may be reclaimed before the commit, unless it is pinned.
        self.has_pins = true;
        if self.store.find_part(&self.owner, &self.path, digest, &bytes).await? {
            let part = Part { digest, size, place: Place::Stored };
            self.parts.push(Storing::Done(part.clone()));
            self.settled = self.parts.len();
            return Ok((vec![part], digest, None));
        }
        let object = self.store.put_object(&self.path, digest, bytes).await?;
        let part = Part { digest, size, place: Place::Object(object.key.clone()) };
        Ok((vec![part], digest, Some(object)))
    }
}

impl Drop for PartWriter {
    /// Drops the pins of all parts, once those that are being stored have ended.
    fn drop(&mut self) {
        if !self.has_pins {
            return;
        }
        let parts = std::mem::take(&mut self.parts);
        let (store, owner) = (self.store.clone(), self.owner.id.clone());
        self.store.spawn(async move {
            for mut part in parts {
                // The error was returned already, or the caller is gone.
                drop(part.settle().await);
            }
            store.unpin(owner);
        });
    }
}
