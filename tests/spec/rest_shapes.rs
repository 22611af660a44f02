//! The responses over REST, byte by byte: the order of keys, numbers as strings, and dates by api-version.
//! Values that vary are taken from the gRPC response about the same thing.

use imagestore::{
    error::Kind,
    wire::v1::{Entry, GetStoreInfoRequest, GetUploadSessionRequest, StatRequest},
};

use crate::harness::{Client, Driver, Server, copy, fill};

const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

async fn stat(client: &Client, path: &str) -> Entry {
    let found = client.clone().stat(StatRequest { path: path.to_owned() }).await.expect(path);
    found.into_inner().entry.expect("an entry")
}

/// A date in the format of the api-versions from 3.0 on.
fn iso(time: prost_types::Timestamp) -> String {
    let millis = time.nanos / 1_000_000;
    let time = jiff::Timestamp::from_second(time.seconds).expect("a time");
    format!("{}.{millis:03}Z", time.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// A date in the format of the api-versions before 3.0: units of 100 ns since 1601.
fn ticks(time: prost_types::Timestamp) -> String {
    (i128::from(time.seconds) * 10_000_000 + i128::from(time.nanos) / 100 + 116_444_736_000_000_000)
        .to_string()
}

/// A file of a listing, as JSON.
fn file(entry: &Entry, date: fn(prost_types::Timestamp) -> String) -> String {
    let version = entry.version.expect("a version");
    format!(
        r#"{{"StoreRelativePath":"{}","FileVersion":{{"EpochDataLossNumber":"{}","VersionNumber":"{}","EpochConfigurationNumber":"{}"}},"FileSize":"{}","ModifiedDate":"{}"}}"#,
        entry.path,
        version.epoch_data_loss_number,
        version.version_number,
        version.epoch_configuration_number,
        entry.size_bytes,
        date(entry.modified_at.expect("a date")),
    )
}

#[tokio::test]
async fn a_listing_has_the_shape_of_its_version() {
    let server = Server::start().await;
    fill(&server.rest(), "a/F=123 a/_.dir a/e=1 a/sub/x=1 a/sub/t/y=2 a/Top/z=3 ab/q=4").await;
    let client = server.client().await;
    let (e, f, mark) =
        (stat(&client, "a/e").await, stat(&client, "a/F").await, stat(&client, "a/_.dir").await);
    // Ordered by the name in lower case.
    let folders = r#""StoreFolders":[{"StoreRelativePath":"a/sub","FileCount":"2"},{"StoreRelativePath":"a/Top","FileCount":"1"}]"#;
    let listing = |date| {
        let files = [file(&mark, date), file(&e, date), file(&f, date)].join(",");
        format!(r#"{{"StoreFiles":[{files}],{folders}"#)
    };
    for (version, expected) in [
        ("1.0", format!("{}}}", listing(ticks))),
        ("2.0", format!("{}}}", listing(ticks))),
        ("3.0", format!("{}}}", listing(iso))),
        ("1.5", format!(r#"{},"ContinuationToken":""}}"#, listing(ticks))),
        ("3.1", format!(r#"{},"ContinuationToken":""}}"#, listing(iso))),
        ("6.0", format!(r#"{},"ContinuationToken":""}}"#, listing(iso))),
        ("6.2", format!(r#"{},"ContinuationToken":""}}"#, listing(iso))),
        ("11.4", format!(r#"{},"ContinuationToken":""}}"#, listing(iso))),
        ("1.0-preview", format!("{}}}", listing(ticks))),
    ] {
        let answer = server.http().get(&format!("/ImageStore/a?api-version={version}")).await;
        assert_eq!(answer.text(), expected, "{version}");
        assert_eq!((answer.status, answer.reason.as_str()), (200, "OK"));
        answer.assert_json();
    }
}

#[tokio::test]
async fn a_listing_of_a_file_has_that_file_alone() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=12 a/g=3").await;
    let entry = stat(&server.client().await, "a/f").await;
    let answer = server.http().get("/ImageStore/a/f?api-version=6.0").await;
    let expected = format!(
        r#"{{"StoreFiles":[{}],"StoreFolders":[],"ContinuationToken":""}}"#,
        file(&entry, iso)
    );
    assert_eq!(answer.text(), expected);
}

#[tokio::test]
async fn an_empty_store_is_an_empty_listing() {
    let server = Server::start().await;
    let empty = server.http().get("/ImageStore?api-version=6.0").await;
    assert_eq!(empty.text(), r#"{"StoreFiles":[],"StoreFolders":[],"ContinuationToken":""}"#);
    let empty = server.http().get("/ImageStore?api-version=1.0").await;
    assert_eq!(empty.text(), r#"{"StoreFiles":[],"StoreFolders":[]}"#);
    empty.assert_json();
}

#[tokio::test]
async fn a_missing_path_says_so_at_every_version() {
    let server = Server::start().await;
    for version in ["1.0", "6.0", "6.2"] {
        let target = format!("/ImageStore/no/such?api-version={version}");
        let answer = server.http().get(&target).await;
        let id = answer.header("x-request-id").expect("an id");
        let text = format!(
            r#"{{"Error":{{"Code":"FABRIC_E_DOES_NOT_EXIST","Message":"\"no/such\" does not exist","RequestId":"{id}"}}}}"#
        );
        assert_eq!((answer.status, answer.text()), (404, text));
        assert_eq!(answer.reason, "FABRIC_E_DOES_NOT_EXIST");
        answer.assert_fault(Kind::PathNotFound);
    }
}

#[tokio::test]
async fn a_session_has_the_shape_of_its_version() {
    let server = Server::start().await;
    let store = server.rest();
    store.chunk(SESSION, "a\\b", (2, 9), b"xyz").await.expect("stored");
    let request = GetUploadSessionRequest { session_id: SESSION.to_owned() };
    let session =
        server.client().await.get_upload_session(request).await.expect("one").into_inner();
    let modified = session.modified_at.expect("a date");
    for (version, date) in
        [("1.0", ticks(modified)), ("6.0", iso(modified)), ("11.4", iso(modified))]
    {
        let expected = format!(
            r#"{{"UploadSessions":[{{"StoreRelativePath":"a/b","SessionId":"{SESSION}","FileSize":"9","ModifiedDate":"{date}","ExpectedRanges":[{{"StartPosition":"0","EndPosition":"1"}},{{"StartPosition":"5","EndPosition":"8"}}]}}]}}"#
        );
        let by_id = format!("$/GetUploadSession?session-id={}&", SESSION.to_uppercase());
        for call in [&by_id, "a/b/$/GetUploadSession?", "a%5Cb/$/GetUploadSession?"] {
            let target = format!("/ImageStore/{call}api-version={version}");
            let answer = server.http().get(&target).await;
            assert_eq!(answer.text(), expected, "{target}");
            answer.assert_json();
        }
    }
}

#[tokio::test]
async fn a_folder_size_is_text() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=123 a/s/g=45 b=6").await;
    for (target, expected) in [
        ("/ImageStore/$/FolderSize", r#"{"StoreRelativePath":"","FolderSize":"6"}"#),
        ("/ImageStore/a/$/FolderSize", r#"{"StoreRelativePath":"a","FolderSize":"5"}"#),
        ("/ImageStore/a%5Cs/$/FolderSize", r#"{"StoreRelativePath":"a/s","FolderSize":"2"}"#),
        ("/ImageStore/b/$/FolderSize", r#"{"StoreRelativePath":"b","FolderSize":"1"}"#),
    ] {
        for version in ["1.0", "6.5"] {
            let answer = server.http().get(&format!("{target}?api-version={version}")).await;
            assert_eq!(answer.text(), expected, "{target}");
            answer.assert_json();
        }
    }
    let missing = server.http().get("/ImageStore/no/$/FolderSize?api-version=6.5").await;
    missing.assert_fault(Kind::PathNotFound);
}

#[tokio::test]
async fn the_store_tells_its_space() {
    let server = Server::start().await;
    let store = server.rest();
    fill(&store, "a/f=123 a/g=4 Store/App/x=55").await;
    store.copy(&copy("a", "b")).await.expect("copied");
    store.chunk(SESSION, "c", (0, 9), b"1234567").await.expect("stored");
    let info = server.client().await.get_store_info(GetStoreInfoRequest {}).await.expect("info");
    let info = info.into_inner();
    assert_eq!(info.logical.expect("logical").used_bytes, 10);
    assert_eq!(info.unique.expect("unique").used_bytes, 13);
    let answer = server.http().get("/ImageStore/$/Info?api-version=6.5").await;
    answer.assert_json();
    // The available space changes while other programs use the disk.
    let text = answer.text();
    let (before, rest) = text.split_once(r#""AvailableSpace":""#).expect("a key");
    let (available, after) = rest.split_once('"').expect("an end");
    assert!(available.parse::<u64>().expect("a number") <= info.disk_capacity_bytes);
    assert_eq!(before, format!(r#"{{"DiskInfo":{{"Capacity":"{}","#, info.disk_capacity_bytes));
    let (metadata, after) = after.split_once(r#"},"UsedByStaging""#).expect("a key");
    assert!(metadata.starts_with(r#"},"UsedByMetadata":{"UsedSpace":""#), "{metadata}");
    assert!(metadata.ends_with(r#"","FileCount":"0""#), "{metadata}");
    let (known, ours) = after.split_once(r#","Logical""#).expect("a key");
    assert_eq!(
        known,
        r#":{"UsedSpace":"7","FileCount":"1"},"UsedByCopy":{"UsedSpace":"8","FileCount":"4"},"UsedByRegister":{"UsedSpace":"2","FileCount":"1"}"#
    );
    let on_disk = info.on_disk.expect("on disk").used_bytes;
    assert_eq!(
        ours,
        format!(
            r#":{{"UsedSpace":"10","FileCount":"5"}},"Unique":{{"UsedSpace":"13","FileCount":"4"}},"OnDisk":{{"UsedSpace":"{on_disk}","FileCount":"0"}},"Garbage":{{"UsedSpace":"0","FileCount":"0"}}}}"#
        )
    );
}

#[tokio::test]
async fn an_operation_has_its_keys_in_order() {
    let server = Server::start().await;
    let store = server.rest();
    let id = "0190a9f0-1234-7abc-8def-0123456789ab";
    fill(&store, "a/f=123 a/x=4 b/old=5").await;
    store.copy(&copy("a", "b").skip(&["x", "No"]).id(id)).await.expect("copied");
    let answer = server.http().get(&format!("/ImageStore/$/Operations/{id}")).await;
    answer.assert_json();
    let body = answer.json();
    let time = |key: &str| body[key].as_str().expect(key).to_owned();
    let expected = format!(
        r#"{{"Id":"{id}","Kind":"Copy","State":"Succeeded","RemoteSource":"a","RemoteDestination":"b","FilesDone":"1","FilesTotal":"2","BytesDone":"3","BytesTotal":"4","FilesSkipped":"1","BytesSkipped":"1","CurrentPath":"{}","StartedAt":"{}","UpdatedAt":"{}","FinishedAt":"{}","Error":null,"SkipFilesUnmatched":["No"],"FilesReplaced":"1","Caller":"anonymous"}}"#,
        time("CurrentPath"),
        time("StartedAt"),
        time("UpdatedAt"),
        time("FinishedAt"),
    );
    assert_eq!(answer.text(), expected);
    for key in ["StartedAt", "UpdatedAt", "FinishedAt"] {
        let time = time(key);
        time.parse::<jiff::Timestamp>().expect(key);
        assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "{time}");
    }
    let list = server.http().get("/ImageStore/$/Operations?State=Succeeded").await;
    assert_eq!(list.text(), format!(r#"{{"Operations":[{expected}],"ContinuationToken":""}}"#));
}
