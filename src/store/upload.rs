//! Uploads: the bytes of a file are cut into parts, hashed and stored while they arrive.
//!
//! Memory is bounded for a file of any size: one part is filled while a few are written, see
//! [`part_writer`](super::part_writer).
//!
//! **Invariants:** an object that no row names is marked for deletion when its guard is dropped. The pins of an
//! upload that fails are dropped. An upload that is dropped at any await leaves only garbage, which reclamation
//! removes.

use bytes::Bytes;

use crate::{
    access::{Caller, Role},
    budget::{Permit, PermitHandle},
    error::{Error, Kind, Result},
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX, UNPIN_ROWS, UPLOAD_PARTS_MAX},
    model::{Digest, Replaces, Stat, StorePath, reserved},
    namespace::{
        assembly, condition,
        content::NewFile,
        group::{Placed, PlainFile},
        list, pin,
        sql::Tx,
        tree, unpack,
    },
    store::{
        Call, Store, Unpack, UploadSpec,
        object::ObjectGuard,
        part_writer::{PartWriter, too_many_parts},
    },
};

/// A running upload. Dropped before [`Upload::finish`], it leaves nothing visible.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    incoming: UploadSpec,
    pub(super) part_writer: PartWriter,
    /// Its permit among the uploads.
    turn: Permit,
    call: Call,
}

impl Store {
    /// Begins an upload: checks its path and conditions, unless it is announced to be small, and acquires a permit for
    /// it.
    ///
    /// # Errors
    /// `AlreadyExists` for a path that is a folder or below a file, unless the upload may replace them,
    /// `PreconditionFailed`, `NoSpace`, `TooLarge`, `Busy` if too many uploads wait, `Timeout`.
    pub async fn upload(&self, incoming: UploadSpec, call: &Call) -> Result<Upload> {
        // The commit checks this again. A refusal here saves the transfer of the bytes, so that it is not worth a
        // transaction for a few of them.
        let is_small = incoming.size.is_some_and(|size| size <= INLINE_BYTES_MAX as u64);
        let (path, replaces) = (incoming.path.clone(), incoming.replaces);
        let conditions = incoming.conditions.clone();
        let caller = call.caller().clone();
        if incoming.unpack.is_some() && path.is_reserved() {
            return Err(reserved(&path, "path"));
        }
        let is_folder = incoming.unpack.is_some();
        let check = move |tx: &mut Tx<'_>| {
            check_above(tx, (&path, replaces), &caller)?;
            if is_folder {
                return unpack::check(tx, (&path, replaces), &conditions);
            }
            condition::check_file(tx, (&path, replaces), &conditions)
        };
        if is_folder || !is_small {
            self.0.engine.read(call.deadline(), check).await?;
        }
        let (part_writer, turn) = self.cut(&incoming.path, incoming.size, call).await?;
        Ok(Upload { store: self.clone(), incoming, part_writer, turn, call: call.clone() })
    }

    /// Acquires a permit of an upload, and makes a part writer for `expected` bytes, if the number is known.
    pub(super) async fn cut(
        &self,
        path: &StorePath,
        expected: Option<u64>,
        call: &Call,
    ) -> Result<(PartWriter, Permit)> {
        let size = expected.unwrap_or(0);
        if size.div_ceil(PART_BYTES_MAX as u64) > UPLOAD_PARTS_MAX as u64 {
            return Err(too_many_parts(path));
        }
        call.until(self.0.space.check(size)).await?;
        let turn = call.until(self.0.budgets.uploads.acquire(call.peer(), 1)).await?;
        Ok((PartWriter::new(self, path, expected, call.peer()), turn))
    }
}

impl Upload {
    /// Replaces the call, and so the deadline, of all further steps.
    pub fn limit(&mut self, call: Call) {
        self.call = call;
    }

    /// The handle of its permit among the uploads.
    pub fn turn(&self) -> PermitHandle {
        self.turn.hold().clone()
    }

    /// Awaits `bytes`, the next bytes of the sender. If the sender is slow and other uploads need buffers, the
    /// bytes that have arrived are stored as a part meanwhile, which releases the buffer.
    ///
    /// # Errors
    /// Those of [`Upload::write`]. The upload cannot continue then.
    pub async fn wait_for<T>(&mut self, bytes: impl Future<Output = T>) -> Result<T> {
        self.part_writer.wait_for(bytes).await
    }

    /// Takes the next bytes. Waits for buffers, and for parts that are being written (backpressure).
    ///
    /// # Errors
    /// `DataLoss` for more bytes than announced, `TooLarge` for more than the store takes, `NoSpace`, `Busy`,
    /// `Timeout`, `Internal`. The upload cannot continue then.
    pub async fn write(&mut self, data: Bytes) -> Result<()> {
        self.call.check()?;
        if let Some(size) = self.incoming.size
            && self.part_writer.received + data.len() as u64 > size
        {
            let message = format!("more bytes came than {size}; nothing is stored");
            return Err(Error::new(Kind::DataLoss, message).field("size_bytes"));
        }
        self.call.until(Box::pin(self.part_writer.write(data))).await
    }

    /// Takes the size and digest that the caller sends after the last bytes.
    ///
    /// # Errors
    /// `DataLoss` if the size is not that of the received bytes, or the digest is not the announced one.
    pub fn end(&mut self, size: Option<u64>, digest: Option<Digest>) -> Result<()> {
        self.check_size(size)?;
        if let Some(digest) = digest {
            let announced = self.incoming.digest.replace(digest);
            announced.map_or(Ok(()), |announced| check_digest(digest, announced))?;
        }
        Ok(())
    }

    fn check_size(&self, said: Option<u64>) -> Result<()> {
        let received = self.part_writer.received;
        let Some(size) = said.filter(|size| *size != received) else { return Ok(()) };
        let message = format!("{received} bytes came instead of {size}; nothing is stored");
        Err(Error::new(Kind::DataLoss, message).field("size_bytes"))
    }

    /// Makes the file visible, and returns its metadata.
    ///
    /// # Errors
    /// Those of [`Upload::store`].
    pub async fn finish(self) -> Result<Stat> {
        Ok(self.store().await?.stat)
    }

    /// Makes the file visible, once all of its bytes are durable.
    ///
    /// # Errors
    /// `DataLoss` if size or digest are not as announced, `Timeout`, those of [`Upload::write`] and of the
    /// commit. Nothing is visible then.
    pub async fn store(mut self) -> Result<Placed> {
        self.check_size(self.incoming.size)?;
        if let Some(unpack) = self.incoming.unpack {
            return Box::pin(self.unpack(unpack)).await;
        }
        let (parts, digest, object) = self.call.until(Box::pin(self.part_writer.finish())).await?;
        self.incoming.digest.map_or(Ok(()), |expected| check_digest(digest, expected))?;
        let pins = self.part_writer.parts.len();
        let UploadSpec { path, replaces, .. } = self.incoming.clone();
        let owner = self.part_writer.owner.clone();
        let (list, parts) = self.store.assemble_long(&owner, parts, &self.call).await?;
        let conditions = std::mem::take(&mut self.incoming.conditions);
        let plain = if pins == 0 && list.is_none() {
            PlainFile::new(path.clone(), conditions.clone(), &parts)
        } else {
            None
        };
        let file = NewFile { path, replaces, parts, digest: Some(digest) };
        let caller = self.call.caller().clone();
        let commit = move |tx: &mut Tx<'_>| {
            check_above(tx, (&file.path, replaces), &caller)?;
            if pins > 0 && list.is_none() {
                pin::check(tx, &owner.id, pins)?;
            }
            if !conditions.is_empty() {
                condition::check_file(tx, (&file.path, replaces), &conditions)?;
            }
            let (_, files_replaced) = assembly::put_file(tx, &owner, &file, list.as_ref())?;
            // More pins than that are dropped in steps, when the part writer is dropped.
            if (1..=UNPIN_ROWS).contains(&pins) {
                pin::unpin(tx, &owner.id)?;
            }
            Ok(Placed { stat: list::stat(tx, &file.path)?, files_replaced })
        };
        let placed = self.store.0.engine.put(self.call.deadline(), plain, commit).await?;
        self.part_writer.has_pins = pins > UNPIN_ROWS;
        object.into_iter().for_each(ObjectGuard::disarm);
        Ok(placed)
    }
}

impl Upload {
    /// Makes a folder of the archive that has arrived.
    async fn unpack(mut self, Unpack { marks }: Unpack) -> Result<Placed> {
        let stored = self.call.until(Box::pin(self.part_writer.finish_stored()));
        let (parts, digest) = stored.await?;
        self.incoming.digest.map_or(Ok(()), |expected| check_digest(digest, expected))?;
        let UploadSpec { path, replaces, conditions, .. } = self.incoming;
        self.store.unpack((path, replaces, conditions), parts, marks, &self.call).await
    }
}

/// Refuses a write that would replace a file above its path which the caller may not write.
///
/// # Errors
/// `AlreadyExists`.
pub(super) fn check_above(
    tx: &mut Tx<'_>,
    (path, replaces): (&StorePath, Replaces),
    caller: &Caller,
) -> Result<()> {
    if replaces == Replaces::Anything
        && let Some(file) = tree::file_above(tx, path)?
        && !caller.may(Role::Writer, &file)
    {
        let message = format!(
            "a file above \"{path}\" would be replaced, which '{}' may not write",
            caller.name()
        );
        return Err(Error::new(Kind::AlreadyExists, message).field("path"));
    }
    Ok(())
}

fn check_digest(digest: Digest, expected: Digest) -> Result<()> {
    if digest == expected {
        return Ok(());
    }
    let message = format!("the bytes have the digest {digest}, not {expected}; nothing is stored");
    Err(Error::new(Kind::DataLoss, message).field("blake3"))
}
