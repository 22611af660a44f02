//! Conversions between messages and plain values, both ways.

use prost_types::Timestamp;

use crate::{
    error::{Error, Result},
    model::{
        CheckReport, Conditions, CopyRequest, Entry, EntryKind, Finding, FindingKind, IfExists,
        Info, Operation, OperationId, OperationKind, OperationState, Replaces, Session, SkipFiles,
        Stat, StorePath, Tags, Usage,
    },
    wire::{
        convert::{micros, timestamp},
        status,
        v1::{self, IfExists as WireIfExists},
    },
};

/// Parses what an upload may replace.
///
/// # Errors
/// `InvalidArgument` for a value that is unknown, or that uploads do not support.
pub(super) fn replaces(if_exists: i32) -> Result<Replaces> {
    match WireIfExists::try_from(if_exists) {
        Ok(WireIfExists::Unspecified | WireIfExists::ReplaceSameKind) => Ok(Replaces::File),
        Ok(WireIfExists::Overwrite) => Ok(Replaces::Anything),
        Ok(WireIfExists::Keep) => {
            let message = "IF_EXISTS_KEEP is for copies; send if_none_match '*' to store only where \
                           there is nothing";
            Err(Error::invalid("if_exists", message))
        }
        Err(_) => Err(Error::invalid("if_exists", format!("if_exists {if_exists} is not known"))),
    }
}

/// Parses and checks the request of a copy.
pub(super) fn copy_request(message: &v1::CopyRequest) -> Result<CopyRequest> {
    let if_exists = match WireIfExists::try_from(message.if_exists) {
        Ok(WireIfExists::Unspecified | WireIfExists::Overwrite) => IfExists::Overwrite,
        Ok(WireIfExists::Keep) => IfExists::Keep,
        Ok(WireIfExists::ReplaceSameKind) => IfExists::ReplaceSameKind,
        Err(_) => {
            let message = format!("if_exists {} is not known", message.if_exists);
            return Err(Error::invalid("if_exists", message));
        }
    };
    let id = if message.operation_id.is_empty() {
        OperationId::new()
    } else {
        OperationId::parse(&message.operation_id, "operation_id")?
    };
    let request = CopyRequest {
        source: StorePath::parse(&message.source, "source")?,
        destination: StorePath::parse(&message.destination, "destination")?,
        skip_files: SkipFiles::new(&message.skip_files)?,
        check_mark_file: message.check_mark_file,
        if_exists,
        conditions: conditions(
            &message.if_match,
            &message.if_none_match,
            message.if_unmodified_since.as_ref(),
        )?,
        verify: message.verify,
        id,
    };
    request.check()?;
    Ok(request)
}

/// Parses the conditions of a write.
pub(super) fn conditions(
    if_match: &[String],
    if_none_match: &[String],
    if_unmodified_since: Option<&Timestamp>,
) -> Result<Conditions> {
    Ok(Conditions {
        if_match: Tags::parse(if_match, "if_match")?,
        if_none_match: Tags::parse(if_none_match, "if_none_match")?,
        if_unmodified_since: if_unmodified_since.map(micros),
    })
}

/// Parses a filter by state; `None`: every state.
pub(super) fn state_filter(state: i32) -> Result<Option<OperationState>> {
    use v1::OperationState as Wire;
    match Wire::try_from(state) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::Running) => Ok(Some(OperationState::Running)),
        Ok(Wire::Succeeded) => Ok(Some(OperationState::Succeeded)),
        Ok(Wire::Failed) => Ok(Some(OperationState::Failed)),
        Ok(Wire::Cancelled) => Ok(Some(OperationState::Cancelled)),
        Err(_) => Err(Error::invalid("state", format!("state {state} is not known"))),
    }
}

/// An operation.
pub(super) fn operation(operation: Operation) -> v1::Operation {
    use v1::{OperationKind as WireKind, OperationState as WireState};
    let progress = operation.progress;
    v1::Operation {
        id: operation.id.to_string(),
        kind: match operation.kind {
            OperationKind::Copy => WireKind::Copy,
            OperationKind::Delete => WireKind::Delete,
            OperationKind::CommitUploadSession => WireKind::CommitUploadSession,
        }
        .into(),
        state: match operation.state {
            OperationState::Running => WireState::Running,
            OperationState::Succeeded => WireState::Succeeded,
            OperationState::Failed => WireState::Failed,
            OperationState::Cancelled => WireState::Cancelled,
        }
        .into(),
        source: operation.source.to_string(),
        destination: operation.destination.to_string(),
        files_done: progress.files_done as u64,
        files_total: progress.files_total as u64,
        bytes_done: progress.bytes_done as u64,
        bytes_total: progress.bytes_total as u64,
        files_skipped: progress.files_skipped as u64,
        bytes_skipped: progress.bytes_skipped as u64,
        current_path: progress.current_path,
        started_at: Some(timestamp(operation.started)),
        updated_at: Some(timestamp(operation.updated)),
        finished_at: operation.finished.map(timestamp),
        error: operation.error.map(|error| status::kept(&error.into())),
        skip_files_unmatched: progress.skip_files_unmatched,
        files_replaced: progress.files_replaced as u64,
        caller: operation.caller,
        change: operation.change as u64,
    }
}

/// An entry of a listing.
pub(super) fn entry(entry: &Entry) -> v1::Entry {
    let (kind, version, modified) = match &entry.kind {
        EntryKind::Folder => (v1::EntryKind::Folder, None, None),
        EntryKind::File { version, modified } => (
            v1::EntryKind::File,
            Some(v1::FileVersion {
                epoch_data_loss_number: version.epoch_data_loss,
                epoch_configuration_number: version.epoch_configuration,
                version_number: version.number as u64,
            }),
            Some(timestamp(*modified)),
        ),
    };
    v1::Entry {
        path: entry.path.to_string(),
        kind: kind.into(),
        size_bytes: entry.totals.bytes as u64,
        file_count: entry.totals.files as u64,
        modified_at: modified,
        version,
        digest: String::new(),
        etag: String::new(),
    }
}

/// The response to a commit: the file, if it still exists, and how many files it has replaced.
pub(super) fn committed(committed: Option<(Entry, i64)>) -> v1::CommitUploadSessionResponse {
    let (entry, files_replaced) = committed.unzip();
    v1::CommitUploadSessionResponse {
        entry: entry.as_ref().map(self::entry),
        files_replaced: files_replaced.unwrap_or_default() as u64,
    }
}

/// An entry with its digests.
pub(super) fn stat(stat: &Stat) -> v1::Entry {
    let text = |digest: Option<crate::model::Digest>| {
        digest.map(|digest| digest.to_string()).unwrap_or_default()
    };
    v1::Entry { digest: text(stat.digest), etag: text(stat.etag), ..entry(&stat.entry) }
}

/// An upload session.
pub(super) fn session(session: Session) -> v1::UploadSession {
    let expected = session.expected.into_iter();
    v1::UploadSession {
        session_id: session.id.to_string(),
        path: session.path.to_string(),
        total_bytes: session.total as u64,
        modified_at: Some(timestamp(session.modified)),
        expected_ranges: expected
            .map(|range| v1::ByteRange { start: range.start as u64, end: range.end as u64 })
            .collect(),
        committed: session.committed,
    }
}

/// The space that the store uses.
pub(super) fn info(info: &Info) -> v1::GetStoreInfoResponse {
    let usage = |usage: Usage| {
        Some(v1::Usage { used_bytes: usage.bytes as u64, file_count: usage.count as u64 })
    };
    v1::GetStoreInfoResponse {
        logical: usage(info.logical),
        unique: usage(info.unique),
        on_disk: usage(info.on_disk),
        staging: usage(info.staging),
        garbage: usage(info.garbage),
        metadata_bytes: info.metadata_bytes,
        disk_capacity_bytes: info.disk_capacity,
        disk_available_bytes: info.disk_available,
        folder_count: info.folders as u64,
        registered: usage(info.registered),
    }
}

/// The progress of a check, and its findings.
pub(super) fn check_report(report: CheckReport) -> v1::CheckResponse {
    v1::CheckResponse {
        rows_checked: report.rows,
        objects_checked: report.objects,
        bytes_read: report.bytes,
        findings: report.findings.into_iter().map(finding).collect(),
        findings_total: report.total,
        findings_repaired: report.repaired,
        done: report.done,
    }
}

fn finding(finding: Finding) -> v1::Finding {
    use v1::FindingKind as Wire;
    let kind = match finding.kind {
        FindingKind::EntryTarget => Wire::EntryTarget,
        FindingKind::EntrySize => Wire::EntrySize,
        FindingKind::EntryFolded => Wire::EntryFolded,
        FindingKind::EntryOrphan => Wire::EntryOrphan,
        FindingKind::FolderTotals => Wire::FolderTotals,
        FindingKind::FolderEmpty => Wire::FolderEmpty,
        FindingKind::ContentParts => Wire::ContentParts,
        FindingKind::ContentOrphan => Wire::ContentOrphan,
        FindingKind::Unreferenced => Wire::Unreferenced,
        FindingKind::PartPlace => Wire::PartPlace,
        FindingKind::PartMissing => Wire::PartMissing,
        FindingKind::PartDamaged => Wire::PartDamaged,
        FindingKind::ObjectUnknown => Wire::ObjectUnknown,
        FindingKind::ObjectsUnlisted => Wire::ObjectsUnlisted,
        FindingKind::SessionReceived => Wire::SessionReceived,
        FindingKind::SessionChunks => Wire::SessionChunks,
        FindingKind::ChunkOrphan => Wire::ChunkOrphan,
        FindingKind::StoreSums => Wire::StoreSums,
    };
    v1::Finding {
        kind: kind.into(),
        message: finding.message,
        paths: finding.paths.iter().map(ToString::to_string).collect(),
        more_paths: finding.more_paths,
        repaired: finding.repaired,
    }
}
