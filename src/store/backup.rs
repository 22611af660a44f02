//! Backups: a snapshot of the whole store, sent while the store serves.
//!
//! The snapshot takes one short transaction, which pins its root. It is then read in pages, at the pace of
//! the caller. Each page of parts is offered first, and the caller names the parts that it wants: parts never
//! change, so a second backup transfers only new ones. The pin is dropped however the backup ends.

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::{
    budget::{Permit, PermitHandle},
    error::{Error, Kind, Result},
    limits::{BACKUP_FORMAT, BACKUP_PARTS_IN_FLIGHT, BACKUP_PIECES_WAITING, STREAM_MESSAGE_BYTES},
    model::{
        BackupCounts, BackupHeader, BackupPart, BackupRecord, Digest, FolderTag, StorePath, Taken,
    },
    namespace::{
        backup::{self, Walk},
        content::PartRow,
        pin::{self, Owner},
        sql::Tx,
    },
    store::{Call, Store, pins::PinGuard},
};

/// A message of a backup.
#[derive(Clone, Debug)]
pub enum BackupMessage {
    /// The next parts; the caller answers with [`Backup::want`] which of them it wants with their bytes.
    Offer(Vec<BackupPart>),
    /// For a copy: the next folders, which the caller answers with [`Backup::want`] or [`Backup::want_all_folders`].
    Folders(Vec<FolderTag>),
    /// A record.
    Record(BackupRecord),
    /// Bytes of the part of the last record, at most [`STREAM_MESSAGE_BYTES`].
    Data(Bytes),
}

/// A running backup. Dropped, it ends, and its pin and permit are released.
#[derive(Debug)]
pub struct Backup {
    pieces: mpsc::Receiver<Result<BackupMessage>>,
    wants: mpsc::Sender<Wants>,
}

/// What a backup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A caller that has nothing.
    Everything,
    /// A caller that has parts.
    Parts,
    /// A copy of the store, which has parts and folders.
    Copy,
}

/// An answer to an offer.
#[derive(Debug)]
enum Wants {
    /// The indices of the wanted items.
    Some(Vec<u32>),
    /// All folders, and no more offers of folders.
    AllFolders,
}

impl Backup {
    /// The next piece; `None` after the footer or an error.
    ///
    /// # Errors
    /// `Corrupt`, naming a path, if a part cannot be read; `Busy` if the server stops, the blob store does not
    /// answer, or the permit is revoked for others while the caller stalls; `InvalidArgument` for a wrong answer to
    /// an offer; `Internal`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<BackupMessage>> {
        self.pieces.recv().await
    }

    /// Answers the last offer: the indices of the wanted parts or folders in it, each at most once.
    pub async fn want(&self, items: Vec<u32>) {
        // If the backup has ended, its next piece is the error.
        self.wants.send(Wants::Some(items)).await.ok();
    }

    /// Answers an offer of folders: all of them are wanted, and all later ones, which are not offered.
    pub async fn want_all_folders(&self) {
        self.wants.send(Wants::AllFolders).await.ok();
    }
}

impl Store {
    /// Begins a backup: takes the snapshot. With `everything`, the bytes of all parts are sent without offers.
    ///
    /// # Errors
    /// `Busy` if too many backups run, `Timeout`.
    ///
    /// # Cancel safety
    /// Can be dropped; the pin is released then.
    pub async fn backup(&self, everything: bool, call: &Call) -> Result<Backup> {
        let purpose = if everything { Purpose::Everything } else { Purpose::Parts };
        self.begin_backup(purpose, call).await
    }

    /// Begins a backup for a copy of this store: its header says which store this is, folders are offered, too, and each
    /// folder has a tag, so that a later backup sends only what differs.
    ///
    /// # Errors
    /// Those of [`Store::backup`].
    ///
    /// # Cancel safety
    /// That of [`Store::backup`].
    pub async fn backup_for_copy(&self, call: &Call) -> Result<Backup> {
        self.begin_backup(Purpose::Copy, call).await
    }

    async fn begin_backup(&self, purpose: Purpose, call: &Call) -> Result<Backup> {
        let is_copy = purpose == Purpose::Copy;
        let turn = self.0.budgets.backups.try_acquire(call.peer(), 1);
        let turn = turn.map_err(|_| {
            Error::new(Kind::Busy, "too many backups run; try again when one is over")
        })?;
        let expected = self.0.engine.read(call.deadline(), backup::expected).await?;
        let owner = Owner::new(&self.0.server);
        let held = PinGuard { store: self.clone(), owner: owner.id.clone() };
        let take = move |tx: &mut Tx<'_>| {
            let source = is_copy.then(|| backup::source(tx)).transpose()?;
            let (root, taken) = backup::take(tx, &owner)?;
            Ok((root, taken, source))
        };
        let (root, taken, source) = self.0.engine.write(call.deadline(), take).await?;
        let (sender, pieces) = mpsc::channel(BACKUP_PIECES_WAITING);
        let (wants, wanted) = mpsc::channel(1);
        let (counts, stand) = (BackupCounts::default(), turn.hold().clone());
        let sending = BackupTask { held, sender, wanted, purpose, counts, stand };
        let header = BackupHeader { format: BACKUP_FORMAT, taken, expected, source };
        self.spawn(sending.run(Walk::new(root, is_copy), header, turn));
        Ok(Backup { pieces, wants })
    }
}

/// The sending end of a backup.
struct BackupTask {
    held: PinGuard,
    sender: mpsc::Sender<Result<BackupMessage>>,
    wanted: mpsc::Receiver<Wants>,
    purpose: Purpose,
    counts: BackupCounts,
    /// The handle of the permit, on which stalls of the caller are noted.
    stand: PermitHandle,
}

impl BackupTask {
    /// Sends the backup until its end, or until the caller is gone, the permit is revoked, or the server stops.
    async fn run(mut self, walk: Walk, header: BackupHeader, mut turn: Permit) {
        let draining = self.held.store.draining();
        let sent = tokio::select! {
            sent = self.all(walk, header) => sent,
            () = draining.cancelled() => Err(Error::stopping()),
            error = turn.hold_mut().revoked() => Err(error),
        };
        drop(turn);
        match sent {
            Ok(()) => {
                let Taken { totals, .. } = header.taken;
                tracing::info!(files = totals.files, parts = self.counts.parts, "a backup is sent");
            }
            Err(error) => {
                // An error that reaches the caller is logged where the call ends.
                match self.sender.reserve().await {
                    Ok(place) => place.send(Err(error)),
                    Err(_) => error.report(),
                }
            }
        }
    }

    async fn all(&mut self, mut walk: Walk, header: BackupHeader) -> Result<()> {
        self.record(BackupRecord::Header(header)).await?;
        loop {
            let owner = self.held.owner.clone();
            // Without its pin the snapshot could be reclaimed, and a read would not notice that.
            let step = move |tx: &mut Tx<'_>| {
                pin::check(tx, &owner, 1)?;
                walk.step(tx).map(|batch| (walk, batch))
            };
            let batch;
            (walk, batch) = self.held.store.0.engine.read(None, step).await?;
            let Some(batch) = batch else { break };
            if !batch.parts.is_empty() {
                self.parts(batch.parts).await?;
            }
            for record in batch.records {
                self.record(record).await?;
            }
            if !batch.folders.is_empty() {
                self.folders(batch.folders, &mut walk).await?;
            }
        }
        self.record(BackupRecord::Footer(self.counts)).await
    }

    /// Sends parts, with the bytes of those that are wanted, which are read ahead.
    async fn parts(&mut self, parts: Vec<(StorePath, PartRow)>) -> Result<()> {
        let wanted = self.ask(&parts).await?;
        let store = self.held.store.clone();
        let mut read = stream::iter(parts.into_iter().zip(wanted))
            .map(|((path, row), wanted)| {
                let part = BackupPart { digest: row.digest, size: row.size };
                let store = store.clone();
                async move {
                    if !wanted {
                        return Ok::<_, Error>((part, Bytes::new()));
                    }
                    // A task of its own, so that the read continues while the previous part is sent.
                    let read = async move { store.read_part(&path, row).await };
                    let read = tokio::spawn(read.in_current_span());
                    Ok((part, read.await.map_err(Error::internal)??))
                }
            })
            .buffered(BACKUP_PARTS_IN_FLIGHT);
        while let Some(found) = read.next().await {
            let (part, mut bytes) = found?;
            self.record(BackupRecord::Part(part)).await?;
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(STREAM_MESSAGE_BYTES));
                self.send(BackupMessage::Data(piece)).await?;
            }
        }
        Ok(())
    }

    /// Offers parts. Returns for each of them whether it is wanted.
    async fn ask(&mut self, parts: &[(StorePath, PartRow)]) -> Result<Vec<bool>> {
        if self.purpose == Purpose::Everything {
            return Ok(vec![true; parts.len()]);
        }
        let offered =
            |(_, row): &(StorePath, PartRow)| BackupPart { digest: row.digest, size: row.size };
        self.send(BackupMessage::Offer(parts.iter().map(offered).collect())).await?;
        match self.answer().await? {
            Wants::Some(places) => chosen(places, parts.len()),
            Wants::AllFolders => {
                Err(Error::invalid("wants", "folders are wanted, and parts were offered"))
            }
        }
    }

    /// Offers folders. Records those that are not wanted, which the walk passes over.
    async fn folders(&mut self, folders: Vec<FolderTag>, walk: &mut Walk) -> Result<()> {
        self.send(BackupMessage::Folders(folders.clone())).await?;
        let wanted = match self.answer().await? {
            Wants::Some(places) => chosen(places, folders.len())?,
            Wants::AllFolders => {
                walk.stop_asking();
                return Ok(());
            }
        };
        for (folder, _) in folders.iter().zip(wanted).filter(|(_, wanted)| !wanted) {
            walk.pass_over(folder);
            self.record(BackupRecord::Known(*folder)).await?;
        }
        Ok(())
    }

    /// Waits for the answer to an offer.
    async fn answer(&mut self) -> Result<Wants> {
        self.stand.stalls();
        let answer = self.wanted.recv().await.ok_or_else(caller_disconnected)?;
        self.stand.progress();
        Ok(answer)
    }

    async fn record(&mut self, record: BackupRecord) -> Result<()> {
        self.counts.add(&record);
        self.send(BackupMessage::Record(record)).await
    }

    async fn send(&self, piece: BackupMessage) -> Result<()> {
        self.stand.stalls();
        self.sender.send(Ok(piece)).await.map_err(|_| caller_disconnected())?;
        self.stand.progress();
        Ok(())
    }
}

/// For each of `count` offered items, whether its index is among those of an answer.
fn chosen(places: Vec<u32>, count: usize) -> Result<Vec<bool>> {
    let mut wanted = vec![false; count];
    for place in places {
        let Some(found @ false) = wanted.get_mut(place as usize) else {
            let message = format!("the offer has no item {place}, or it was named twice");
            return Err(Error::invalid("wants", message));
        };
        *found = true;
    }
    Ok(wanted)
}

fn caller_disconnected() -> Error {
    Error::new(Kind::Cancelled, "the caller of the backup left")
}

/// Whether bytes have the size and digest of a part.
pub(super) fn is_of(bytes: &[u8], part: &BackupPart) -> bool {
    bytes.len() as i64 == part.size && Digest::of(bytes) == part.digest
}
