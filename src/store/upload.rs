//! Uploads: bytes are cut, hashed and stored while they arrive.
//!
//! Memory is bounded whatever the size of the file: one part is filled while a few are written. Above
//! a guaranteed minimum the buffer grows from a pool that all uploads share, and what is being written
//! is covered by the pool; where it is empty, the part is cut early and awaited. So no upload can
//! hold up another, and all of them together hold at most the pool and a minimum each.
//!
//! **Invariants:** an object is buried by its guard unless a row names it; pins of an upload that
//! breaks off are dropped. Whatever is dropped half-way leaves nothing but what reclamation finds.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use crate::{
    blob::Buffer,
    error::{Error, Kind, Result},
    limits::{
        INLINE_BYTES_MAX, KIB, PART_BYTES_MAX, TOTAL_MAX, UPLOAD_BUFFER_BYTES_MIN,
        UPLOAD_PARTS_IN_FLIGHT,
    },
    model::{Digest, Stat, StorePath},
    namespace::{
        content::{self, NewFile, Part, Place},
        list,
        pin::{self, Owner},
        sql::Tx,
        tree,
    },
    store::{
        Call, Store,
        hash::{Hasher, hash, hash_alone},
        object::NewObject,
    },
};

/// What is known of a file before its bytes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it goes.
    pub path: StorePath,
    /// Its size, if the caller says.
    pub size: Option<u64>,
    /// BLAKE3 of its bytes, if the caller says.
    pub digest: Option<Digest>,
}

/// An upload on its way. Dropped before [`Upload::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    incoming: Incoming,
    cutter: Cutter,
    call: Call,
}

impl Store {
    /// Begins an upload.
    ///
    /// # Errors
    /// `AlreadyExists` onto a folder or below a file, `NoSpace`, `TooLarge`, `Busy` if too many
    /// uploads wait.
    pub async fn upload(&self, incoming: Incoming, call: Call) -> Result<Upload> {
        // The commit checks it again; here it spares the bytes, and the path is judged before them.
        let path = incoming.path.clone();
        let check = move |tx: &mut Tx<'_>| tree::check_file_fits(tx, &path, "path");
        self.0.engine.read(call.deadline, check).await?;
        let cutter = self.cut(&incoming.path, incoming.size.unwrap_or(0)).await?;
        Ok(Upload { store: self.clone(), incoming, cutter, call })
    }

    /// Waits for a turn and begins to cut `size` expected bytes.
    pub(super) async fn cut(&self, path: &StorePath, size: u64) -> Result<Cutter> {
        if size > TOTAL_MAX as u64 {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{size} bytes are more than {TOTAL_MAX}"),
            )
            .field("size_bytes"));
        }
        self.0.space.check(size)?;
        let turn = self.0.uploads.take().await?;
        let owner = Owner::new(&self.0.server);
        Ok(Cutter {
            store: self.clone(),
            path: path.clone(),
            owner,
            buffer: Buffer::default(),
            pool: None,
            received: 0,
            hasher: Hasher::default(),
            parts: Vec::new(),
            settled: 0,
            has_pins: false,
            _turn: turn,
        })
    }
}

impl Upload {
    /// Takes the next bytes; waits while enough parts are being written.
    ///
    /// # Errors
    /// `InvalidArgument` if there are more bytes than announced, `NoSpace`, `Internal`.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        if let Some(size) = self.incoming.size
            && self.cutter.received + data.len() as u64 > size
        {
            return Err(Error::invalid("size_bytes", format!("more bytes came than {size}")));
        }
        self.cutter.write(data).await
    }

    /// Makes the file visible, once every byte of it would survive a power cut.
    ///
    /// # Errors
    /// `InvalidArgument` if size or digest are not as announced, those of the commit. Nothing is
    /// visible then.
    pub async fn finish(mut self) -> Result<Stat> {
        let received = self.cutter.received;
        if let Some(size) = self.incoming.size.filter(|size| *size != received) {
            let message = format!("{received} bytes came instead of {size}; nothing is stored");
            return Err(Error::invalid("size_bytes", message));
        }
        let (parts, digest, object) = self.cutter.finish().await?;
        if let Some(expected) = self.incoming.digest.filter(|expected| *expected != digest) {
            let message = format!("the bytes have the digest {digest}, not {expected}");
            return Err(Error::invalid("blake3", message));
        }
        let pins = self.cutter.parts.len();
        let file = NewFile { path: self.incoming.path.clone(), parts, digest: Some(digest) };
        let owner = self.cutter.owner.clone();
        let commit = move |tx: &mut Tx<'_>| {
            if pins > 0 {
                pin::check(tx, &owner, pins)?;
            }
            content::put_file(tx, &file)?;
            pin::unpin(tx, &owner.id)?;
            list::stat(tx, &file.path)
        };
        let stat = self.store.0.engine.write(self.call.deadline, commit).await?;
        self.cutter.has_pins = false;
        object.into_iter().for_each(NewObject::keep);
        Ok(stat)
    }
}

/// Cuts a stream into parts and stores them.
#[derive(Debug)]
pub(super) struct Cutter {
    store: Store,
    path: StorePath,
    /// Holds the pins of the parts.
    pub(super) owner: Owner,
    buffer: Buffer,
    /// What the buffer has of the pool.
    pool: Option<OwnedSemaphorePermit>,
    pub(super) received: u64,
    hasher: Hasher,
    /// The parts that are stored or on their way, each pinned.
    pub(super) parts: Vec<Storing>,
    /// How many of them are known to be stored.
    settled: usize,
    /// Whether it has pins, or may have: a job that began takes effect whether its answer comes or not.
    pub(super) has_pins: bool,
    _turn: OwnedSemaphorePermit,
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
            let room = self.room(data.len());
            if room == 0 {
                self.flush().await?;
                continue;
            }
            self.buffer.extend_from_slice(&data.split_to(room));
        }
        Ok(())
    }

    /// How many of `wanted` bytes the buffer takes now.
    fn room(&mut self, wanted: usize) -> usize {
        let filled = self.buffer.len();
        let wanted = wanted.min(PART_BYTES_MAX - filled);
        let held = self.pool.as_ref().map_or(0, |pool| pool.num_permits() * KIB);
        let free = (UPLOAD_BUFFER_BYTES_MIN + held).saturating_sub(filled);
        if wanted <= free {
            return wanted;
        }
        let Ok(more) = u32::try_from((wanted - free).div_ceil(KIB)) else { return free };
        match Arc::clone(&self.store.0.upload_pool).try_acquire_many_owned(more) {
            Ok(permit) => {
                match &mut self.pool {
                    Some(pool) => pool.merge(permit),
                    None => self.pool = Some(permit),
                }
                wanted
            }
            Err(_) => free,
        }
    }

    /// Sends the buffer on its way as a part.
    async fn flush(&mut self) -> Result<()> {
        self.settle(UPLOAD_PARTS_IN_FLIGHT - 1).await?;
        self.store.0.space.check(self.buffer.len() as u64)?;
        let bytes = self.buffer.take();
        let (before, after) = self.hasher.link();
        let store = self.store.clone();
        let (owner, path, pool) = (self.owner.clone(), self.path.clone(), self.pool.take());
        let minimum = u32::try_from(UPLOAD_BUFFER_BYTES_MIN / KIB).unwrap_or(u32::MAX);
        let cover = Arc::clone(&self.store.0.upload_pool).try_acquire_many_owned(minimum).ok();
        let is_covered = cover.is_some();
        // A task of its own, not aborted: an object that is put gets its row or is buried.
        let task = tokio::spawn(async move {
            let (digest, bytes) = hash(bytes, before, after).await?;
            let part = store.store_part(&owner, &path, digest, bytes).await;
            drop((pool, cover));
            part
        });
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
        self.store.0.tasks.spawn(async move {
            for mut part in parts {
                // Why a part failed was told already, or nobody is left to tell.
                drop(part.settle().await);
            }
            if let Err(error) = store.0.engine.write(None, move |tx| pin::unpin(tx, &owner)).await {
                tracing::warn!(?error, "the pins of an upload are left to expire");
            }
        });
    }
}
