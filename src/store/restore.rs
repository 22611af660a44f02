//! Restores: an empty store takes a backup, which becomes visible as a whole or not at all.
//!
//! Memory is bounded, except for the ids of the rows that were built: one part is received while a few are put,
//! and the records behind these parts wait in their order. Rows are written in bounded steps, all unreachable
//! and pinned ([`namespace::restore`](crate::namespace::restore)); the last transaction makes them visible.
//!
//! **Invariants:** an object is durable before its row is written. The row is written right after the put,
//! independent of the records that follow; otherwise the object is marked for deletion. A restore that is
//! dropped drops its pins, and everything that it made is reclaimed.

mod copy;

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{
    budget::Permit,
    error::{Error, Kind, Result},
    limits::{
        BACKUP_FORMAT, BACKUP_PAGE_ROWS, BACKUP_PARTS_IN_FLIGHT, INLINE_BYTES_MAX, PART_BYTES_MAX,
        RESTORE_STEP_BYTES, RESTORE_STEP_ROWS, RESTORE_WAITING_BYTES,
    },
    model::{BackupCounts, BackupEntry, BackupHeader, BackupPart, BackupRecord, StorePath, Totals},
    namespace::{
        content::{self, Part, Place},
        pin::Owner,
        restore::{self, Build, Step, damaged},
        sql::Tx,
    },
    store::{Call, Store, backup::is_of, pins::PinGuard, restore::copy::Copying, space::Claim},
};

pub use self::copy::Copied;

/// A running restore. Dropped before [`Restore::finish`], it leaves nothing visible.
#[derive(Debug)]
pub struct Restore {
    /// The guard of the pins. The tasks that put parts share it, so that no pin is made after the drop of all.
    held: Arc<PinGuard>,
    owner: Owner,
    /// `None` before the header.
    build: Option<Build>,
    /// What a restore of a copy knows; `None` for any other restore.
    copy: Option<Copying>,
    /// The part whose bytes are being received, these bytes, and the space that the part will take.
    incoming: Option<(BackupPart, BytesMut, Claim)>,
    /// The queue of parts that are being put, and of the steps behind them, in the order of the backup.
    waiting: VecDeque<Waiting>,
    /// The number of parts in the queue that are being put.
    putting: usize,
    /// The approximate bytes of the steps in the queue.
    waiting_bytes: usize,
    /// The steps of the next transaction.
    ready: Vec<Step>,
    rows: usize,
    bytes: usize,
    counts: BackupCounts,
    is_whole: bool,
    _turn: Permit,
}

#[derive(Debug)]
enum Waiting {
    Putting(JoinHandle<Result<Part>>),
    Step(Step),
}

impl Waiting {
    /// The approximate memory of a waiting step. Parts that are being put are bounded by their number.
    fn bytes(&self) -> usize {
        match self {
            Self::Step(Step::Part(Part { place: Place::Inline(bytes), .. })) => bytes.len(),
            Self::Step(Step::Record(BackupRecord::Entries(entries))) => {
                entries.iter().map(|entry| entry.name.len() + size_of::<BackupEntry>()).sum()
            }
            Self::Step(Step::Record(BackupRecord::List(parts))) => size_of_val(parts.as_slice()),
            Self::Step(_) | Self::Putting(_) => 0,
        }
    }
}

impl Store {
    /// Begins a restore into an empty store.
    ///
    /// # Errors
    /// `AlreadyExists` if the store is not empty, `Busy` if another restore runs, `Timeout`.
    pub async fn restore(&self, call: &Call) -> Result<Restore> {
        let restore = self.begin_restore(None, call)?;
        self.0.engine.read(call.deadline(), restore::check_empty).await?;
        Ok(restore)
    }

    fn begin_restore(&self, copy: Option<Copying>, call: &Call) -> Result<Restore> {
        let turn = self.0.budgets.restores.try_acquire(call.peer(), 1);
        let turn = turn.map_err(|_| {
            Error::new(Kind::Busy, "another restore runs; try again when it is over")
        })?;
        let owner = Owner::new(&self.0.server);
        Ok(Restore {
            held: Arc::new(PinGuard { store: self.clone(), owner: owner.id.clone() }),
            owner,
            build: None,
            copy,
            incoming: None,
            waiting: VecDeque::new(),
            putting: 0,
            waiting_bytes: 0,
            ready: Vec::new(),
            rows: 0,
            bytes: 0,
            counts: BackupCounts::default(),
            is_whole: false,
            _turn: turn,
        })
    }
}

impl Restore {
    /// Takes the next record. Waits for parts that are being put and for writes (backpressure).
    ///
    /// # Errors
    /// `InvalidArgument` for a backup that is damaged or of a newer format, `NoSpace`, `Busy`, `Internal`. The
    /// restore cannot continue then, and nothing is visible.
    pub async fn record(&mut self, record: BackupRecord) -> Result<()> {
        if self.incoming.is_some() {
            return Err(damaged("the bytes of a part are missing"));
        }
        if self.is_whole {
            return Err(damaged("something comes after its end"));
        }
        if self.build.is_none() {
            return self.begin(&record).await;
        }
        if let BackupRecord::Footer(counts) = record {
            if counts != self.counts {
                return Err(damaged("it holds more or less than its end says"));
            }
            self.is_whole = true;
            return Ok(());
        }
        self.counts.add(&record);
        let rows = match &record {
            BackupRecord::Part(part) => {
                if part.size <= 0 || part.size > PART_BYTES_MAX as i64 {
                    return Err(damaged("a part has a size that none can have"));
                }
                if let Some(copy) = &mut self.copy
                    && !copy.takes(part)
                {
                    return self.wait(Waiting::Step(Step::Stored(*part))).await;
                }
                let claim = self.held.store.0.space.claim(part.size as u64).await?;
                self.incoming = Some((*part, BytesMut::new(), claim));
                return Ok(());
            }
            BackupRecord::List(parts) => parts.len(),
            BackupRecord::Entries(entries) => entries.len(),
            BackupRecord::Content { .. } | BackupRecord::Folder(_) => 1,
            BackupRecord::Known(_) | BackupRecord::Tag(_) if self.copy.is_some() => 1,
            BackupRecord::Known(_) | BackupRecord::Tag(_) => {
                return Err(damaged("it is made for a copy of a store"));
            }
            BackupRecord::Header(_) | BackupRecord::Footer(_) => 0,
        };
        if rows > BACKUP_PAGE_ROWS {
            return Err(damaged("a record is larger than any of a store"));
        }
        self.wait(Waiting::Step(Step::Record(record))).await
    }

    /// Takes the next bytes of the part whose record was the last one.
    ///
    /// # Errors
    /// Those of [`Restore::record`].
    pub async fn data(&mut self, data: Bytes) -> Result<()> {
        let Some((part, buffer, _)) = &mut self.incoming else {
            return Err(damaged("bytes come that belong to no part"));
        };
        buffer.extend_from_slice(&data);
        if (buffer.len() as i64) < part.size {
            return Ok(());
        }
        let Some((part, buffer, claim)) = self.incoming.take() else { return Ok(()) };
        let bytes = buffer.freeze();
        let (digest, size) = (part.digest, part.size);
        if bytes.len() <= INLINE_BYTES_MAX {
            if !is_of(&bytes, &part) {
                return Err(wrong_bytes(&part));
            }
            let step = Step::Part(Part { digest, size, place: Place::Inline(bytes) });
            return self.wait(Waiting::Step(step)).await;
        }
        let (held, owner) = (Arc::clone(&self.held), self.owner.clone());
        // A task of its own that is never aborted: its object gets a row or is marked for deletion.
        let putting = async move {
            let _claim = claim;
            let checked = bytes.clone();
            let is_right = tokio::task::spawn_blocking(move || is_of(&checked, &part));
            if !is_right.await.map_err(Error::internal)? {
                return Err(wrong_bytes(&part));
            }
            let path = StorePath::root();
            // The part may be stored already, even as garbage; it is read before it is used.
            if held.store.find_part(&owner, &path, digest, &bytes).await? {
                return Ok(Part { digest, size, place: Place::Stored });
            }
            let object = held.store.put_object(&path, digest, bytes).await?;
            let part = Part { digest, size, place: Place::Object(object.key.clone()) };
            let add = move |tx: &mut Tx<'_>| content::add_part(tx, &owner, &part);
            held.store.0.engine.write(None, add).await?;
            object.disarm();
            Ok(Part { digest, size, place: Place::Stored })
        };
        let task = self.held.store.0.tasks.spawn(putting.in_current_span());
        self.putting += 1;
        self.wait(Waiting::Putting(task)).await
    }

    /// Makes the backup visible, once all of it is durable. Returns the totals of the store.
    ///
    /// # Errors
    /// Those of [`Restore::record`]; `Timeout`; `AlreadyExists` if something was stored meanwhile. Nothing is
    /// visible then.
    pub async fn finish(mut self, call: &Call) -> Result<Totals> {
        let build = self.settle(call).await?;
        let finish = move |tx: &mut Tx<'_>| build.finish(tx);
        let totals = self.held.store.0.engine.write(call.deadline(), finish).await?;
        tracing::info!(files = totals.files, bytes = totals.bytes, "a backup is restored");
        Ok(totals)
    }

    /// Waits until everything is durable.
    async fn settle(&mut self, call: &Call) -> Result<Build> {
        if !self.is_whole {
            return Err(damaged("it is truncated: its footer is missing"));
        }
        let settled = async {
            self.drain_to(0).await?;
            self.write().await
        };
        call.until(settled).await?;
        self.build.take().ok_or_else(|| damaged("it has no header"))
    }

    async fn begin(&mut self, record: &BackupRecord) -> Result<()> {
        let BackupRecord::Header(BackupHeader { format, taken, source, .. }) = record else {
            return Err(damaged("it does not begin with a header"));
        };
        if *format > BACKUP_FORMAT {
            let message = format!(
                "the backup has format {format} and this server knows {BACKUP_FORMAT}; use a newer \
                 imagestore"
            );
            return Err(Error::new(Kind::InvalidArgument, message));
        }
        if self.copy.is_some() {
            self.begin_copy(source.as_ref()).await?;
        }
        let mut build = Build::new(self.owner.clone(), *taken);
        build.is_copy = self.copy.is_some();
        self.build = Some(build);
        Ok(())
    }

    /// Adds to the queue, and writes the steps that no part before them delays.
    async fn wait(&mut self, waiting: Waiting) -> Result<()> {
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
        // The steps behind a slow part are bounded, too: a queue that is too long waits for all parts.
        let is_long =
            self.waiting.len() > RESTORE_STEP_ROWS || self.waiting_bytes > RESTORE_WAITING_BYTES;
        self.drain_to(if is_long { 0 } else { BACKUP_PARTS_IN_FLIGHT - 1 }).await
    }

    /// Waits until at most `left` parts are being put, and writes the steps in the queue before the first of these.
    async fn drain_to(&mut self, left: usize) -> Result<()> {
        loop {
            let step = match self.waiting.front_mut() {
                Some(Waiting::Putting(task)) if self.putting > left => {
                    let put = task.await;
                    self.waiting.pop_front();
                    self.putting -= 1;
                    Step::Part(put.map_err(Error::internal)??)
                }
                Some(Waiting::Step(_)) => match self.waiting.pop_front() {
                    Some(waiting @ Waiting::Step(_)) => {
                        self.waiting_bytes -= waiting.bytes();
                        let Waiting::Step(step) = waiting else { return Ok(()) };
                        step
                    }
                    Some(Waiting::Putting(_)) | None => return Ok(()),
                },
                Some(Waiting::Putting(_)) | None => return Ok(()),
            };
            self.rows += 1;
            match &step {
                Step::Part(Part { place: Place::Inline(bytes), .. }) => self.bytes += bytes.len(),
                Step::Record(BackupRecord::Entries(entries)) => self.rows += entries.len(),
                Step::Record(BackupRecord::List(parts)) => self.rows += parts.len(),
                Step::Part(_) | Step::Stored(_) | Step::Record(_) => {}
            }
            self.ready.push(step);
            if self.rows >= RESTORE_STEP_ROWS || self.bytes >= RESTORE_STEP_BYTES {
                self.write().await?;
            }
        }
    }

    /// Writes the ready steps in one transaction.
    async fn write(&mut self) -> Result<()> {
        self.held.store.0.space.check_rows(self.bytes as u64).await?;
        let Some(mut build) = self.build.take() else { return Ok(()) };
        let steps = std::mem::take(&mut self.ready);
        (self.rows, self.bytes) = (0, 0);
        let add = move |tx: &mut Tx<'_>| {
            for step in &steps {
                build.add(tx, step)?;
            }
            Ok(build)
        };
        self.build = Some(self.held.store.0.engine.write(None, add).await?);
        Ok(())
    }
}

fn wrong_bytes(part: &BackupPart) -> Error {
    damaged(&format!("the bytes of a part are not those of its digest {}", part.digest))
}
