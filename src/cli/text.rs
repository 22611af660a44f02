//! Values as text for people.

use indicatif::{HumanBytes, HumanCount};
use prost_types::Timestamp;

use crate::wire::v1::{Grant, Operation, OperationKind, OperationState, Role};

/// A number of files.
pub(super) fn files(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} file{plural}", HumanCount(count))
}

/// A number with thousands separators.
pub(super) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// A number of bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// A time to the second, in UTC; `-` if there is none.
pub(super) fn second(time: Option<&Timestamp>) -> String {
    time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok())
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// A path; `/` for the root, whose path is empty.
pub(super) fn path(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// The state of an operation.
pub(super) fn state(state: OperationState) -> &'static str {
    match state {
        OperationState::Unspecified => "unknown",
        OperationState::Running => "running",
        OperationState::Succeeded => "succeeded",
        OperationState::Failed => "failed",
        OperationState::Cancelled => "cancelled",
    }
}

/// A role and its path.
pub(super) fn grant(grant: &Grant) -> String {
    let role = match grant.role() {
        Role::Unspecified => "unknown",
        Role::Monitor => "monitor",
        Role::Reader => "reader",
        Role::Writer => "writer",
        Role::Admin => "admin",
    };
    format!("{role} {}", path(&grant.path))
}

/// What an operation does, with its paths.
pub(super) fn work(operation: &Operation) -> String {
    let (source, destination) = (path(&operation.source), path(&operation.destination));
    match operation.kind() {
        OperationKind::Copy => format!("copy {source} to {destination}"),
        OperationKind::Delete => format!("delete {source}"),
        OperationKind::CommitUploadSession => format!("commit {destination}"),
        OperationKind::Unspecified => format!("unknown work on {source}"),
    }
}

/// The number of replaced files, as the end of a summary line; empty if there are none.
pub(super) fn replaced(count: u64) -> String {
    if count == 0 { String::new() } else { format!("; replaced {}", files(count)) }
}

/// The replaced files and the unmatched `--skip` names of a copy, as the end of a summary line; empty without any.
pub(super) fn beside(operation: &Operation) -> String {
    let mut text = replaced(operation.files_replaced);
    let names: Vec<_> =
        operation.skip_files_unmatched.iter().map(|name| format!("{name:?}")).collect();
    if !names.is_empty() {
        text = format!("{text}; no file was left out as {}", names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(files(1), "1 file");
        assert_eq!(files(1_234_567), "1,234,567 files");
        assert_eq!(bytes(1_572_864), "1.50 MiB");
    }

    #[test]
    fn times_are_in_utc() {
        let time = Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 };
        assert_eq!(second(Some(&time)), "2023-11-14T22:13:20Z");
        assert_eq!(second(None), "-");
    }
}
