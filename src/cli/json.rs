//! Messages as JSON, for `--json`.
//!
//! The names are those of the proto, in snake case, and so are the values of its enums; 64-bit numbers
//! are numbers (all are below 2^53), times are RFC 3339 in UTC, and what is absent is null.

use serde_json::{Value, json};

use crate::{
    cli::text::instant,
    client::{
        backup::{Backed, Restored},
        transfer::Moved,
    },
    wire::v1::{
        CheckResponse, DeleteResponse, Entry, Finding, GetStoreInfoResponse, Operation,
        StatResponse, Usage,
    },
};

/// A file or a folder.
pub(super) fn entry(entry: &Entry) -> Value {
    json!({
        "path": entry.path,
        "kind": entry.kind().as_str_name(),
        "size_bytes": entry.size_bytes,
        "file_count": entry.file_count,
        "modified_at": entry.modified_at.as_ref().and_then(instant),
        "version": entry.version.as_ref().map(|version| json!({
            "epoch_data_loss_number": version.epoch_data_loss_number,
            "epoch_configuration_number": version.epoch_configuration_number,
            "version_number": version.version_number,
        })),
        "digest": entry.digest,
        "etag": entry.etag,
    })
}

/// A path that was described.
pub(super) fn description(answer: &StatResponse) -> Value {
    json!({
        "entry": answer.entry.as_ref().map(entry),
        "has_mark_file": answer.has_mark_file,
        "change_tag": answer.change_tag,
    })
}

/// A file that was moved: the entry, and the file on this side as `local`.
pub(super) fn moved(moved: &Moved) -> Value {
    let mut value = entry(&moved.entry);
    let local = moved.local.as_ref().map(|local| local.to_string_lossy());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("local".to_owned(), json!(local));
        fields.insert("files_replaced".to_owned(), json!(moved.files_replaced));
    }
    value
}

/// What was deleted, and where.
pub(super) fn deleted(path: &str, answer: &DeleteResponse) -> Value {
    json!({
        "path": path,
        "files_deleted": answer.files_deleted,
        "bytes_deleted": answer.bytes_deleted,
    })
}

/// An operation.
pub(super) fn operation(operation: &Operation) -> Value {
    json!({
        "id": operation.id,
        "kind": operation.kind().as_str_name(),
        "state": operation.state().as_str_name(),
        "source": operation.source,
        "destination": operation.destination,
        "files_done": operation.files_done,
        "files_total": operation.files_total,
        "bytes_done": operation.bytes_done,
        "bytes_total": operation.bytes_total,
        "files_skipped": operation.files_skipped,
        "bytes_skipped": operation.bytes_skipped,
        "current_path": operation.current_path,
        "started_at": operation.started_at.as_ref().and_then(instant),
        "updated_at": operation.updated_at.as_ref().and_then(instant),
        "finished_at": operation.finished_at.as_ref().and_then(instant),
        "error": operation.error.as_ref().map(|error| json!({
            "code": error.code,
            "message": error.message,
        })),
        "skip_files_unmatched": operation.skip_files_unmatched,
        "files_replaced": operation.files_replaced,
        "change": operation.change,
    })
}

/// The space that the store uses.
pub(super) fn info(info: &GetStoreInfoResponse) -> Value {
    json!({
        "logical": info.logical.as_ref().map(usage),
        "unique": info.unique.as_ref().map(usage),
        "on_disk": info.on_disk.as_ref().map(usage),
        "staging": info.staging.as_ref().map(usage),
        "garbage": info.garbage.as_ref().map(usage),
        "metadata_bytes": info.metadata_bytes,
        "disk_capacity_bytes": info.disk_capacity_bytes,
        "disk_available_bytes": info.disk_available_bytes,
        "folder_count": info.folder_count,
        "registered": info.registered.as_ref().map(usage),
    })
}

/// How far a check is; what it found are objects of their own.
pub(super) fn check(report: &CheckResponse) -> Value {
    json!({
        "rows_checked": report.rows_checked,
        "objects_checked": report.objects_checked,
        "bytes_read": report.bytes_read,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "findings_total": report.findings_total,
        "findings_repaired": report.findings_repaired,
        "done": report.done,
    })
}

/// What a check found.
pub(super) fn finding(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind().as_str_name(),
        "message": finding.message,
        "paths": finding.paths,
        "more_paths": finding.more_paths,
        "repaired": finding.repaired,
    })
}

/// A backup that is finished.
pub(super) fn backed(backed: &Backed) -> Value {
    json!({
        "path": backed.path.to_string_lossy(),
        "snapshot": backed.snapshot,
        "file_count": backed.file_count,
        "size_bytes": backed.size_bytes,
        "parts": backed.parts,
        "part_bytes": backed.part_bytes,
        "new_parts": backed.new_parts,
        "new_bytes": backed.new_bytes,
    })
}

/// A store that is restored.
pub(super) fn restored(restored: &Restored) -> Value {
    json!({
        "path": restored.path.to_string_lossy(),
        "file_count": restored.file_count,
        "size_bytes": restored.size_bytes,
    })
}

fn usage(usage: &Usage) -> Value {
    json!({ "used_bytes": usage.used_bytes, "file_count": usage.file_count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{EntryKind, OperationKind, OperationState};

    /// The names of the fields of a message, from the descriptor that reflection serves.
    fn fields(message: &str) -> Vec<String> {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(crate::wire::DESCRIPTOR).expect("a set");
        let file = set.file.iter().find(|file| file.package() == "imagestore.v1").expect("ours");
        let message = file.message_type.iter().find(|found| found.name() == message).expect("it");
        let mut names: Vec<_> = message.field.iter().map(|field| field.name().to_owned()).collect();
        names.sort();
        names
    }

    fn keys(value: &Value) -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn every_field_of_a_message_is_there_under_its_name() {
        assert_eq!(keys(&entry(&Entry::default())), fields("Entry"));
        assert_eq!(keys(&description(&StatResponse::default())), fields("StatResponse"));
        assert_eq!(keys(&operation(&Operation::default())), fields("Operation"));
        assert_eq!(keys(&info(&GetStoreInfoResponse::default())), fields("GetStoreInfoResponse"));
        assert_eq!(keys(&check(&CheckResponse::default())), fields("CheckResponse"));
        assert_eq!(keys(&finding(&Finding::default())), fields("Finding"));
        let mut of_delete = fields("DeleteResponse");
        of_delete.push("path".to_owned());
        assert_eq!(keys(&deleted("a", &DeleteResponse::default())), of_delete);
    }

    #[test]
    fn an_operation_keeps_its_values() {
        let value = operation(&Operation {
            id: "id".to_owned(),
            kind: OperationKind::Copy.into(),
            state: OperationState::Failed.into(),
            bytes_total: 1 << 53,
            started_at: Some(prost_types::Timestamp { seconds: 0, nanos: 1_000 }),
            error: Some(tonic_types::Status {
                code: 5,
                message: "gone".to_owned(),
                details: Vec::new(),
            }),
            ..Operation::default()
        });
        assert_eq!(value["kind"], "OPERATION_KIND_COPY");
        assert_eq!(value["state"], "OPERATION_STATE_FAILED");
        assert_eq!(value["bytes_total"], 9_007_199_254_740_992_u64);
        assert_eq!(value["started_at"], "1970-01-01T00:00:00.000001Z");
        assert_eq!(value["finished_at"], Value::Null);
        assert_eq!(value["error"], json!({ "code": 5, "message": "gone" }));
    }

    #[test]
    fn a_moved_file_names_both_places() {
        let entry = Entry {
            path: "a/b".to_owned(),
            kind: EntryKind::File.into(),
            size_bytes: 3,
            ..Entry::default()
        };
        let value = moved(&Moved { entry, local: Some("/x/b".into()), files_replaced: Some(3) });
        assert_eq!(value["path"], "a/b");
        assert_eq!(value["local"], "/x/b");
        assert_eq!(value["files_replaced"], 3);
        assert_eq!(value["size_bytes"], 3);
    }
}
