//! The service over gRPC: what each rpc answers, and how each fails (DESIGN 5.1).

use imagestore::{
    error::Kind,
    limits::{MESSAGE_BYTES_MAX, MIB},
    wire::{
        status::{self, DOMAIN},
        v1::{
            CancelOperationRequest, CommitUploadSessionRequest, CopyRequest, DeleteRequest,
            DeleteUploadSessionRequest, DownloadRequest, EntryKind, GetOperationRequest,
            GetStoreInfoRequest, GetUploadSessionRequest, ListOperationsRequest, ListRequest,
            ListUploadSessionsRequest, OperationState, StatRequest, UploadChunkHeader,
            UploadChunkRequest, UploadHeader, UploadRequest, WatchOperationRequest,
            WatchOperationsRequest, upload_chunk_request, upload_request,
        },
    },
};
use prost::Message as _;
use tokio_stream::iter;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{Client, Driver, Server, chunk, copy, fill, line, tree, upload};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

fn path(path: &str) -> String {
    path.to_owned()
}

async fn server(files: &str) -> (Server, Client) {
    let server = Server::start().await;
    fill(&server.rest(), files).await;
    let client = server.client().await;
    (server, client)
}

fn header(payload: UploadHeader) -> UploadRequest {
    UploadRequest { payload: Some(upload_request::Payload::Header(payload)) }
}

fn data(bytes: &[u8]) -> UploadRequest {
    UploadRequest { payload: Some(upload_request::Payload::Data(bytes.to_vec().into())) }
}

fn chunk_header(offset: u64, length: u64, total_bytes: u64) -> UploadChunkHeader {
    UploadChunkHeader { session_id: path(SESSION), path: path("c"), offset, length, total_bytes }
}

/// All messages of a stream, or its error.
async fn all<T>(stream: Result<tonic::Response<Streaming<T>>, Status>) -> Result<Vec<T>, Status> {
    let mut stream = stream?.into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

/// Sees an error with all that programs read of it.
#[track_caller]
fn assert_told<T>(result: Result<T, Status>, kind: Kind, field: Option<&str>) {
    let status = result.err().unwrap_or_else(|| panic!("{kind:?} {field:?} is not told"));
    assert_eq!(status::kind(&status), kind, "{status:?}");
    assert_eq!(status.code() as i32, kind.grpc());
    let details = status.get_error_details();
    let info = details.error_info().expect("its reason");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (kind.reason(), DOMAIN));
    for value in info.metadata.values() {
        assert!(status.message().contains(value), "{value} is not in {status:?}");
    }
    let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let fields: Vec<&str> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, field.into_iter().collect::<Vec<_>>(), "{status:?}");
    assert!(!status.message().is_empty());
}

#[tokio::test]
async fn a_path_is_described() {
    let (_server, mut client) = server("a/f=123 a/_.dir a/s/g=4").await;
    let mut stat = async |path: &str| {
        let found = client.stat(StatRequest { path: path.to_owned() }).await.expect("found");
        found.into_inner()
    };
    let file = stat("\\a//f ").await;
    let entry = file.entry.expect("an entry");
    assert_eq!((entry.path.as_str(), entry.kind()), ("a/f", EntryKind::File));
    assert_eq!((entry.size_bytes, entry.file_count), (3, 1));
    assert_eq!(entry.digest, blake3::hash(b"123").to_hex().as_str());
    assert_eq!(entry.etag.len(), 64);
    assert!(entry.modified_at.is_some() && entry.version.is_some() && !file.has_mark_file);

    let folder = stat("a").await;
    let entry = folder.entry.expect("an entry");
    assert_eq!((entry.path.as_str(), entry.kind()), ("a", EntryKind::Folder));
    assert_eq!((entry.size_bytes, entry.file_count), (4, 3));
    assert_eq!((entry.digest.as_str(), entry.etag.as_str()), ("", ""));
    assert!(entry.modified_at.is_none() && entry.version.is_none() && folder.has_mark_file);

    assert!(!stat("a/s").await.has_mark_file);
    let root = stat("").await.entry.expect("an entry");
    assert_eq!((root.path.as_str(), root.kind()), ("", EntryKind::Folder));
    assert_eq!((root.size_bytes, root.file_count), (4, 3));
}

#[tokio::test]
async fn a_folder_is_listed_in_pages() {
    let (_server, mut client) = server("a/B=1 a/a=2 a/C/x=3 a/C/y=4 a/d=5").await;
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRequest { path: path("a"), page_size: 3, page_token };
        let page = client.list(request).await.expect("a page").into_inner();
        assert!(page.entries.len() <= 3);
        for entry in page.entries {
            assert_eq!((entry.digest.as_str(), entry.etag.as_str()), ("", ""));
            found.push((entry.path.clone(), entry.file_count, entry.size_bytes));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = [("a/a", 1, 1), ("a/B", 1, 1), ("a/C", 2, 2), ("a/d", 1, 1)];
    assert_eq!(found, expected.map(|(path, files, bytes)| (path.to_owned(), files, bytes)));
    // A file is listed as itself.
    let request = ListRequest { path: path("a/d"), ..ListRequest::default() };
    let page = client.list(request).await.expect("a page").into_inner();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].path, "a/d");
    // A page may be asked for that is larger than the largest.
    let request = ListRequest { path: path("a"), page_size: u32::MAX, ..ListRequest::default() };
    assert_eq!(client.list(request).await.expect("a page").into_inner().entries.len(), 4);
}

#[tokio::test]
async fn a_file_is_uploaded_and_described() {
    let (server, mut client) = server("").await;
    let bytes = b"hello";
    let sent = UploadHeader {
        path: path("a/f"),
        size_bytes: Some(5),
        blake3: blake3::hash(bytes).to_hex().to_uppercase(),
    };
    // An empty message of bytes is nothing special.
    let messages = vec![header(sent), data(b"he"), data(b""), data(b"llo")];
    let stored = client.upload(iter(messages)).await.expect("stored").into_inner();
    let stat = client.stat(StatRequest { path: path("a/f") }).await.expect("found").into_inner();
    assert_eq!(stored.entry, stat.entry);
    assert_eq!(tree(&server.rest()).await, "a/f=hello");
    // The header alone is a file of no bytes.
    let sent = UploadHeader { path: path("a/f"), ..UploadHeader::default() };
    client.upload(iter([header(sent)])).await.expect("stored");
    assert_eq!(tree(&server.rest()).await, "a/f");
}

#[tokio::test]
async fn an_upload_that_is_not_as_announced_leaves_nothing() {
    let (server, mut client) = server("d/x=1 f=2").await;
    let head = |path: &str| UploadHeader { path: path.to_owned(), ..UploadHeader::default() };
    let sized = |size| UploadHeader { size_bytes: Some(size), ..head("a") };
    let digest = |text: &str| UploadHeader { blake3: text.to_owned(), ..head("a") };
    let invalid = Kind::InvalidArgument;
    let other = blake3::hash(b"other").to_hex();
    for (messages, kind, field) in [
        (vec![], invalid, Some("header")),
        (vec![data(b"1")], invalid, Some("header")),
        (vec![data(b"1"), header(head("a"))], invalid, Some("header")),
        (vec![UploadRequest { payload: None }], invalid, Some("header")),
        (vec![header(head("a")), header(head("a"))], invalid, Some("header")),
        (vec![header(head("a")), data(b"1"), header(head("a"))], invalid, Some("header")),
        (vec![header(head("a")), UploadRequest { payload: None }], invalid, Some("data")),
        (vec![header(sized(2)), data(b"1")], invalid, Some("size_bytes")),
        (vec![header(sized(2))], invalid, Some("size_bytes")),
        (vec![header(sized(2)), data(b"12"), data(b"3")], invalid, Some("size_bytes")),
        (vec![header(sized(1 << 60)), data(b"1")], Kind::TooLarge, Some("size_bytes")),
        (vec![header(digest(&other)), data(b"1")], invalid, Some("blake3")),
        (vec![header(digest("xyz")), data(b"1")], invalid, Some("blake3")),
        (vec![header(digest(&other[1..])), data(b"1")], invalid, Some("blake3")),
        (vec![header(head("")), data(b"1")], invalid, Some("path")),
        (vec![header(head("a/../b")), data(b"1")], invalid, Some("path")),
        (vec![header(head(&"n".repeat(1025)))], Kind::PathTooLong, Some("path")),
        (vec![header(head("d")), data(b"1")], Kind::AlreadyExists, Some("path")),
        (vec![header(head("f/below")), data(b"1")], Kind::AlreadyExists, Some("path")),
    ] {
        assert_told(client.upload(iter(messages)).await, kind, field);
        assert_eq!(tree(&server.rest()).await, "d/x=1 f=2");
    }
}

#[tokio::test]
async fn bytes_are_downloaded_from_where_to_where_is_asked() {
    let (_server, mut client) = server("f=0123456789 e").await;
    let stat = client.stat(StatRequest { path: path("f") }).await.expect("found").into_inner();
    let etag = stat.entry.expect("an entry").etag;
    for (name, offset, length, expected) in [
        ("f", 0, None, "0123456789"),
        ("f", 3, Some(4), "3456"),
        ("f", 8, Some(99), "89"),
        ("f", 8, Some(u64::MAX), "89"),
        ("f", 0, Some(0), ""),
        ("f", 10, None, ""),
        ("e", 0, None, ""),
    ] {
        let etag = if name == "f" { etag.clone() } else { String::new() };
        let request = DownloadRequest { path: path(name), offset, length, etag };
        let pieces = all(client.download(request).await).await.expect("downloaded");
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.data).collect();
        assert_eq!(bytes, expected.as_bytes(), "{name} {offset} {length:?}");
    }
    let mut download = async |request| all(client.download(request).await).await;
    let file = || DownloadRequest { path: path("f"), ..DownloadRequest::default() };
    let beyond = DownloadRequest { offset: 11, ..file() };
    assert_told(download(beyond).await, Kind::UnsatisfiableRange, Some("offset"));
    let other = DownloadRequest { etag: "0".repeat(64), ..file() };
    assert_told(download(other).await, Kind::Changed, Some("etag"));
    let malformed = DownloadRequest { etag: path("x"), ..file() };
    assert_told(download(malformed).await, Kind::InvalidArgument, Some("etag"));
    for missing in ["no", "f/below"] {
        let request = DownloadRequest { path: path(missing), ..file() };
        assert_told(download(request).await, Kind::FileNotFound, Some("path"));
    }
    let root = DownloadRequest { path: path(""), ..file() };
    assert_told(download(root).await, Kind::InvalidArgument, Some("path"));
}

#[tokio::test]
async fn no_message_of_a_download_is_large() {
    let (server, mut client) = server("").await;
    let bytes = vec![7; 9 * MIB];
    server.rest().upload("f", &bytes).await.expect("stored");
    let request = DownloadRequest { path: path("f"), ..DownloadRequest::default() };
    let pieces = all(client.download(request).await).await.expect("downloaded");
    assert!(pieces.iter().all(|piece| (1..=256 << 10).contains(&piece.data.len())));
    assert_eq!(pieces.iter().map(|piece| piece.data.len()).sum::<usize>(), bytes.len());
}

#[tokio::test]
async fn a_delete_says_what_is_gone() {
    let (server, mut client) = server("a/f=123 a/s/g=4 b=5 Store/x=6").await;
    for (name, files, bytes) in
        [("a/s", 1, 1), ("a", 1, 3), ("b", 1, 1), ("no", 0, 0), ("b/x", 0, 0)]
    {
        let gone = client.delete(DeleteRequest { path: path(name) }).await.expect("deleted");
        let gone = gone.into_inner();
        assert_eq!((gone.files_deleted, gone.bytes_deleted), (files, bytes), "{name}");
    }
    for (name, kind) in [
        ("", Kind::InvalidArgument),
        ("..", Kind::InvalidArgument),
        ("Store", Kind::Reserved),
        ("/windowsfabricstore/", Kind::Reserved),
    ] {
        let refused = client.delete(DeleteRequest { path: path(name) }).await;
        assert_told(refused, kind, Some("path"));
    }
    assert_eq!(tree(&server.rest()).await, "Store/x=6");
}

#[tokio::test]
async fn what_is_not_there_is_told_so() {
    let (_server, mut client) = server("a/f=1").await;
    let list = ListRequest { path: path("no"), ..ListRequest::default() };
    assert_told(client.list(list).await, Kind::PathNotFound, Some("path"));
    let stat = StatRequest { path: path("no") };
    assert_told(client.stat(stat).await, Kind::PathNotFound, Some("path"));
    let source = CopyRequest::from(&copy("no", "b"));
    assert_told(client.copy(source).await, Kind::FileNotFound, Some("source"));
    let mark = CopyRequest::from(&copy("a", "b").checked());
    assert_told(client.copy(mark).await, Kind::FileNotFound, Some("source"));
    let (unknown, id) = (Kind::OperationNotFound, Some("id"));
    assert_told(client.get_operation(GetOperationRequest { id: path(ID) }).await, unknown, id);
    assert_told(client.watch_operation(WatchOperationRequest { id: path(ID) }).await, unknown, id);
    assert_told(
        client.cancel_operation(CancelOperationRequest { id: path(ID) }).await,
        unknown,
        id,
    );
    let (unknown, id) = (Kind::SessionNotFound, Some("session_id"));
    let get = GetUploadSessionRequest { session_id: path(SESSION) };
    assert_told(client.get_upload_session(get).await, unknown, id);
    let forget = DeleteUploadSessionRequest { session_id: path(SESSION) };
    assert_told(client.delete_upload_session(forget).await, unknown, id);
    let commit = CommitUploadSessionRequest { session_id: path(SESSION) };
    assert_told(client.commit_upload_session(commit).await, Kind::InvalidArgument, id);
}

#[tokio::test]
async fn malformed_arguments_are_named() {
    let (_server, mut client) = server("a/f=1").await;
    let invalid = Kind::InvalidArgument;
    let stat = StatRequest { path: path("a\u{1}b") };
    assert_told(client.stat(stat).await, invalid, Some("path"));
    let list = ListRequest { path: path("a/.."), ..ListRequest::default() };
    assert_told(client.list(list).await, invalid, Some("path"));
    for (ask, field) in [
        (copy("", "b"), "source"),
        (copy("a", ""), "destination"),
        (copy("a", "a/b"), "destination"),
        (copy("a", "b").id("x"), "operation_id"),
    ] {
        let refused = client.copy(CopyRequest::from(&ask)).await;
        assert_told(refused, invalid, Some(field));
    }
    let unknown = CopyRequest { if_exists: 9, ..CopyRequest::from(&copy("a", "b")) };
    assert_told(client.copy(unknown).await, invalid, Some("if_exists"));
    let reserved = CopyRequest::from(&copy("a", "Store"));
    assert_told(client.copy(reserved).await, Kind::Reserved, Some("destination"));
    assert_told(
        client.get_operation(GetOperationRequest { id: path("x") }).await,
        invalid,
        Some("id"),
    );
    let watch = WatchOperationRequest { id: String::new() };
    assert_told(client.watch_operation(watch).await, invalid, Some("id"));
    let cancel = CancelOperationRequest { id: path("x") };
    assert_told(client.cancel_operation(cancel).await, invalid, Some("id"));
    let token = ListOperationsRequest { page_token: path("x"), ..Default::default() };
    assert_told(client.list_operations(token).await, invalid, Some("page_token"));
    let state = ListOperationsRequest { state: 9, ..Default::default() };
    assert_told(client.list_operations(state).await, invalid, Some("state"));
    let (bad, id) = (Kind::InvalidSessionId, Some("session_id"));
    let get = GetUploadSessionRequest { session_id: path("x") };
    assert_told(client.get_upload_session(get).await, bad, id);
    let commit = CommitUploadSessionRequest { session_id: path("x") };
    assert_told(client.commit_upload_session(commit).await, bad, id);
    let forget = DeleteUploadSessionRequest { session_id: String::new() };
    assert_told(client.delete_upload_session(forget).await, bad, id);
    let sessions = ListUploadSessionsRequest { path: path(".."), ..Default::default() };
    assert_told(client.list_upload_sessions(sessions).await, invalid, Some("path"));
}

#[tokio::test]
async fn a_chunk_that_is_not_as_announced_is_refused() {
    let (server, mut client) = server("d/x=1").await;
    let payload = |payload| UploadChunkRequest { payload: Some(payload) };
    let bytes = payload(upload_chunk_request::Payload::Data(b"1".to_vec().into()));
    let first = |header| payload(upload_chunk_request::Payload::Header(header));
    let twice = vec![first(chunk_header(0, 1, 1)), first(chunk_header(0, 1, 1))];
    let none = UploadChunkRequest { payload: None };
    let (invalid, range) = (Kind::InvalidArgument, Kind::BadRange);
    let folder = UploadChunkHeader { path: path("d"), ..chunk_header(0, 1, 1) };
    let nameless = UploadChunkHeader { session_id: path("x"), ..chunk_header(0, 1, 1) };
    for (messages, kind, field) in [
        (vec![], invalid, Some("header")),
        (vec![bytes.clone()], invalid, Some("header")),
        (twice, invalid, Some("header")),
        (vec![first(chunk_header(0, 1, 1)), none], invalid, Some("data")),
        (chunk(chunk_header(0, 2, 2), b"1"), range, Some("length")),
        (chunk(chunk_header(0, 1, 2), b"12"), range, Some("length")),
        (chunk(chunk_header(1, 1, 1), b"1"), range, Some("length")),
        (chunk(chunk_header(u64::MAX, 1, 1), b"1"), range, Some("length")),
        (chunk(chunk_header(0, 0, 1), b""), range, Some("length")),
        (chunk(chunk_header(0, 1, 1 << 60), b"1"), range, Some("length")),
        (chunk(folder, b"1"), Kind::AlreadyExists, Some("path")),
        (chunk(nameless, b"1"), Kind::InvalidSessionId, Some("session_id")),
    ] {
        assert_told(client.upload_chunk(iter(messages)).await, kind, field);
        assert_eq!(server.rest().session(SESSION).await.expect("none"), None);
    }
    client.upload_chunk(iter(chunk(chunk_header(0, 2, 4), b"12"))).await.expect("stored");
    let overlap = client.upload_chunk(iter(chunk(chunk_header(1, 2, 4), b"23"))).await;
    assert_told(overlap, range, Some("offset"));
    let other = UploadChunkHeader { path: path("e"), ..chunk_header(2, 2, 4) };
    let other = client.upload_chunk(iter(chunk(other, b"34"))).await;
    assert_told(other, Kind::SessionConflict, Some("path"));
    let total = client.upload_chunk(iter(chunk(chunk_header(2, 2, 5), b"34"))).await;
    assert_told(total, invalid, Some("total_bytes"));
}

#[tokio::test]
async fn a_session_is_described_listed_and_committed() {
    let (_server, mut client) = server("").await;
    client.upload_chunk(iter(chunk(chunk_header(1, 2, 4), b"12"))).await.expect("stored");
    let get = || GetUploadSessionRequest { session_id: SESSION.to_uppercase() };
    let session = client.get_upload_session(get()).await.expect("a session").into_inner();
    assert_eq!((session.session_id.as_str(), session.path.as_str()), (SESSION, "c"));
    assert_eq!((session.total_bytes, session.committed), (4, false));
    let ranges: Vec<_> = session.expected_ranges.iter().map(|r| (r.start, r.end)).collect();
    assert_eq!(ranges, [(0, 0), (3, 3)]);
    let other =
        UploadChunkHeader { session_id: path(ID), path: path("e"), ..chunk_header(0, 0, 0) };
    client.upload_chunk(iter(chunk(other, b""))).await.expect("stored");
    let mut list = async |name: &str, page_size, page_token: &str| {
        let page_token = page_token.to_owned();
        let request = ListUploadSessionsRequest { path: path(name), page_size, page_token };
        client.list_upload_sessions(request).await.expect("a page").into_inner()
    };
    assert_eq!(list("c", 0, "").await.sessions, std::slice::from_ref(&session));
    assert_eq!(list("no", 0, "").await.sessions, []);
    let first = list("", 1, "").await;
    assert_eq!(first.sessions[0].session_id, ID);
    let second = list("", 1, &first.next_page_token).await;
    assert_eq!((second.sessions, second.next_page_token.as_str()), (vec![session], ""));

    let commit = CommitUploadSessionRequest { session_id: path(ID) };
    let entry = client.commit_upload_session(commit.clone()).await.expect("committed").into_inner();
    let entry = entry.entry.expect("an entry");
    assert_eq!((entry.path.as_str(), entry.size_bytes, entry.file_count), ("e", 0, 1));
    let again = client.commit_upload_session(commit).await.expect("committed").into_inner();
    assert_eq!(again.entry, Some(entry));
    let done = GetUploadSessionRequest { session_id: path(ID) };
    assert!(client.get_upload_session(done).await.expect("a session").into_inner().committed);
    let forget = DeleteUploadSessionRequest { session_id: path(SESSION) };
    client.delete_upload_session(forget).await.expect("forgotten");
    let gone = client.get_upload_session(get()).await;
    assert_told(gone, Kind::SessionNotFound, Some("session_id"));
}

#[tokio::test]
async fn operations_are_listed_in_pages_and_by_state() {
    let (server, mut client) = server("a/f=1").await;
    for destination in ["b", "c", "d"] {
        server.rest().copy(&copy("a", destination)).await.expect("copied");
    }
    server.rest().delete("d").await.expect("deleted");
    let mut page = async |page_size, page_token: &str, state: OperationState| {
        let page_token = page_token.to_owned();
        let request = ListOperationsRequest { page_size, page_token, state: state.into() };
        let page = client.list_operations(request).await.expect("a page").into_inner();
        let lines = page
            .operations
            .iter()
            .map(|op| format!("{} {} {}", line(op), op.source, op.destination));
        (lines.collect::<Vec<_>>(), page.next_page_token)
    };
    let copied = |to: &str| format!("Copy Succeeded 1+0/1 1+0/1 a {to}");
    let newest = vec!["Delete Succeeded 1+0/1 1+0/1 d ".to_owned(), copied("d"), copied("c")];
    let (first, token) = page(3, "", OperationState::Unspecified).await;
    assert_eq!(first, newest);
    assert_eq!(
        page(3, &token, OperationState::Unspecified).await,
        (vec![copied("b")], String::new())
    );
    let (first, token) = page(3, "", OperationState::Succeeded).await;
    assert_eq!((first, token.is_empty()), (newest, false));
    for state in [OperationState::Running, OperationState::Failed, OperationState::Cancelled] {
        assert_eq!(page(0, "", state).await, (vec![], String::new()));
    }
    assert_eq!(page(u32::MAX, "", OperationState::Unspecified).await.0.len(), 4);
}

#[tokio::test]
async fn a_finished_operation_is_watched_once() {
    let (server, mut client) = server("a/f=1").await;
    server.rest().copy(&copy("a", "b").id(ID)).await.expect("copied");
    let request = WatchOperationRequest { id: ID.to_uppercase() };
    let states = all(client.watch_operation(request).await).await.expect("a state");
    let get = GetOperationRequest { id: path(ID) };
    assert_eq!(states, [client.get_operation(get).await.expect("one").into_inner()]);
    assert_eq!(line(&states[0]), "Copy Succeeded 1+0/1 1+0/1");
    let cancel = CancelOperationRequest { id: path(ID) };
    assert_told(client.cancel_operation(cancel).await, Kind::Finished, Some("id"));
}

#[tokio::test]
async fn the_store_tells_its_space() {
    let (server, mut client) = server("a/f=123 Store/x=4").await;
    server.rest().copy(&copy("a", "b")).await.expect("copied");
    client.upload_chunk(iter(chunk(chunk_header(0, 2, 9), b"56"))).await.expect("stored");
    let info = client.get_store_info(GetStoreInfoRequest {}).await.expect("info").into_inner();
    let usage = |usage: Option<imagestore::wire::v1::Usage>| {
        usage.map(|usage| (usage.used_bytes, usage.file_count)).expect("a usage")
    };
    assert_eq!(usage(info.logical), (7, 3));
    assert_eq!(usage(info.unique), (6, 3));
    assert_eq!(usage(info.staging), (2, 1));
    assert_eq!(usage(info.registered), (1, 1));
    assert!(info.metadata_bytes > 0 && usage(info.on_disk).0 >= info.metadata_bytes);
    assert!(info.disk_available_bytes <= info.disk_capacity_bytes);
    assert_eq!(info.folder_count, 3);
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused_and_one_at_it_is_taken() {
    let (server, mut client) = server("").await;
    let head = |size| {
        header(UploadHeader { path: path("f"), size_bytes: Some(size), blake3: String::new() })
    };
    let overhead = data(&vec![0; 4_000_000]).encoded_len() - 4_000_000;
    let largest = MESSAGE_BYTES_MAX - overhead;
    let exact = vec![0; largest];
    client.upload(iter([head(exact.len() as u64), data(&exact)])).await.expect("stored");
    let over = vec![0; largest + 1];
    let refused = client.upload(iter([head(over.len() as u64), data(&over)])).await;
    assert_told(refused, Kind::MessageTooLarge, None);
    assert_eq!(server.rest().size("f").await.expect("the old file"), largest as u64);
    let long = StatRequest { path: "x".repeat(MESSAGE_BYTES_MAX) };
    let refused = client.stat(long).await.expect_err("refused");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    // The connection goes on.
    client.stat(StatRequest::default()).await.expect("the root");
}

#[tokio::test]
async fn a_call_that_does_not_exist_is_unimplemented() {
    let (server, _) = server("").await;
    let request = server.http().request("POST", "/imagestore.v1.ImageStore/Nothing");
    let request = request.header("Content-Type", "application/grpc").header("TE", "trailers");
    let answer = request.body(b"\0\0\0\0\0").send().await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("12")));
}

#[tokio::test]
async fn a_watch_of_all_ends_when_its_caller_leaves() {
    let (server, mut client) = server("a/f=1").await;
    let mut watch =
        client.watch_operations(WatchOperationsRequest {}).await.expect("a watch").into_inner();
    server.rest().copy(&copy("a", "b")).await.expect("copied");
    assert_eq!(watch.message().await.expect("a change").expect("one").destination, "b");
    drop(watch);
    // A stop waits for no audience, and one that stays is told.
    let mut stays =
        client.watch_operations(WatchOperationsRequest {}).await.expect("a watch").into_inner();
    let server = server.restart().await;
    let end = stays.message().await.expect_err("the end");
    assert_eq!(status::kind(&end), Kind::Busy);
    assert_eq!(tree(&server.rest()).await, "a/f=1 b/f=1");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let (server, client) = server("").await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let mut uploading = client.clone();
    let call = tokio::spawn(async move {
        uploading.upload(tokio_stream::wrappers::ReceiverStream::new(receiver)).await
    });
    for message in upload("a/f", &vec![1; 3 * MIB]) {
        sender.send(message).await.expect("it is read");
    }
    // More than the windows hold, so the server has begun.
    for _ in 0..64 {
        sender.send(data(&vec![2; MIB])).await.expect("it is read");
    }
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    drop(client);
    let server = server.restart().await;
    assert_eq!(tree(&server.rest()).await, "");
}
