//! The responses, byte for byte.

use super::*;
use crate::{
    error::{Error, Kind},
    rest::api_version,
};

#[track_caller]
fn check<T: Serialize>(value: &T, expected: &str) {
    let expected: String = expected.lines().map(str::trim).collect();
    assert_eq!(serde_json::to_string(value).expect("JSON"), expected);
}

fn version(value: &str) -> ApiVersion {
    api_version::parse(value).expect("a version")
}

/// 2017-09-28T17:44:22.609Z, and a fraction of a millisecond that is cut off.
fn time() -> Timestamp {
    Timestamp { seconds: 1_506_620_662, nanos: 609_999_999 }
}

fn file() -> v1::Entry {
    v1::Entry {
        path: "app/m.xml".to_owned(),
        size_bytes: 897,
        file_count: 1,
        modified_at: Some(time()),
        version: Some(v1::FileVersion {
            epoch_data_loss_number: 131_510_254_310_497_004,
            epoch_configuration_number: -1,
            version_number: 23,
        }),
        ..v1::Entry::default()
    }
}

#[test]
fn a_listing() {
    let (file, folder) =
        (file(), v1::Entry { path: "app/svc".to_owned(), file_count: 70_000, ..file() });
    let listing = Listing {
        store_files: vec![StoreFile::new(&file, version("6.0"))],
        store_folders: vec![StoreFolder::new(&folder)],
        continuation_token: "a%20b".to_owned(),
    };
    check(
        &listing,
        r#"{"StoreFiles":[{"StoreRelativePath":"app/m.xml","FileVersion":
        {"EpochDataLossNumber":"131510254310497004","VersionNumber":"23",
        "EpochConfigurationNumber":"-1"},"FileSize":"897",
        "ModifiedDate":"2017-09-28T17:44:22.609Z"}],
        "StoreFolders":[{"StoreRelativePath":"app/svc","FileCount":"70000"}],
        "ContinuationToken":"a%20b"}"#,
    );
}

#[test]
fn dates_before_version_3_are_ticks() {
    for (value, expected) in [
        ("1.0", "131510942626099999"),
        ("2.9", "131510942626099999"),
        ("3.0", "2017-09-28T17:44:22.609Z"),
        ("11.4", "2017-09-28T17:44:22.609Z"),
    ] {
        assert_eq!(date(Some(&time()), version(value)), expected, "{value}");
    }
    assert_eq!(date(None, version("6.0")), "1970-01-01T00:00:00.000Z");
    let odd = Timestamp { seconds: i64::MAX, nanos: -1 };
    assert_eq!(date(Some(&odd), version("6.0")), "1970-01-01T00:00:00.000Z");
    assert_eq!(date(Some(&odd), version("1.0")), i64::MAX.to_string());
}

#[test]
fn an_upload_session() {
    let session = v1::UploadSession {
        session_id: "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11".to_owned(),
        path: "a/b.dll".to_owned(),
        total_bytes: 250,
        modified_at: Some(time()),
        expected_ranges: vec![v1::ByteRange { start: 100, end: 249 }],
        committed: false,
    };
    let upload_sessions = vec![UploadSession::new(session, version("6.0"))];
    check(
        &UploadSessions { upload_sessions },
        r#"{"UploadSessions":[{"StoreRelativePath":"a/b.dll",
        "SessionId":"d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11","FileSize":"250",
        "ModifiedDate":"2017-09-28T17:44:22.609Z",
        "ExpectedRanges":[{"StartPosition":"100","EndPosition":"249"}]}]}"#,
    );
}

#[test]
fn sizes() {
    let size = FolderSize { store_relative_path: String::new(), folder_size: Text(123) };
    check(&size, r#"{"StoreRelativePath":"","FolderSize":"123"}"#);
    let usage = |used_bytes, file_count| Some(v1::Usage { used_bytes, file_count });
    let info = v1::GetStoreInfoResponse {
        logical: usage(100, 10),
        staging: usage(7, 1),
        registered: usage(60, 4),
        unique: usage(80, 9),
        on_disk: usage(4190, 5),
        garbage: usage(30, 2),
        metadata_bytes: 4096,
        disk_capacity_bytes: 1000,
        disk_available_bytes: 500,
        ..v1::GetStoreInfoResponse::default()
    };
    check(
        &Info::new(&info),
        r#"{"DiskInfo":{"Capacity":"1000","AvailableSpace":"500"},
        "UsedByMetadata":{"UsedSpace":"4096","FileCount":"0"},
        "UsedByStaging":{"UsedSpace":"7","FileCount":"1"},
        "UsedByCopy":{"UsedSpace":"40","FileCount":"6"},
        "UsedByRegister":{"UsedSpace":"60","FileCount":"4"},
        "Logical":{"UsedSpace":"100","FileCount":"10"},
        "Unique":{"UsedSpace":"80","FileCount":"9"},
        "OnDisk":{"UsedSpace":"4190","FileCount":"5"},
        "Garbage":{"UsedSpace":"30","FileCount":"2"}}"#,
    );
}

#[test]
fn an_operation() {
    let error = status::kept(&Error::new(Kind::Corrupt, "a/b is corrupt"));
    let operation = v1::Operation {
        id: "7".to_owned(),
        kind: OperationKind::Copy.into(),
        state: OperationState::Failed.into(),
        source: "a".to_owned(),
        destination: "b".to_owned(),
        files_total: 1 << 53,
        started_at: Some(time()),
        error: Some(error),
        skip_files_unmatched: vec!["x".to_owned()],
        files_replaced: 3,
        caller: "token:ci".to_owned(),
        ..v1::Operation::default()
    };
    check(
        &Operation::new(&operation),
        r#"{"Id":"7","Kind":"Copy","State":"Failed","RemoteSource":"a","RemoteDestination":"b",
        "FilesDone":"0","FilesTotal":"9007199254740992","BytesDone":"0","BytesTotal":"0",
        "FilesSkipped":"0","BytesSkipped":"0","CurrentPath":"",
        "StartedAt":"2017-09-28T17:44:22.609Z","UpdatedAt":null,"FinishedAt":null,
        "Error":{"Code":"FABRIC_E_CORRUPTED_IMAGE_STORE_OBJECT_FOUND",
        "Message":"a/b is corrupt"},"SkipFilesUnmatched":["x"],"FilesReplaced":"3",
        "Caller":"token:ci"}"#,
    );
}

#[test]
fn states_have_names() {
    for state in ["Running", "Succeeded", "Failed", "Cancelled"] {
        assert_eq!(state_name(state_named(state).expect(state)), state);
    }
    assert_eq!(state_named(""), None);
    assert_eq!(state_named("running"), None);
}
