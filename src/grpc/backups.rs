//! Backups and restores: conversion of their records to messages and back, and the digest of the records.
//!
//! The digest covers the encoded messages of all records, so it is computed and compared here.

use bytes::Bytes;
use futures::stream;
use prost::Message as _;
use tonic::Streaming;

use crate::{
    access::{RequestContext, Rpc},
    error::{Error, Kind, Result},
    grpc::transfers,
    model::{
        BackupCounts, BackupEntry, BackupHeader, BackupPart, BackupRecord, BackupTarget, Digest,
        FileVersion, Taken, Totals,
    },
    offload,
    store::{Backup, BackupMessage, Store},
    wire::{
        backend::Answers,
        convert::{micros, timestamp},
        status::{from_error, kind_of_broken_body},
        v1::{
            self, BackupRequest, BackupResponse, RestoreRequest, RestoreResponse,
            backup_entry::Target, backup_record::Record, backup_request, backup_response,
            restore_request,
        },
    },
};

/// A backup that is being sent.
struct Sending {
    backup: Backup,
    requests: Streaming<BackupRequest>,
    hasher: blake3::Hasher,
    /// Whether the last message was an offer, which the caller must answer.
    is_asked: bool,
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
    let backup = store.backup(start.everything, &call).await?;
    let hasher = blake3::Hasher::new();
    let sending = Sending { backup, requests, hasher, is_asked: false };
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
        if std::mem::take(&mut self.is_asked) {
            match next_request(&mut self.requests).await? {
                Some(backup_request::Payload::Wants(wants)) => self.backup.want(wants.parts).await,
                Some(backup_request::Payload::Start(_)) | None => {
                    return Err(Error::invalid("wants", "an offer has no answer; send its wants"));
                }
            }
        }
        Ok(match self.backup.next().await.transpose()? {
            None => None,
            Some(BackupMessage::Offer(parts)) => {
                self.is_asked = true;
                let parts = parts.iter().map(to_part).collect();
                Some(Payload::Offer(v1::BackupOffer { parts }))
            }
            Some(BackupMessage::Record(record)) => {
                let mut record = to_record(record);
                if let Some(Record::Footer(footer)) = &mut record.record {
                    footer.digest = self.hasher.finalize().as_bytes().to_vec().into();
                } else {
                    (self.hasher, record) = hashed(self.hasher.clone(), record).await;
                }
                Some(Payload::Record(record))
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
        let mut hasher = blake3::Hasher::new();
        while let Some(request) = transfers::next(&mut requests).await? {
            match request.payload {
                Some(Payload::Record(mut record)) => {
                    if let Some(Record::Footer(footer)) = &record.record {
                        if footer.digest != hasher.finalize().as_bytes().as_slice() {
                            return Err(damaged("its records are not those of its digest"));
                        }
                    } else {
                        (hasher, record) = hashed(hasher, record).await;
                    }
                    restore.record(from_record(record)?).await?;
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

/// Adds a record to the digest.
async fn hashed(
    mut hasher: blake3::Hasher,
    record: v1::BackupRecord,
) -> (blake3::Hasher, v1::BackupRecord) {
    let bytes = record.encoded_len();
    offload::run(bytes, move || {
        hasher.update(&record.encode_length_delimited_to_vec());
        (hasher, record)
    })
    .await
}

fn damaged(why: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the backup is damaged: {why}"))
}

fn to_part(part: &BackupPart) -> v1::BackupPart {
    let digest = Bytes::copy_from_slice(&part.digest.0);
    v1::BackupPart { digest, size_bytes: part.size as u64 }
}

fn to_record(record: BackupRecord) -> v1::BackupRecord {
    let record = match record {
        BackupRecord::Header(header) => Record::Header(to_header(&header)),
        BackupRecord::Part(part) => Record::Part(to_part(&part)),
        BackupRecord::List(parts) => Record::List(v1::BackupList { parts }),
        BackupRecord::Content { digest, size } => Record::Content(v1::BackupContent {
            digest: digest.map(|digest| Bytes::copy_from_slice(&digest.0)).unwrap_or_default(),
            size_bytes: size as u64,
        }),
        BackupRecord::Entries(entries) => Record::Entries(v1::BackupEntries {
            entries: entries.into_iter().map(to_entry).collect(),
        }),
        BackupRecord::Folder(totals) => Record::Folder(v1::BackupFolder {
            file_count: totals.files as u64,
            size_bytes: totals.bytes as u64,
        }),
        BackupRecord::Footer(counts) => Record::Footer(v1::BackupFooter {
            parts: counts.parts,
            part_bytes: counts.part_bytes,
            contents: counts.contents,
            folders: counts.folders,
            entries: counts.entries,
            digest: Bytes::new(),
        }),
    };
    v1::BackupRecord { record: Some(record) }
}

fn to_header(header: &BackupHeader) -> v1::BackupHeader {
    let Taken { at, version, totals } = header.taken;
    v1::BackupHeader {
        format: header.format,
        taken_at: Some(timestamp(at)),
        epoch_data_loss_number: version.epoch_data_loss,
        epoch_configuration_number: version.epoch_configuration,
        version_number: version.number as u64,
        file_count: totals.files as u64,
        size_bytes: totals.bytes as u64,
        contents_expected: header.expected.files as u64,
        bytes_expected: header.expected.bytes as u64,
    }
}

fn to_entry(entry: BackupEntry) -> v1::BackupEntry {
    let (target, version, modified_at) = match entry.target {
        BackupTarget::Folder(number) => (Target::Folder(number), 0, None),
        BackupTarget::File { content, version, modified } => {
            (Target::Content(content), version, Some(timestamp(modified)))
        }
    };
    v1::BackupEntry {
        name: entry.name,
        target: Some(target),
        version_number: version as u64,
        modified_at,
    }
}

fn from_record(record: v1::BackupRecord) -> Result<BackupRecord> {
    Ok(match record.record {
        Some(Record::Header(header)) => BackupRecord::Header(from_header(&header)?),
        Some(Record::Part(part)) => BackupRecord::Part(BackupPart {
            digest: digest(&part.digest)?,
            size: number(part.size_bytes)?,
        }),
        Some(Record::List(list)) => BackupRecord::List(list.parts),
        Some(Record::Content(content)) => {
            let known = !content.digest.is_empty();
            let digest = known.then(|| digest(&content.digest)).transpose()?;
            BackupRecord::Content { digest, size: number(content.size_bytes)? }
        }
        Some(Record::Entries(entries)) => BackupRecord::Entries(
            entries.entries.into_iter().map(from_entry).collect::<Result<_>>()?,
        ),
        Some(Record::Folder(folder)) => BackupRecord::Folder(Totals {
            files: number(folder.file_count)?,
            bytes: number(folder.size_bytes)?,
        }),
        Some(Record::Footer(footer)) => BackupRecord::Footer(BackupCounts {
            parts: footer.parts,
            part_bytes: footer.part_bytes,
            contents: footer.contents,
            folders: footer.folders,
            entries: footer.entries,
        }),
        None => return Err(damaged("a record is of no known kind")),
    })
}

fn from_header(header: &v1::BackupHeader) -> Result<BackupHeader> {
    let totals =
        |files, bytes| -> Result<_> { Ok(Totals { files: number(files)?, bytes: number(bytes)? }) };
    Ok(BackupHeader {
        format: header.format,
        taken: Taken {
            at: header.taken_at.as_ref().map_or(0, micros),
            version: FileVersion {
                epoch_data_loss: header.epoch_data_loss_number,
                epoch_configuration: header.epoch_configuration_number,
                number: number(header.version_number)?,
            },
            totals: totals(header.file_count, header.size_bytes)?,
        },
        expected: totals(header.contents_expected, header.bytes_expected)?,
    })
}

fn from_entry(entry: v1::BackupEntry) -> Result<BackupEntry> {
    let target = match entry.target {
        Some(Target::Folder(folder)) => BackupTarget::Folder(folder),
        Some(Target::Content(content)) => BackupTarget::File {
            content,
            version: number(entry.version_number)?,
            modified: entry.modified_at.as_ref().map_or(0, micros),
        },
        None => return Err(damaged("an entry refers to nothing")),
    };
    Ok(BackupEntry { name: entry.name, target })
}

fn number(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| damaged("a number is larger than any of a store"))
}

fn digest(bytes: &Bytes) -> Result<Digest> {
    let bytes = <[u8; 32]>::try_from(bytes.as_ref());
    bytes.map(Digest).map_err(|_| damaged("a digest has not 32 bytes"))
}
