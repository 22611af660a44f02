//! Restores: a backup is sent into an empty store.
//!
//! A blocking task reads the file of the backup and, from a folder of backups, the files of the parts. It runs ahead of
//! the connection by [`limits::TRANSFER_MESSAGES_IN_FLIGHT`] messages. Records, and parts that are files, are checked
//! before they are sent, so that an error names the damaged file. The server checks the parts within a file.

use std::{
    fs,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::{
        Client,
        backup::{
            frames::Reader,
            place::{self, Folder, Place},
        },
        error::{Error, Result},
        joined,
        transfer::TransferProgress,
    },
    limits,
    wire::v1::{BackupPart, RestoreRequest, backup_record::Record, restore_request::Payload},
};

/// The result of a finished restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSummary {
    /// The file of the backup; in a folder of backups, the manifest.
    pub path: PathBuf,
    /// The files of the store, each copy counted.
    pub file_count: u64,
    /// The logical bytes of those files.
    pub size_bytes: u64,
}

/// Checks that a backup exists and that its first message is valid. Blocks.
///
/// A pipe is not read, because its bytes can be read only once.
///
/// # Errors
/// [`Error::Backup`] if the place has no backup, or not this snapshot; [`Error::Local`] if it cannot be read.
pub fn probe(place: &Place, snapshot: Option<&str>) -> Result<()> {
    if let (Place::File(path), None) = (place, snapshot)
        && fs::metadata(path).is_ok_and(|found| !found.is_file())
    {
        return Ok(());
    }
    BackupReader::open(place, snapshot)?.reader.next().map(drop)
}

impl Client {
    /// Restores a backup. `snapshot` selects one from a folder of backups; `None`: the newest one.
    ///
    /// # Errors
    /// [`Error::Backup`] for a truncated or damaged backup; [`Kind::AlreadyExists`](crate::error::Kind::AlreadyExists)
    /// if the store is not empty. Nothing becomes visible then.
    ///
    /// # Cancel safety
    /// When the future is dropped, either nothing of the backup becomes visible or all of it.
    pub async fn restore(
        &self,
        place: &Place,
        snapshot: Option<&str>,
        tally: &Arc<TransferProgress>,
    ) -> Result<RestoreSummary> {
        let (from, name) = (place.clone(), snapshot.map(str::to_owned));
        let open = tokio::task::spawn_blocking(move || BackupReader::open(&from, name.as_deref()));
        let source = joined(open).await?;
        let path = source.path.clone();
        let (sender, messages) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        // While this sender lives, the request stream stays open: after a read error the stream must not end, because
        // the server could take that for the end of the backup.
        let open = sender.clone();
        let mut stub = self.stub.clone();
        let wait = self.wait("restore the backup".to_owned(), limits::TRANSFER_SILENCE);
        let mut call = pin!(stub.restore(wait.paced(ReceiverStream::new(messages))));
        let tally = Arc::clone(tally);
        let reader = tokio::task::spawn_blocking(move || source.send(&sender, &tally));
        let answer = async {
            let answer = tokio::select! {
                answer = &mut call => answer,
                read = joined(reader) => {
                    read?;
                    drop(open);
                    call.await
                }
            };
            self.answer(answer)
        };
        let answer = self.attended(&wait, answer).await?;
        Ok(RestoreSummary { path, file_count: answer.file_count, size_bytes: answer.size_bytes })
    }
}

/// A backup that is being read.
struct BackupReader {
    path: PathBuf,
    reader: Reader,
    /// The folder of backups with the files of the parts; `None` if the parts are in the file of the backup.
    folder: Option<Folder>,
}

impl BackupReader {
    fn open(place: &Place, snapshot: Option<&str>) -> Result<Self> {
        let (path, folder) = match (place, snapshot) {
            (Place::Folder(folder), name) => {
                let folder = Folder::new(folder);
                (folder.find(name)?, Some(folder))
            }
            (Place::File(path), None) => (path.clone(), None),
            (Place::File(path), Some(_)) => {
                let why = "a file has no snapshots to choose from".to_owned();
                return Err(Error::Backup { path: path.clone(), why });
            }
        };
        Ok(Self { reader: Reader::open(&path)?, path, folder })
    }

    /// Sends the whole backup, or stops when the receiver is closed. Blocks.
    fn send(
        mut self,
        messages: &mpsc::Sender<RestoreRequest>,
        tally: &TransferProgress,
    ) -> Result<()> {
        let send =
            |payload| messages.blocking_send(RestoreRequest { payload: Some(payload) }).is_ok();
        while let Some(payload) = self.reader.next()? {
            let mut bytes = None;
            match &payload {
                Payload::Data(data) => tally.add(0, data.len() as u64),
                Payload::Record(record) => match &record.record {
                    Some(Record::Header(header)) => {
                        tally.expect(header.contents_expected, header.bytes_expected);
                    }
                    Some(Record::Content(_)) => tally.add(1, 0),
                    Some(Record::Part(part)) => {
                        bytes =
                            self.folder.as_ref().map(|folder| read(folder, part)).transpose()?;
                    }
                    _ => {}
                },
            }
            if !send(payload) {
                return Ok(());
            }
            let mut bytes = bytes.unwrap_or_default();
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(limits::STREAM_MESSAGE_BYTES));
                tally.add(0, piece.len() as u64);
                if !send(Payload::Data(piece)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Reads the file of a part, and checks its size and digest.
fn read(folder: &Folder, part: &BackupPart) -> Result<Bytes> {
    let digest = place::digest(part)?;
    let path = folder.part(&digest);
    let unfit = |why: &str| Error::Backup { path: path.clone(), why: why.to_owned() };
    if size_of(&path)?.is_none_or(|size| size != part.size_bytes) {
        return Err(unfit("this part is missing, or has lost some of its bytes"));
    }
    let bytes = fs::read(&path).map_err(Error::local("read", &path))?;
    if blake3::hash(&bytes) != digest {
        return Err(unfit("the bytes of this part are damaged; delete it and take a new backup"));
    }
    Ok(bytes.into())
}

/// The size of a file; `None` if it does not exist.
fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::local("read", path)(error)),
    }
}
