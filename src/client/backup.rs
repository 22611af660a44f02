//! Backups and restores.
//!
//! A backup is received into a [`Place`]. A file gets the records and the bytes of all parts. In a folder, the records
//! go into one file and each part into a file of its own, which the next backup does not fetch again. Neither a backup
//! nor a restore is retried when the connection is lost. Parts that were received into a folder stay, so a second
//! backup fetches only the rest.

mod frames;
mod place;
mod restore;
mod stream;

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_stream::wrappers::ReceiverStream;

pub use place::Place;
pub use restore::{RestoreSummary, probe};
pub use stream::BackupStream;

use crate::{
    client::{
        Client,
        backup::{
            frames::{Digest, Writer},
            place::Folder,
        },
        error::{Error, Result},
        joined,
        target::{Existing, TempFiles},
        transfer::TransferProgress,
        wait::Timeout,
    },
    limits,
    wire::v1::{
        BackupHeader, BackupOffer, BackupPart, BackupRecord, BackupRequest, BackupStart,
        BackupWants, backup_record::Record, backup_request, backup_response,
        restore_request::Payload,
    },
};

/// The result of a finished backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// The file of the backup; in a folder of backups, the manifest.
    pub path: PathBuf,
    /// The name of the snapshot in a folder of backups; `None` for a file.
    pub snapshot: Option<String>,
    /// The files of the store, each copy counted.
    pub file_count: u64,
    /// The logical bytes of those files.
    pub size_bytes: u64,
    /// The distinct parts of the backup.
    pub parts: u64,
    /// The bytes of those parts.
    pub part_bytes: u64,
    /// The parts that were fetched.
    pub new_parts: u64,
    /// The bytes that were fetched.
    pub new_bytes: u64,
}

impl Client {
    /// Takes a backup. `existing` says whether an existing file is overwritten; a missing folder is created.
    ///
    /// # Errors
    /// Those of the server; [`Error::Lost`] if the server ends the stream before the footer; [`Error::Exists`];
    /// [`Error::Place`] for a folder with other files, or one that another backup writes into.
    ///
    /// # Cancel safety
    /// When the future is dropped, or fails, the complete parts in a folder stay, and nothing incomplete.
    pub async fn backup(
        &self,
        place: &Place,
        existing: Existing,
        tally: &Arc<TransferProgress>,
    ) -> Result<BackupSummary> {
        let folder = match place {
            Place::Folder(path) => {
                let path = path.clone();
                Some(joined(tokio::task::spawn_blocking(move || Folder::open(&path))).await?)
            }
            Place::File(_) => None,
        };
        let wait = self.wait("go on with the backup".to_owned(), limits::TRANSFER_SILENCE);
        let backed = async {
            let receiving = Receiving::new(place.clone(), folder, existing, tally);
            let receiving = self.receive_backup(receiving, &wait).await?;
            wait.pause();
            receiving.finish().await
        };
        self.attended(&wait, backed).await
    }

    /// Receives all messages of a backup.
    async fn receive_backup<'a>(
        &self,
        mut receiving: Receiving<'a>,
        wait: &Timeout,
    ) -> Result<Receiving<'a>> {
        let (requests, receiver) = mpsc::channel(1);
        let ask = |payload| BackupRequest { payload: Some(payload) };
        let start = BackupStart { everything: receiving.folder.is_none(), copy: false };
        // This send cannot fail, because this function holds the receiver.
        requests.send(ask(backup_request::Payload::Start(start))).await.ok();
        let call = self.stub.clone().backup(ReceiverStream::new(receiver)).await;
        let mut messages = self.answer(call)?;
        let mut received = 0;
        while let Some(message) = messages.message().await.map_err(|status| self.error(&status))? {
            wait.pause();
            match message.payload {
                Some(backup_response::Payload::Offer(offer)) => {
                    let wants = receiving.offer(offer).await?;
                    requests.send(ask(backup_request::Payload::Wants(wants))).await.ok();
                }
                Some(backup_response::Payload::Record(record)) => receiving.record(record).await?,
                Some(backup_response::Payload::Data(data)) => receiving.data(data).await?,
                None => return Err(Error::Answer("a message of a backup is empty".to_owned())),
            }
            received += 1;
            wait.resume(received);
        }
        if !receiving.digest.is_whole() {
            let why = "it ended the backup too early".to_owned();
            return Err(Error::Lost { server: self.server.clone(), why });
        }
        Ok(receiving)
    }
}

/// The receiving end of a backup.
struct Receiving<'a> {
    place: Place,
    folder: Option<Folder>,
    existing: Existing,
    tally: &'a Arc<TransferProgress>,
    digest: Digest,
    sink: Option<Sink>,
    /// For each offered part whose record has not been received yet: whether its bytes were requested.
    wanted: VecDeque<bool>,
    incoming: Option<IncomingPart>,
    keeping: JoinSet<Result<()>>,
    /// The first byte of the digest of each part of the backup: the folders of parts to sync at the end.
    firsts: BTreeSet<u8>,
    /// The unfinished files. When `Receiving` is dropped, they are removed.
    partials: TempFiles,
    backed: BackupSummary,
}

/// A part whose bytes are being received.
struct IncomingPart {
    part: BackupPart,
    left: u64,
    hasher: blake3::Hasher,
    pieces: Vec<Bytes>,
}

impl<'a> Receiving<'a> {
    fn new(
        place: Place,
        folder: Option<Folder>,
        existing: Existing,
        tally: &'a Arc<TransferProgress>,
    ) -> Self {
        Self {
            place,
            folder,
            existing,
            tally,
            digest: Digest::default(),
            sink: None,
            wanted: VecDeque::new(),
            incoming: None,
            keeping: JoinSet::new(),
            firsts: BTreeSet::new(),
            partials: TempFiles::default(),
            backed: BackupSummary::default(),
        }
    }

    /// Answers an offer with the parts that the folder does not have.
    async fn offer(&mut self, offer: BackupOffer) -> Result<BackupWants> {
        let Some(folder) = self.folder.clone() else {
            return Err(Error::Answer("an offer came that was not asked for".to_owned()));
        };
        let look = tokio::task::spawn_blocking(move || folder.missing(&offer.parts));
        self.wanted = joined(look).await?.into();
        let places = (0..).zip(&self.wanted).filter(|(_, wanted)| **wanted);
        let parts = places.map(|(place, _)| place).collect();
        Ok(BackupWants { parts, all_folders: false })
    }

    async fn record(&mut self, record: BackupRecord) -> Result<()> {
        self.digest.add(&record).map_err(|why| Error::Answer(format!("the backup: {why}")))?;
        if self.incoming.is_some() {
            return Err(Error::Answer("the bytes of a part are missing".to_owned()));
        }
        match &record.record {
            Some(Record::Header(header)) => self.begin(header).await?,
            Some(Record::Part(part)) => self.part(part)?,
            Some(Record::Content(_)) => self.tally.add(1, 0),
            Some(Record::Footer(footer)) => {
                (self.backed.parts, self.backed.part_bytes) = (footer.parts, footer.part_bytes);
            }
            Some(
                Record::List(_)
                | Record::Entries(_)
                | Record::Folder(_)
                | Record::Known(_)
                | Record::Tag(_),
            )
            | None => {}
        }
        self.write(Payload::Record(record)).await
    }

    async fn begin(&mut self, header: &BackupHeader) -> Result<()> {
        self.tally.expect(header.contents_expected, header.bytes_expected);
        self.backed.file_count = header.file_count;
        self.backed.size_bytes = header.size_bytes;
        let path = match (&self.folder, &self.place) {
            (Some(folder), _) => {
                let name = snapshot_name(header)?;
                let path = folder.manifest(&name);
                self.backed.snapshot = Some(name);
                path
            }
            (None, Place::Folder(path) | Place::File(path)) => path.clone(),
        };
        self.backed.path.clone_from(&path);
        let existing = self.existing;
        let register = self.partials.register();
        let writer = tokio::task::spawn_blocking(move || Writer::create(&path, existing, register));
        self.sink = Some(Sink::new(joined(writer).await?));
        Ok(())
    }

    fn part(&mut self, part: &BackupPart) -> Result<()> {
        let [first, ..] = place::digest(part)?;
        self.firsts.insert(first);
        if part.size_bytes == 0 || part.size_bytes > limits::PART_BYTES_MAX as u64 {
            return Err(Error::Answer(format!("a part has {} bytes", part.size_bytes)));
        }
        if self.folder.is_some() && !self.wanted.pop_front().unwrap_or(false) {
            self.tally.add(0, part.size_bytes);
            return Ok(());
        }
        self.backed.new_parts += 1;
        self.backed.new_bytes += part.size_bytes;
        let (hasher, left) = (blake3::Hasher::new(), part.size_bytes);
        self.incoming = Some(IncomingPart { part: part.clone(), left, hasher, pieces: Vec::new() });
        Ok(())
    }

    async fn data(&mut self, data: Bytes) -> Result<()> {
        let size = data.len() as u64;
        let Some(incoming) = self.incoming.as_mut().filter(|part| size <= part.left) else {
            return Err(Error::Answer("more bytes of a part came than it has".to_owned()));
        };
        incoming.left -= size;
        incoming.hasher.update(&data);
        self.tally.add(0, size);
        if self.folder.is_some() {
            incoming.pieces.push(data);
        } else {
            self.write(Payload::Data(data)).await?;
        }
        match self.incoming.take_if(|incoming| incoming.left == 0) {
            Some(incoming) => self.keep(incoming).await,
            None => Ok(()),
        }
    }

    /// Checks the digest of a complete part, and begins to write the part to the folder while the next ones are
    /// received.
    async fn keep(&mut self, incoming: IncomingPart) -> Result<()> {
        let digest = place::digest(&incoming.part)?;
        if incoming.hasher.finalize() != digest {
            let digest = blake3::Hash::from_bytes(digest);
            let why = "its bytes are not those of its digest".to_owned();
            return Err(Error::Damaged { path: format!("the part {digest}"), why });
        }
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let register = self.partials.register();
        self.keeping.spawn_blocking(move || folder.keep(&digest, &incoming.pieces, register));
        self.settle(limits::BACKUP_PARTS_IN_FLIGHT - 1).await
    }

    /// Waits until at most `left` parts are being written.
    async fn settle(&mut self, left: usize) -> Result<()> {
        while self.keeping.len() > left
            && let Some(kept) = self.keeping.join_next().await
        {
            // A thread that panicked has kept nothing.
            kept.unwrap_or_else(|error| Err(Error::Answer(error.to_string())))?;
        }
        Ok(())
    }

    async fn write(&mut self, payload: Payload) -> Result<()> {
        match &mut self.sink {
            Some(sink) => sink.write(payload).await,
            None => Err(Error::Answer("the backup has no header".to_owned())),
        }
    }

    /// Makes the backup durable: first all parts, then the file of records under its final name.
    async fn finish(mut self) -> Result<BackupSummary> {
        self.settle(0).await?;
        let Some(sink) = self.sink.take() else {
            return Err(Error::Answer("the backup has no header".to_owned()));
        };
        let writer = sink.end().await?;
        let (folder, firsts) = (self.folder.take(), std::mem::take(&mut self.firsts));
        let existing = self.existing;
        let finish = tokio::task::spawn_blocking(move || {
            if let Some(folder) = folder {
                folder.sync_parts(firsts.into_iter())?;
            }
            writer.finish(existing)
        });
        joined(finish).await?;
        Ok(self.backed)
    }
}

/// A blocking task that writes messages, with the channel that feeds it.
struct Sink {
    payloads: mpsc::Sender<Payload>,
    thread: JoinHandle<Result<Writer>>,
}

impl Sink {
    fn new(mut writer: Writer) -> Self {
        let (payloads, mut next) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(payload) = next.blocking_recv() {
                writer.write(payload)?;
            }
            Ok(writer)
        });
        Self { payloads, thread }
    }

    async fn write(&mut self, payload: Payload) -> Result<()> {
        if self.payloads.send(payload).await.is_ok() {
            return Ok(());
        }
        // The task has ended because a write failed; its result is the error.
        match joined(std::mem::replace(&mut self.thread, tokio::spawn(std::future::pending())))
            .await
        {
            Err(error) => Err(error),
            Ok(writer) => {
                drop(writer);
                Err(Error::Answer("the backup came to an end twice".to_owned()))
            }
        }
    }

    /// Waits until all messages are written.
    async fn end(self) -> Result<Writer> {
        drop(self.payloads);
        joined(self.thread).await
    }
}

/// The name of a snapshot: the time that it shows, so that names sort by time.
fn snapshot_name(header: &BackupHeader) -> Result<String> {
    let taken = header.taken_at.unwrap_or_default();
    let taken = jiff::Timestamp::new(taken.seconds, taken.nanos);
    let taken = taken.map_err(|error| Error::Answer(format!("the time of the backup: {error}")))?;
    Ok(taken.strftime("%Y-%m-%dT%H-%M-%S.%6fZ").to_string())
}
