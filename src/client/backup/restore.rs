//! The sending of a backup into an empty store.
//!
//! A thread reads the file of the backup and, where parts are files of their own, those; it runs ahead
//! of the connection by a few messages. Everything is checked before it is sent, so that what is wrong
//! with a backup is told by the name of its file.

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
        transfer::Tally,
    },
    limits,
    wire::v1::{BackupPart, RestoreRequest, backup_record::Record, restore_request::Payload},
};

/// A store that is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The file of the backup: of a folder, the manifest.
    pub path: PathBuf,
    /// The files of the store, each copy counted.
    pub file_count: u64,
    /// Their logical bytes.
    pub size_bytes: u64,
}

/// Sees that there is a backup, and that it begins as one. Blocks.
///
/// A pipe is left alone: what is read from it is gone.
///
/// # Errors
/// [`Error::Backup`] for what is none, or has no such snapshot; [`Error::Local`] for what is not there.
pub fn probe(place: &Place, snapshot: Option<&str>) -> Result<()> {
    if let (Place::File(path), None) = (place, snapshot)
        && fs::metadata(path).is_ok_and(|found| !found.is_file())
    {
        return Ok(());
    }
    Source::open(place, snapshot)?.reader.next().map(drop)
}

impl Client {
    /// Restores a backup: of a folder the snapshot of a name, or the newest one.
    ///
    /// # Errors
    /// [`Error::Backup`] for one that is truncated or damaged;
    /// [`Kind::AlreadyExists`](crate::error::Kind::AlreadyExists) where the store is not empty. Nothing
    /// is visible then.
    ///
    /// # Cancel safety
    /// When it is dropped, nothing is visible, or all of it.
    pub async fn restore(
        &self,
        place: &Place,
        snapshot: Option<&str>,
        tally: &Arc<Tally>,
    ) -> Result<Restored> {
        let (from, name) = (place.clone(), snapshot.map(str::to_owned));
        let open = tokio::task::spawn_blocking(move || Source::open(&from, name.as_deref()));
        let source = joined(open).await?;
        let path = source.path.clone();
        let (sender, messages) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        // While this is held the stream has no end that the server could take for that of the backup.
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
        Ok(Restored { path, file_count: answer.file_count, size_bytes: answer.size_bytes })
    }
}

/// A backup that is read.
struct Source {
    path: PathBuf,
    reader: Reader,
    /// The folder that has its parts.
    folder: Option<Folder>,
}

impl Source {
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

    /// Sends all of it, or as much as is taken.
    fn send(mut self, messages: &mpsc::Sender<RestoreRequest>, tally: &Tally) -> Result<()> {
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

/// Reads and checks the file of a part.
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

/// The size of a file; nothing where there is none.
fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::local("read", path)(error)),
    }
}
