//! Unpacking: an uploaded ZIP archive becomes a folder, in one transaction.
//!
//! ```text
//!  bytes of the archive ─► parts, pinned ─► a thread reads and inflates ─► parts of files ─► a folder without a path
//!                                                                               the last transaction gives it its path
//! ```
//!
//! The directory of an archive is at its end, so the archive is stored first, as parts that no file refers to. A thread
//! that may block reads it and asks this task for each part; the files come back piece by piece.
//!
//! Memory is bounded: the directory of the archive, one part of it, a few pieces, and the buffers of
//! [`UNPACK_FILES_IN_FLIGHT`] files.
//!
//! **Invariants:** nothing is visible before the last transaction. Unpacking that is dropped at any await leaves pins,
//! which are dropped by their guards, and what they held is reclaimed.

mod archive;
mod part_reader;

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};
use tracing::{Instrument, Span};

use self::{
    archive::Archive,
    part_reader::{Event, PartReader},
};
use crate::{
    error::{Error, Result},
    limits::{
        ENTRY_ROW_BYTES, UNPACK_FILES_IN_FLIGHT, UNPACK_PIECES_WAITING, UNPACK_STEP_BYTES,
        UNPACK_STEP_ROWS, UNPIN_ROWS,
    },
    model::{Conditions, Digest, Replaces, StorePath},
    namespace::{
        content::{Part, Place},
        group::Placed,
        list,
        pin::{self, Owner},
        sql::Tx,
        unpack::{self, UnpackedFile},
    },
    store::{
        Call, Store, object::ObjectGuard, part_writer::PartWriter, pins::PinGuard,
        upload::check_above,
    },
};

/// How often the database has the names of a path: in both forms, in the table and in an index.
const ROW_NAMES: u64 = 4;

/// An archive that is stored, and the folder that it becomes.
pub(super) struct Unpacking {
    store: Store,
    call: Call,
    path: StorePath,
    /// The parts of the archive, which their owner keeps pinned.
    parts: Arc<[Part]>,
    /// The folder that is built, and the owner of its pin.
    folder: i64,
    owner: Owner,
    _held: PinGuard,
    /// The file that is being received.
    current: Option<(StorePath, PartWriter)>,
    storing: JoinSet<Result<StoredFile>>,
    ready: Vec<StoredFile>,
    rows: usize,
    /// The bytes of its inline parts, and of its rows.
    bytes: usize,
    row_bytes: u64,
}

/// A file whose bytes are stored. The part writer holds the pins of its parts.
struct StoredFile {
    file: UnpackedFile,
    object: Option<ObjectGuard>,
    part_writer: Option<PartWriter>,
}

impl Store {
    /// Makes a folder of an archive, whose parts are stored and pinned. `marks`: each folder gets an empty mark file if
    /// it has none.
    ///
    /// # Errors
    /// `InvalidArgument` and `TooLarge` for an archive that cannot be unpacked, `AlreadyExists`,
    /// `PreconditionFailed`, `NoSpace`, `Busy`, `Timeout`. Nothing is visible then.
    pub(super) async fn unpack(
        &self,
        (path, replaces, conditions): (StorePath, Replaces, Conditions),
        parts: Vec<Part>,
        marks: bool,
        call: &Call,
    ) -> Result<Placed> {
        let _turn = call.until(self.0.budgets.unpacks.acquire(call.peer(), 1)).await?;
        let owner = Owner::new(&self.0.server);
        let held = PinGuard { store: self.clone(), owner: owner.id.clone() };
        let own = owner.clone();
        let begin = move |tx: &mut Tx<'_>| unpack::begin(tx, &own);
        let folder = self.0.engine.write(call.deadline(), begin).await?;
        let mut unpacking = Unpacking {
            store: self.clone(),
            call: call.clone(),
            path,
            parts: Arc::from(parts),
            folder,
            owner,
            _held: held,
            current: None,
            storing: JoinSet::new(),
            ready: Vec::new(),
            rows: 0,
            bytes: 0,
            row_bytes: 0,
        };
        call.until(Box::pin(unpacking.run(marks))).await?;
        unpacking.finish(replaces, conditions).await
    }
}

impl Unpacking {
    /// Reads the archive to its end, and stores its files.
    async fn run(&mut self, marks: bool) -> Result<()> {
        let (sender, mut events) = mpsc::channel(UNPACK_PIECES_WAITING);
        let (source, to) = (PartReader::new(&self.parts, sender.clone()), self.path.clone());
        let span = Span::current();
        let reading = spawn_blocking(move || span.in_scope(|| read(source, &to, marks, &sender)));
        // If this future is dropped, so are the events, and the thread ends with its next one.
        while let Some(event) = events.recv().await {
            self.take(event).await?;
        }
        reading.await.map_err(Error::internal)??;
        self.settle(0).await?;
        self.write().await
    }

    async fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Part { number, reply } => {
                let part = self.part(number).await;
                // An error ends the thread, which returns it.
                reply.send(part).ok();
            }
            Event::Plan { bytes, marks } => {
                self.store.0.space.check(bytes).await?;
                for path in marks {
                    self.ready(StoredFile::empty(path, &self.owner)).await?;
                }
            }
            Event::File { path, size } => {
                let whole = StorePath::parse(&format!("{}/{path}", self.path), "archive")?;
                let writer = PartWriter::new(&self.store, &whole, Some(size), self.call.peer());
                self.current = Some((path, writer));
            }
            Event::Piece(bytes) => {
                if let Some((_, writer)) = &mut self.current {
                    writer.write(Bytes::from(bytes)).await?;
                }
            }
            Event::End => {
                if let Some((path, writer)) = self.current.take() {
                    self.settle(UNPACK_FILES_IN_FLIGHT - 1).await?;
                    let storing = store_file(self.store.clone(), path, writer, self.call.clone());
                    self.storing.spawn(storing.in_current_span());
                }
            }
        }
        Ok(())
    }

    /// Reads a part of the archive.
    async fn part(&self, number: usize) -> Result<Bytes> {
        let digest = self.parts.get(number).map(|part| part.digest);
        let digest = digest.ok_or_else(|| Error::internal("an archive has no such part"))?;
        let find = move |tx: &mut Tx<'_>| unpack::pinned_part(tx, &digest);
        let part = self.store.0.engine.read(self.call.deadline(), find).await?;
        self.store.read_part(&self.path, part).await
    }

    /// Waits until at most `left` files are being stored.
    async fn settle(&mut self, left: usize) -> Result<()> {
        while self.storing.len() > left
            && let Some(stored) = self.storing.join_next().await
        {
            self.ready(stored.map_err(Error::internal)??).await?;
        }
        Ok(())
    }

    /// Adds a stored file to the next transaction, and writes that if it is full.
    async fn ready(&mut self, stored: StoredFile) -> Result<()> {
        let StoredFile { file, .. } = &stored;
        // Each folder on the path of a file is looked at and counted anew.
        let rows = file.path.depth() + file.parts.len();
        self.rows += rows;
        let names = ROW_NAMES * file.path.as_str().len() as u64;
        self.row_bytes += rows as u64 * ENTRY_ROW_BYTES + names;
        let inline = stored.file.parts.iter().map(|part| match &part.place {
            Place::Inline(bytes) => bytes.len(),
            Place::Object(_) | Place::Stored => 0,
        });
        self.bytes += inline.sum::<usize>();
        self.ready.push(stored);
        if self.rows >= UNPACK_STEP_ROWS || self.bytes >= UNPACK_STEP_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Adds the files that are ready to the folder.
    async fn write(&mut self) -> Result<()> {
        self.store.0.space.check_rows(self.bytes as u64 + self.row_bytes).await?;
        let mut ready = std::mem::take(&mut self.ready);
        (self.rows, self.bytes, self.row_bytes) = (0, 0, 0);
        while !ready.is_empty() {
            let added = self.add(&ready).await?;
            release(ready.drain(..added.min(ready.len())));
        }
        Ok(())
    }

    /// Adds the first files to the folder, for about [`STEP`](crate::limits::STEP). Returns how many.
    async fn add(&self, ready: &[StoredFile]) -> Result<usize> {
        let files: Vec<_> = ready.iter().map(|stored| stored.file.clone()).collect();
        let (folder, owner) = (self.folder, self.owner.clone());
        let add = move |tx: &mut Tx<'_>| {
            let added = unpack::add(tx, (folder, &owner), &files)?;
            let unpinned = |file: &&UnpackedFile| file.pins > 0 && file.pins <= UNPIN_ROWS;
            for file in files.iter().take(added).filter(unpinned) {
                pin::unpin(tx, &file.owner.id)?;
            }
            Ok(added)
        };
        self.store.0.engine.write(self.call.deadline(), add).await
    }

    /// Gives the folder its path.
    async fn finish(self, replaces: Replaces, conditions: Conditions) -> Result<Placed> {
        let (folder, owner, path) = (self.folder, self.owner.clone(), self.path.clone());
        let caller = self.call.caller().clone();
        let finish = move |tx: &mut Tx<'_>| {
            check_above(tx, (&path, replaces), &caller)?;
            unpack::check(tx, (&path, replaces), &conditions)?;
            let files_replaced = unpack::finish(tx, (&path, replaces), (folder, &owner))?;
            Ok(Placed { stat: list::stat(tx, &path)?, files_replaced })
        };
        self.store.0.engine.write(self.call.deadline(), finish).await
    }
}

/// Releases files that are in the folder: rows refer to their objects and parts now.
fn release(added: impl Iterator<Item = StoredFile>) {
    for StoredFile { file, object, part_writer } in added {
        object.into_iter().for_each(ObjectGuard::disarm);
        if let Some(mut part_writer) = part_writer {
            // More pins than that are dropped in steps, when the part writer is dropped.
            part_writer.has_pins = file.pins > UNPIN_ROWS;
        }
    }
}

impl StoredFile {
    /// An empty file, whose digest is known and which has no parts.
    fn empty(path: StorePath, owner: &Owner) -> Self {
        let (parts, digest) = (Vec::new(), Digest::of(&[]));
        let file = UnpackedFile { path, parts, list: None, digest, owner: owner.clone(), pins: 0 };
        Self { file, object: None, part_writer: None }
    }
}

/// Stores the rest of a file.
async fn store_file(
    store: Store,
    path: StorePath,
    mut part_writer: PartWriter,
    call: Call,
) -> Result<StoredFile> {
    let (parts, digest, object) = part_writer.finish().await?;
    let (owner, pins) = (part_writer.owner.clone(), part_writer.parts.len());
    let (list, parts) = store.assemble_long(&owner, parts, &call).await?;
    let file = UnpackedFile { path, parts, list, digest, owner, pins };
    Ok(StoredFile { file, object, part_writer: Some(part_writer) })
}

/// Reads an archive and sends its files. Blocks.
fn read(
    source: PartReader,
    to: &StorePath,
    marks: bool,
    events: &mpsc::Sender<Event>,
) -> Result<()> {
    let send = |event| part_reader::send(events, event);
    let mut archive = Archive::open(source, to)?;
    let bytes = archive.files.iter().map(archive::ArchiveFile::size).sum();
    let marks = if marks { archive.missing_marks(to)? } else { Vec::new() };
    send(Event::Plan { bytes, marks })?;
    for file in std::mem::take(&mut archive.files) {
        send(Event::File { path: file.path.clone(), size: file.size() })?;
        archive.unpack(file, |piece| send(Event::Piece(piece)))?;
        send(Event::End)?;
    }
    Ok(())
}
