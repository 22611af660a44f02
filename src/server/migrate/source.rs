//! The source of a migration: a server, or the store of a stopped one.

use super::{Error, OpenEnd};
use crate::{
    client::{Client, backup::BackupStream},
    error::Source as Cause,
    grpc::backups::records::{Records, from_part, from_tag},
    model::{BackupHeader, BackupRecord},
    namespace::migration::Credentials,
    store::{Backup, BackupMessage, Call},
    wire::v1::{BackupWants, backup_response::Payload},
};

/// A source that can be read.
pub(super) enum Source {
    /// A store that only this process has open.
    Stopped(OpenEnd),
    /// A server.
    Running(Box<Client>),
}

/// A snapshot of the source that is being read.
pub(super) struct Reading {
    /// Its header.
    pub(super) header: BackupHeader,
    from: From,
}

enum From {
    Stopped(Backup),
    Running(Box<(BackupStream, Records)>),
}

impl Source {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// Takes a snapshot.
    pub(super) async fn begin(&self) -> Result<Reading, Error> {
        let mut from = match self {
            Self::Stopped(end) => {
                let backup = end.store.backup_for_copy(&Call::system()).await;
                From::Stopped(backup.map_err(unreadable)?)
            }
            Self::Running(client) => {
                let stream = client.backup_for_copy().await.map_err(unreadable)?;
                From::Running(Box::new((stream, Records::default())))
            }
        };
        match from.next().await? {
            Some(BackupMessage::Record(BackupRecord::Header(header)))
                if header.source.is_none() =>
            {
                Err(Error::new(
                    "the server is of an older imagestore, and cannot be copied while it serves; stop it, and name its \
                     store by --from-data",
                ))
            }
            Some(BackupMessage::Record(BackupRecord::Header(header))) => {
                Ok(Reading { header, from })
            }
            _ => Err(Error::new("cannot read the source: it sends no header")),
        }
    }

    /// What backups do not contain; `None` if the source is a server.
    pub(super) async fn credentials(&self) -> Result<Option<Credentials>, Error> {
        match self {
            Self::Stopped(end) => {
                end.store.credentials(&Call::system()).await.map(Some).map_err(unreadable)
            }
            Self::Running(_) => Ok(None),
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Stopped(end) => end.close().await,
            Self::Running(_) => {}
        }
    }
}

impl Reading {
    /// The next message; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<BackupMessage>, Error> {
        self.from.next().await
    }

    /// Answers an offer with the indices of what is wanted; `None`: all folders.
    pub(super) async fn want(&mut self, wanted: Option<Vec<u32>>) {
        match (&mut self.from, wanted) {
            (From::Stopped(backup), Some(wanted)) => backup.want(wanted).await,
            (From::Stopped(backup), None) => backup.want_all_folders().await,
            (From::Running(running), wanted) => {
                let (stream, _) = running.as_mut();
                let all_folders = wanted.is_none();
                let parts = wanted.unwrap_or_default();
                stream.want(BackupWants { parts, all_folders }).await;
            }
        }
    }
}

impl From {
    async fn next(&mut self) -> Result<Option<BackupMessage>, Error> {
        let (stream, records) = match self {
            Self::Stopped(backup) => return backup.next().await.transpose().map_err(unreadable),
            Self::Running(running) => running.as_mut(),
        };
        let message = match stream.next().await.map_err(unreadable)? {
            None => return Ok(None),
            Some(Payload::Offer(offer)) if offer.folders.is_empty() => {
                let parts = offer.parts.iter().map(from_part).collect::<Result<_, _>>();
                BackupMessage::Offer(parts.map_err(unreadable)?)
            }
            Some(Payload::Offer(offer)) => {
                BackupMessage::Folders(offer.folders.iter().map(from_tag).collect())
            }
            Some(Payload::Record(record)) => {
                BackupMessage::Record(records.received(record).await.map_err(unreadable)?)
            }
            Some(Payload::Data(data)) => BackupMessage::Data(data),
        };
        Ok(Some(message))
    }
}

fn unreadable(error: impl Into<Cause>) -> Error {
    Error::new("cannot read the source").because(error)
}
