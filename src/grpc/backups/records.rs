//! The records of backups as messages, and the digest over them.

use bytes::Bytes;
use prost::Message as _;

use crate::{
    error::{Error, Kind, Result},
    model::{
        BackupCounts, BackupEntry, BackupHeader, BackupPart, BackupRecord, BackupTarget,
        CopySource, Digest, FileVersion, FolderTag, Taken, Totals,
    },
    offload,
    wire::{
        convert::{micros, timestamp},
        v1::{self, backup_entry::Target, backup_record::Record},
    },
};

/// The running digest over the records of a backup.
#[derive(Debug, Default)]
pub struct Records {
    hasher: blake3::Hasher,
}

impl Records {
    /// Adds a record that is sent. A footer gets the digest of the records before it.
    pub(super) async fn sent(&mut self, mut record: v1::BackupRecord) -> v1::BackupRecord {
        if let Some(Record::Footer(footer)) = &mut record.record {
            footer.digest = self.hasher.finalize().as_bytes().to_vec().into();
            return record;
        }
        (self.hasher, record) = hashed(self.hasher.clone(), record).await;
        record
    }

    /// Adds a record that was received. Compares the digest of a footer.
    ///
    /// # Errors
    /// `InvalidArgument` for a record that is damaged.
    ///
    /// # Cancel safety
    /// The digest is lost when the future is dropped.
    pub async fn received(&mut self, mut record: v1::BackupRecord) -> Result<BackupRecord> {
        if let Some(Record::Footer(footer)) = &record.record {
            if footer.digest != self.hasher.finalize().as_bytes().as_slice() {
                return Err(damaged("its records are not those of its digest"));
            }
        } else {
            (self.hasher, record) = hashed(std::mem::take(&mut self.hasher), record).await;
        }
        from_record(record)
    }
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

pub(super) fn damaged(why: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the backup is damaged: {why}"))
}

pub(super) fn to_part(part: &BackupPart) -> v1::BackupPart {
    let digest = Bytes::copy_from_slice(&part.digest.0);
    v1::BackupPart { digest, size_bytes: part.size as u64 }
}

/// A part as it was offered.
///
/// # Errors
/// `InvalidArgument` for a digest or a size that no part has.
pub fn from_part(part: &v1::BackupPart) -> Result<BackupPart> {
    Ok(BackupPart { digest: digest(&part.digest)?, size: number(part.size_bytes)? })
}

pub(super) fn to_tag(tag: &FolderTag) -> v1::BackupFolderTag {
    v1::BackupFolderTag { id: tag.id, changes: tag.changes }
}

/// A folder as it was offered.
pub fn from_tag(tag: &v1::BackupFolderTag) -> FolderTag {
    FolderTag { id: tag.id, changes: tag.changes }
}

pub(super) fn to_record(record: BackupRecord) -> v1::BackupRecord {
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
        BackupRecord::Known(tag) => Record::Known(to_tag(&tag)),
        BackupRecord::Tag(tag) => Record::Tag(to_tag(&tag)),
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
        store_id: header.source.map_or(0, |source| source.store),
        store_changes: header.source.map_or(0, |source| source.changes),
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
        Some(Record::Part(part)) => BackupRecord::Part(from_part(&part)?),
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
        Some(Record::Known(tag)) => BackupRecord::Known(from_tag(&tag)),
        Some(Record::Tag(tag)) => BackupRecord::Tag(from_tag(&tag)),
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
        source: (header.store_id != 0)
            .then_some(CopySource { store: header.store_id, changes: header.store_changes }),
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
