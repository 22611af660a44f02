//! Backups and restores: conversion of their records to messages and back, and the digest of the records.
//!
//! The digest covers the encoded messages of all records, so it is computed and compared here.

pub mod records;

use futures::stream;
use tonic::Streaming;

use crate::{
    access::{RequestContext, Rpc},
    error::{Error, Kind, Result},
    grpc::{
        backups::records::{Records, damaged, to_part, to_record, to_tag},
        transfers,
    },
    store::{Backup, BackupMessage, Store},
    wire::{
        backend::Answers,
        status::{from_error, kind_of_broken_body},
        v1::{
            self, BackupRequest, BackupResponse, RestoreRequest, RestoreResponse, backup_request,
            backup_response, restore_request,
        },
    },
};

/// A backup that is being sent.
struct Sending {
    backup: Backup,
    requests: Streaming<BackupRequest>,
    records: Records,
    /// Whether the last message was an offer, which the caller must answer: one of parts or one of folders.
    asked: Option<Asked>,
}

/// What was offered.
#[derive(Clone, Copy)]
enum Asked {
    Parts,
    Folders,
}

/// Begins a backup and returns its response stream.
pub(super) async fn backup(
    store: &Store,
    context: &RequestContext,
    mut requests: Streaming<BackupRequest>,
) -> Result<Answers<BackupResponse>> {
    let call = context.authorize(Rpc::Backup, &[])?;
    let start = match call.until(next_request(&mut requests)).await? {
        Some(backup_request::Payload::Start(start)) => start,
        Some(backup_request::Payload::Wants(_)) | None => {
            return Err(Error::invalid("start", "the first message has no start; send it first"));
        }
    };
    let backup = if start.copy {
        store.backup_for_copy(&call).await?
    } else {
        store.backup(start.everything, &call).await?
    };
    let sending = Sending { backup, requests, records: Records::default(), asked: None };
    Ok(Box::pin(stream::unfold(Some((sending, call)), async |state| {
        let (mut sending, call) = state?;
        match Box::pin(call.until(sending.next())).await {
            Ok(Some(payload)) => {
                Some((Ok(BackupResponse { payload: Some(payload) }), Some((sending, call))))
            }
            Ok(None) => None,
            Err(error) => Some((Err(from_error(&error)), None)),
        }
    })))
}

/// The payload of the next message of a backup's caller.
///
/// # Errors
/// `Timeout`, `Busy`, `TooLarge` or `MessageTooLarge` if this server has ended the stream, `Cancelled` if the caller
/// has disconnected or has sent an invalid message.
async fn next_request(
    requests: &mut Streaming<BackupRequest>,
) -> Result<Option<backup_request::Payload>> {
    let message = requests.message().await.map_err(|status| {
        if let Some(kind) = kind_of_broken_body(&status) {
            return Error::new(kind, status.message());
        }
        let left = Error::new(Kind::Cancelled, "the caller of the backup left");
        left.because(status.to_string())
    });
    Ok(message?.and_then(|request| request.payload))
}

impl Sending {
    async fn next(&mut self) -> Result<Option<backup_response::Payload>> {
        use backup_response::Payload;
        if let Some(asked) = self.asked.take() {
            match (next_request(&mut self.requests).await?, asked) {
                (Some(backup_request::Payload::Wants(wants)), Asked::Folders)
                    if wants.all_folders =>
                {
                    self.backup.want_all_folders().await;
                }
                (Some(backup_request::Payload::Wants(wants)), _) => {
                    self.backup.want(wants.parts).await;
                }
                (Some(backup_request::Payload::Start(_)) | None, _) => {
                    return Err(Error::invalid("wants", "an offer has no answer; send its wants"));
                }
            }
        }
        Ok(match self.backup.next().await.transpose()? {
            None => None,
            Some(BackupMessage::Offer(parts)) => {
                self.asked = Some(Asked::Parts);
                let parts = parts.iter().map(to_part).collect();
                Some(Payload::Offer(v1::BackupOffer { parts, folders: Vec::new() }))
            }
            Some(BackupMessage::Folders(folders)) => {
                self.asked = Some(Asked::Folders);
                let folders = folders.iter().map(to_tag).collect();
                Some(Payload::Offer(v1::BackupOffer { parts: Vec::new(), folders }))
            }
            Some(BackupMessage::Record(record)) => {
                Some(Payload::Record(self.records.sent(to_record(record)).await))
            }
            Some(BackupMessage::Data(data)) => Some(Payload::Data(data)),
        })
    }
}

/// Receives a backup and makes it visible.
pub(super) async fn restore(
    store: &Store,
    context: &RequestContext,
    mut requests: Streaming<RestoreRequest>,
) -> Result<RestoreResponse> {
    use restore_request::Payload;
    let call = context.authorize(Rpc::Restore, &[])?;
    let stop = store.draining();
    let mut restore = store.restore(&call).await?;
    let receiving = async {
        let mut records = Records::default();
        while let Some(request) = transfers::next(&mut requests).await? {
            match request.payload {
                Some(Payload::Record(record)) => {
                    restore.record(records.received(record).await?).await?;
                }
                Some(Payload::Data(data)) => restore.data(data).await?,
                None => return Err(damaged("a message is empty")),
            }
        }
        Ok(())
    };
    // If the deadline or a stop ends it here, the restore is dropped, and nothing becomes visible.
    tokio::select! {
        received = call.until(receiving) => received?,
        () = stop.cancelled() => return Err(Error::stopping()),
    }
    let totals = restore.finish(&call).await?;
    Ok(RestoreResponse { file_count: totals.files as u64, size_bytes: totals.bytes as u64 })
}
