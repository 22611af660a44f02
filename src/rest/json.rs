//! The JSON of the responses. The documented keys and words are in this module only.
//!
//! Every 64-bit number is a string, and the keys have the order of the reference (sections 3.4 and 4.1).

use std::fmt::Display;

use prost_types::Timestamp;
use serde::{Serialize, Serializer};

use super::{answer::ErrorBody, api_version::ApiVersion, codes};
use crate::{
    access::Aad,
    wire::{
        status,
        v1::{self, OperationKind, OperationState},
    },
};

/// Seconds from 1601, the epoch of ticks, to 1970.
const TICKS_EPOCH_SECONDS: i64 = 11_644_473_600;
/// Ticks per second.
const TICKS_PER_SECOND: i64 = 10_000_000;

/// A number that is written as a string.
#[derive(Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time in the form of an API version: ticks or ISO 8601.
fn date(time: Option<&Timestamp>, version: ApiVersion) -> String {
    let time = time.copied().unwrap_or_default();
    if version.ticks() {
        let seconds = time.seconds.saturating_add(TICKS_EPOCH_SECONDS);
        let ticks = seconds.saturating_mul(TICKS_PER_SECOND);
        return ticks.saturating_add(i64::from(time.nanos) / 100).to_string();
    }
    iso(&time)
}

/// A time as ISO 8601 with milliseconds.
pub(super) fn iso(time: &Timestamp) -> String {
    let time = jiff::Timestamp::new(time.seconds, time.nanos).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A page of a folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing<'a> {
    /// The files.
    pub(super) store_files: Vec<StoreFile<'a>>,
    /// The folders.
    pub(super) store_folders: Vec<StoreFolder<'a>>,
    /// The token of the next page; empty after the last.
    pub(super) continuation_token: String,
}

/// A file of a listing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StoreFile<'a> {
    store_relative_path: &'a str,
    file_version: FileVersion,
    file_size: Text<u64>,
    modified_date: String,
}

impl<'a> StoreFile<'a> {
    /// Describes a file.
    pub(super) fn new(entry: &'a v1::Entry, version: ApiVersion) -> Self {
        let number = entry.version.unwrap_or_default();
        Self {
            store_relative_path: &entry.path,
            file_version: FileVersion {
                epoch_data_loss_number: Text(number.epoch_data_loss_number),
                version_number: Text(number.version_number),
                epoch_configuration_number: Text(number.epoch_configuration_number),
            },
            file_size: Text(entry.size_bytes),
            modified_date: date(entry.modified_at.as_ref(), version),
        }
    }
}

/// The version of a file.
#[allow(clippy::struct_field_names, reason = "these are the documented keys")]
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FileVersion {
    epoch_data_loss_number: Text<i64>,
    version_number: Text<u64>,
    epoch_configuration_number: Text<i64>,
}

/// A folder of a listing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StoreFolder<'a> {
    store_relative_path: &'a str,
    file_count: Text<u64>,
}

impl<'a> StoreFolder<'a> {
    /// Describes a folder.
    pub(super) fn new(entry: &'a v1::Entry) -> Self {
        Self { store_relative_path: &entry.path, file_count: Text(entry.file_count) }
    }
}

/// Upload sessions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadSessions {
    /// The sessions.
    pub(super) upload_sessions: Vec<UploadSession>,
}

/// An upload session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadSession {
    store_relative_path: String,
    session_id: String,
    file_size: Text<u64>,
    modified_date: String,
    expected_ranges: Vec<ExpectedRange>,
}

impl UploadSession {
    /// Describes a session.
    pub(super) fn new(session: v1::UploadSession, version: ApiVersion) -> Self {
        let range = |range: v1::ByteRange| ExpectedRange {
            start_position: Text(range.start),
            end_position: Text(range.end),
        };
        Self {
            store_relative_path: session.path,
            session_id: session.session_id,
            file_size: Text(session.total_bytes),
            modified_date: date(session.modified_at.as_ref(), version),
            expected_ranges: session.expected_ranges.into_iter().map(range).collect(),
        }
    }
}

/// Missing bytes, both ends included.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExpectedRange {
    start_position: Text<u64>,
    end_position: Text<u64>,
}

/// The size of a folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FolderSize {
    /// The path of the folder; empty for the root.
    pub(super) store_relative_path: String,
    /// The bytes of all files below it.
    pub(super) folder_size: Text<u64>,
}

/// The space that the store uses.
#[allow(clippy::struct_field_names, reason = "these are the documented keys")]
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    disk_info: DiskInfo,
    used_by_metadata: Usage,
    used_by_staging: Usage,
    used_by_copy: Usage,
    used_by_register: Usage,
    // Extensions: files with each copy counted, distinct parts, objects and database, and garbage.
    logical: Usage,
    unique: Usage,
    on_disk: Usage,
    garbage: Usage,
}

impl Info {
    /// Describes the store. Files that are not registered count as copied.
    pub(super) fn new(info: &v1::GetStoreInfoResponse) -> Self {
        let [logical, staging, registered] =
            [info.logical, info.staging, info.registered].map(Option::unwrap_or_default);
        let usage = |used: v1::Usage| Usage {
            used_space: Text(used.used_bytes),
            file_count: Text(used.file_count),
        };
        let copied = v1::Usage {
            used_bytes: logical.used_bytes.saturating_sub(registered.used_bytes),
            file_count: logical.file_count.saturating_sub(registered.file_count),
        };
        let metadata = v1::Usage { used_bytes: info.metadata_bytes, file_count: 0 };
        Self {
            disk_info: DiskInfo {
                capacity: Text(info.disk_capacity_bytes),
                available_space: Text(info.disk_available_bytes),
            },
            used_by_metadata: usage(metadata),
            used_by_staging: usage(staging),
            used_by_copy: usage(copied),
            used_by_register: usage(registered),
            logical: usage(logical),
            unique: usage(info.unique.unwrap_or_default()),
            on_disk: usage(info.on_disk.unwrap_or_default()),
            garbage: usage(info.garbage.unwrap_or_default()),
        }
    }
}

/// The disk of the data folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DiskInfo {
    capacity: Text<u64>,
    available_space: Text<u64>,
}

/// A number of files and their bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    used_space: Text<u64>,
    file_count: Text<u64>,
}

/// A page of operations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Operations<'a> {
    /// The operations, the newest first.
    pub(super) operations: Vec<Operation<'a>>,
    /// The token of the next page; empty after the last.
    pub(super) continuation_token: String,
}

/// An operation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Operation<'a> {
    id: &'a str,
    kind: &'static str,
    state: &'static str,
    remote_source: &'a str,
    remote_destination: &'a str,
    files_done: Text<u64>,
    files_total: Text<u64>,
    bytes_done: Text<u64>,
    bytes_total: Text<u64>,
    files_skipped: Text<u64>,
    bytes_skipped: Text<u64>,
    current_path: &'a str,
    started_at: Option<String>,
    updated_at: Option<String>,
    finished_at: Option<String>,
    error: Option<ErrorBody<'a>>,
    skip_files_unmatched: &'a [String],
    files_replaced: Text<u64>,
    caller: &'a str,
}

impl<'a> Operation<'a> {
    /// Describes an operation.
    pub(super) fn new(operation: &'a v1::Operation) -> Self {
        let error = operation.error.as_ref().map(|error| ErrorBody {
            code: codes::code(status::kind_of(error)),
            message: &error.message,
            request_id: None,
        });
        Self {
            id: &operation.id,
            kind: match operation.kind() {
                OperationKind::Unspecified => "",
                OperationKind::Copy => "Copy",
                OperationKind::Delete => "Delete",
                OperationKind::CommitUploadSession => "CommitUploadSession",
            },
            state: state_name(operation.state()),
            remote_source: &operation.source,
            remote_destination: &operation.destination,
            files_done: Text(operation.files_done),
            files_total: Text(operation.files_total),
            bytes_done: Text(operation.bytes_done),
            bytes_total: Text(operation.bytes_total),
            files_skipped: Text(operation.files_skipped),
            bytes_skipped: Text(operation.bytes_skipped),
            current_path: &operation.current_path,
            started_at: operation.started_at.as_ref().map(iso),
            updated_at: operation.updated_at.as_ref().map(iso),
            finished_at: operation.finished_at.as_ref().map(iso),
            error,
            skip_files_unmatched: &operation.skip_files_unmatched,
            files_replaced: Text(operation.files_replaced),
            caller: &operation.caller,
        }
    }
}

/// The name of a state.
fn state_name(state: OperationState) -> &'static str {
    match state {
        OperationState::Unspecified => "",
        OperationState::Running => "Running",
        OperationState::Succeeded => "Succeeded",
        OperationState::Failed => "Failed",
        OperationState::Cancelled => "Cancelled",
    }
}

/// The state with a name.
pub(super) fn state_named(name: &str) -> Option<OperationState> {
    use OperationState::{Cancelled, Failed, Running, Succeeded};
    [Running, Succeeded, Failed, Cancelled].into_iter().find(|&state| state_name(state) == name)
}

/// The response of `GET /$/GetClusterVersion`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ClusterVersion {
    /// The version.
    pub(super) version: &'static str,
}

/// The response of `GET /$/GetAadMetadata`.
#[derive(Debug, Serialize)]
pub(super) struct AadMetadata<'a> {
    r#type: &'static str,
    metadata: AadSettings<'a>,
}

/// The settings of an issuer; empty without one.
#[derive(Debug, Serialize)]
struct AadSettings<'a> {
    #[serde(flatten)]
    settings: Option<AadTexts<'a>>,
}

#[derive(Debug, Serialize)]
struct AadTexts<'a> {
    authority: &'a str,
    client: &'a str,
    cluster: &'a str,
    login: &'a str,
    redirect: &'a str,
    tenant: &'a str,
}

impl<'a> AadMetadata<'a> {
    /// What is known of an issuer.
    pub(super) fn new(aad: Option<&'a Aad>) -> Self {
        let settings = aad.map(|aad| AadTexts {
            authority: &aad.authority,
            client: &aad.client,
            cluster: &aad.cluster,
            login: &aad.login,
            redirect: &aad.redirect,
            tenant: &aad.tenant,
        });
        let r#type = if settings.is_some() { "aad" } else { "none" };
        Self { r#type, metadata: AadSettings { settings } }
    }
}

#[cfg(test)]
mod tests;
