//! Uploads: bytes are cut, hashed and stored while they arrive.
//!
//! Memory is bounded whatever the size of the file: one part is filled while a few are written. Above
//! a guaranteed minimum the room for a whole part comes from a pool that all uploads share, and what is
//! being written is covered by the pool. Where it is empty an upload waits for its turn, since bytes that
//! are cut elsewhere are stored once more. It does not wait for long: then parts are cut early and awaited,
//! up to where the next whole part begins. So no upload can hold up another, and all of them together
//! hold at most the pool and a minimum each.
//!
//! **Invariants:** an object is buried by its guard unless a row names it; pins of an upload that
//! breaks off are dropped. Whatever is dropped half-way leaves nothing but what reclamation finds.

use bytes::Bytes;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{
    blob::Buffer,
    budget::{Hold, Peer, Permit},
    error::{Error, Kind, Result},
    limits::{
        INLINE_BYTES_MAX, PART_BYTES_MAX, TOTAL_MAX, UNPIN_ROWS, UPLOAD_BUFFER_BYTES_MIN,
        UPLOAD_PARTS_IN_FLIGHT,
    },
    model::{Digest, Stat, StorePath},
    namespace::{
        assembly, condition,
        content::{NewFile, Part, Place},
        list,
        pin::{self, Owner},
        sql::Tx,
    },
    store::{
        Call, Incoming, Store, Stored,
        hash::{Hasher, hash, hash_alone},
        object::NewObject,
        space::Claim,
    },
};

/// An upload on its way. Dropped before [`Upload::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    incoming: Incoming,
    pub(super) cutter: Cutter,
    call: Call,
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// `AlreadyExists` onto a folder or below a file, unless it may replace them, `PreconditionFailed`,
    /// `NoSpace`, `TooLarge`, `Busy` if too many uploads wait, `Timeout`.
    pub async fn upload(&self, incoming: Incoming, call: Call) -> Result<Upload> {
        // The commit checks it again; here it spares the bytes, and the path is judged before them.
        let (path, replaces) = (incoming.path.clone(), incoming.replaces);
        let conditions = incoming.conditions.clone();
        let check =
            move |tx: &mut Tx<'_>| condition::check_file(tx, (&path, replaces), &conditions);
        self.0.engine.read(call.deadline, check).await?;
        let cutter = self.cut(&incoming.path, incoming.size, call).await?;
        Ok(Upload { store: self.clone(), incoming, cutter, call })
    }

    /// Waits for a turn and begins to cut bytes, `expected` of them if that is known.
    pub(super) async fn cut(
        &self,
        path: &StorePath,
        expected: Option<u64>,
        call: Call,
    ) -> Result<Cutter> {
        let size = expected.unwrap_or(0);
        if size > TOTAL_MAX as u64 {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{size} bytes are more than {TOTAL_MAX}"),
            )
            .field("size_bytes"));
        }
        self.0.space.check(size)?;
        let turn = call.until(self.0.uploads.acquire(call.peer, 1)).await?;
        let owner = Owner::new(&self.0.server);
        Ok(Cutter {
            store: self.clone(),
            path: path.clone(),
            peer: call.peer,
            owner,
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
            turn,
        })
    }
}

impl Upload {
    /// Gives what follows another deadline.
    pub fn limit(&mut self, call: Call) {
        self.call = call;
    }

    /// Its turn among the uploads.
    pub fn turn(&self) -> Hold {
        self.cutter.turn.hold().clone()
    }

    /// Takes the next bytes; waits while enough parts are being written.
    ///
    /// # Errors
    /// `DataLoss` if there are more bytes than announced, `NoSpace`, `Timeout`, `Internal`. The upload is of
    /// no use any more then.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.call.check()?;
        if let Some(size) = self.incoming.size
            && self.cutter.received + data.len() as u64 > size
        {
            let message = format!("more bytes came than {size}; nothing is stored");
            return Err(Error::new(Kind::DataLoss, message).field("size_bytes"));
        }
        self.call.until(Box::pin(self.cutter.write(data))).await
    }

    /// Takes what the caller says of the bytes after the last of them.
    ///
    /// # Errors
    /// `DataLoss` if that is not what came, or not what was announced.
    pub fn end(&mut self, size: Option<u64>, digest: Option<Digest>) -> Result<()> {
        self.check_size(size)?;
        if let Some(digest) = digest {
            let announced = self.incoming.digest.replace(digest);
            announced.map_or(Ok(()), |announced| check_digest(digest, announced))?;
        }
        Ok(())
    }

    fn check_size(&self, said: Option<u64>) -> Result<()> {
        let received = self.cutter.received;
        let Some(size) = said.filter(|size| *size != received) else { return Ok(()) };
        let message = format!("{received} bytes came instead of {size}; nothing is stored");
        Err(Error::new(Kind::DataLoss, message).field("size_bytes"))
    }

    /// Makes the file visible, and describes it.
    ///
    /// # Errors
    /// Those of [`Upload::store`].
    pub async fn finish(self) -> Result<Stat> {
        Ok(self.store().await?.stat)
    }

    /// Makes the file visible, once every byte of it would survive a power cut.
    ///
    /// # Errors
    /// `DataLoss` if size or digest are not as announced, `Timeout`, those of the commit. Nothing is
    /// visible then.
    pub async fn store(mut self) -> Result<Stored> {
        self.check_size(self.incoming.size)?;
        let (parts, digest, object) = self.call.until(Box::pin(self.cutter.finish())).await?;
        self.incoming.digest.map_or(Ok(()), |expected| check_digest(digest, expected))?;
        let pins = self.cutter.parts.len();
        let Incoming { path, replaces, .. } = self.incoming.clone();
        let owner = self.cutter.owner.clone();
        let (list, parts) = self.store.assemble_long(&owner, parts, self.call).await?;
        let file = NewFile { path, replaces, parts, digest: Some(digest) };
        let conditions = std::mem::take(&mut self.incoming.conditions);
        let commit = move |tx: &mut Tx<'_>| {
            if pins > 0 && list.is_none() {
                pin::check(tx, &owner.id, pins)?;
            }
            if !conditions.is_empty() {
                condition::check_file(tx, (&file.path, replaces), &conditions)?;
            }
            let (_, files_replaced) = assembly::put_file(tx, &owner, &file, list.as_ref())?;
            // Many go in steps, when the cutter is dropped.
            if pins <= UNPIN_ROWS {
                pin::unpin(tx, &owner.id)?;
            }
            Ok(Stored { stat: list::stat(tx, &file.path)?, files_replaced })
        };
        let stored = self.store.0.engine.write(self.call.deadline, commit).await?;
        self.cutter.has_pins = pins > UNPIN_ROWS;
        object.into_iter().for_each(NewObject::decide);
        Ok(stored)
    }
}

fn check_digest(digest: Digest, expected: Digest) -> Result<()> {
    if digest == expected {
        return Ok(());
    }
    let message = format!("the bytes have the digest {digest}, not {expected}; nothing is stored");
    Err(Error::new(Kind::DataLoss, message).field("blake3"))
}

/// Cuts a stream into parts and stores them.
#[derive(Debug)]
pub(super) struct Cutter {
    store: Store,
    path: StorePath,
    peer: Peer,
    /// Holds the pins of the parts.
    pub(super) owner: Owner,
    buffer: Buffer,
    /// What the buffer has of the pool.
    pool: Option<Permit>,
    /// How many bytes there will be, if that is known.
    expected: Option<u64>,
    /// The bytes of the parts that were cut.
    flushed: u64,
    /// Whether it has waited in vain, and cuts early until the next whole part.
    is_late: bool,
    pub(super) received: u64,
    hasher: Hasher,
    /// The parts that are stored or on their way, each pinned.
    pub(super) parts: Vec<Storing>,
    /// How many of them are known to be stored.
    settled: usize,
    /// The room on the disk of a file of one part, until it is there.
    claim: Option<Claim>,
    /// Whether it has pins, or may have: a job that began takes effect whether its answer comes or not.
    pub(super) has_pins: bool,
    pub(super) turn: Permit,
}

/// A part on its way.
#[derive(Debug)]
pub(super) enum Storing {
    Running(JoinHandle<Result<Part>>),
    Done(Part),
    /// Why was told once.
    Failed,
}

impl Storing {
    async fn settle(&mut self) -> Result<()> {
        if let Self::Running(task) = self {
            let part = task.await.map_err(Error::internal).flatten();
            // A task answers once.
            *self = part.as_ref().map_or(Self::Failed, |part| Self::Done(part.clone()));
            part?;
        }
        Ok(())
    }
}

impl Cutter {
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

    /// The size of the part that is being filled: up to where a whole part ends, so that equal bytes are
    /// cut alike.
    fn part_bytes(&self) -> usize {
        let into = usize::try_from(self.flushed % PART_BYTES_MAX as u64).unwrap_or(0);
        PART_BYTES_MAX - into
    }

    /// How many of `wanted` bytes of the part the buffer takes.
    async fn room(&mut self, wanted: usize) -> usize {
        let free = UPLOAD_BUFFER_BYTES_MIN.saturating_sub(self.buffer.len());
        if self.pool.is_some() || wanted <= free {
            return wanted;
        }
        let rest = self.expected.map_or(u64::MAX, |expected| expected - self.flushed);
        let part = usize::try_from(rest).unwrap_or(usize::MAX).min(self.part_bytes());
        let pool = &self.store.0.upload_pool;
        self.pool = if self.is_late {
            pool.try_acquire(self.peer, part).ok()
        } else {
            pool.acquire(self.peer, part).await.ok()
        };
        self.is_late = self.pool.is_none();
        if self.is_late { free } else { wanted }
    }

    /// Sends the buffer on its way as a part.
    async fn flush(&mut self) -> Result<()> {
        self.settle(UPLOAD_PARTS_IN_FLIGHT - 1).await?;
        let claim = self.store.0.space.claim(self.buffer.len() as u64)?;
        let bytes = self.buffer.take();
        self.flushed += bytes.len() as u64;
        // A whole part begins now, and is worth another wait.
        self.is_late &= !self.flushed.is_multiple_of(PART_BYTES_MAX as u64);
        let (before, after) = self.hasher.link();
        let store = self.store.clone();
        let (owner, path, pool) = (self.owner.clone(), self.path.clone(), self.pool.take());
        // The next part has the minimum for itself.
        let cover =
            || self.store.0.upload_pool.try_acquire(self.peer, UPLOAD_BUFFER_BYTES_MIN).ok();
        let cover = pool.or_else(cover);
        let is_covered = cover.is_some();
        // A task of its own, not aborted: an object that is put gets its row or is buried.
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

    /// Waits until at most `left` parts are on their way.
    async fn settle(&mut self, left: usize) -> Result<()> {
        while self.parts.len() - self.settled > left
            && let Some(oldest) = self.parts.get_mut(self.settled)
        {
            oldest.settle().await?;
            self.settled += 1;
        }
        Ok(())
    }

    /// Stores what is left and waits for all. Returns the parts, the digest of all bytes, and the
    /// object of a single part, which gets its row with its entry.
    pub(super) async fn finish(&mut self) -> Result<(Vec<Part>, Digest, Option<NewObject>)> {
        if self.parts.is_empty() {
            return self.finish_single().await;
        }
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
        Ok((parts, digest, None))
    }

    /// A file of at most one part: no pin, one transaction.
    async fn finish_single(&mut self) -> Result<(Vec<Part>, Digest, Option<NewObject>)> {
        let bytes = self.buffer.take();
        let size = bytes.len() as i64;
        if bytes.is_empty() {
            return Ok((Vec::new(), Digest::of(&[]), None));
        }
        self.claim = Some(self.store.0.space.claim(bytes.len() as u64)?);
        if bytes.len() <= INLINE_BYTES_MAX {
            let digest = Digest::of(&bytes);
            return Ok((vec![Part { digest, size, place: Place::Inline(bytes) }], digest, None));
        }
        let (digest, bytes) = hash_alone(bytes).await?;
        // A part that is there may be reclaimed before the commit, unless it is pinned.
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

impl Drop for Cutter {
    /// Drops the pins of what is stored or on its way.
    fn drop(&mut self) {
        if !self.has_pins {
            return;
        }
        let parts = std::mem::take(&mut self.parts);
        let (store, owner) = (self.store.clone(), self.owner.id.clone());
        self.store.spawn(async move {
            for mut part in parts {
                // Why a part failed was told already, or nobody is left to tell.
                drop(part.settle().await);
            }
            store.unpin(owner);
        });
    }
}
