//! The service over gRPC: the responses and the errors of each rpc.

use imagestore::{
    error::Kind,
    wire::{
        LAST_CHANGE,
        status::{self, DOMAIN},
        v1::{
            CancelOperationRequest, CheckRequest, CommitUploadSessionRequest, CopyRequest,
            DeleteRequest, DeleteUploadSessionRequest, EntryKind, GetOperationRequest,
            GetStoreInfoRequest, GetUploadSessionRequest, ListOperationsRequest, ListRequest,
            ListUploadSessionsRequest, OperationState, StatRequest, WatchOperationRequest,
            WatchOperationsRequest,
        },
    },
};
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{Client, Driver, Server, copy, fill, line, tree};

pub(crate) const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
pub(crate) const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

/// A path as a field of a message.
pub(crate) fn path(path: &str) -> String {
    path.to_owned()
}

/// A server with some files, and a client of it.
pub(crate) async fn server(files: &str) -> (Server, Client) {
    let server = Server::start().await;
    fill(&server.rest(), files).await;
    let client = server.client().await;
    (server, client)
}

/// All messages of a stream, or its error.
pub(crate) async fn all<T>(
    stream: Result<tonic::Response<Streaming<T>>, Status>,
) -> Result<Vec<T>, Status> {
    let mut stream = stream?.into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

/// Checks an error and its machine-readable details.
#[track_caller]
pub(crate) fn assert_told<T>(result: Result<T, Status>, kind: Kind, field: Option<&str>) {
    let status = result.err().unwrap_or_else(|| panic!("{kind:?} {field:?} is not told"));
    assert_eq!(status::kind(&status), kind, "{status:?}");
    assert_eq!(status.code(), status::code(kind));
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
    // The listing of a file has the file itself.
    let request = ListRequest { path: path("a/d"), ..ListRequest::default() };
    let page = client.list(request).await.expect("a page").into_inner();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].path, "a/d");
    // A page size above the maximum is allowed.
    let request = ListRequest { path: path("a"), page_size: u32::MAX, ..ListRequest::default() };
    assert_eq!(client.list(request).await.expect("a page").into_inner().entries.len(), 4);
}

#[tokio::test]
async fn a_delete_says_what_is_gone() {
    let (server, mut client) = server("a/f=123 a/s/g=4 b=5 Store/x=6").await;
    for (name, files, bytes) in
        [("a/s", 1, 1), ("a", 1, 3), ("b", 1, 1), ("no", 0, 0), ("b/x", 0, 0)]
    {
        let gone = client
            .delete(DeleteRequest { path: path(name), ..DeleteRequest::default() })
            .await
            .expect("deleted");
        let gone = gone.into_inner();
        assert_eq!((gone.files_deleted, gone.bytes_deleted), (files, bytes), "{name}");
    }
    for (name, kind) in [
        ("", Kind::InvalidArgument),
        ("..", Kind::InvalidArgument),
        ("Store", Kind::Reserved),
        ("/windowsfabricstore/", Kind::Reserved),
    ] {
        let refused =
            client.delete(DeleteRequest { path: path(name), ..DeleteRequest::default() }).await;
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
    let commit = CommitUploadSessionRequest { session_id: path(SESSION), ..Default::default() };
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
    let commit = CommitUploadSessionRequest { session_id: path("x"), ..Default::default() };
    assert_told(client.commit_upload_session(commit).await, bad, id);
    let forget = DeleteUploadSessionRequest { session_id: String::new() };
    assert_told(client.delete_upload_session(forget).await, bad, id);
    let sessions = ListUploadSessionsRequest { path: path(".."), ..Default::default() };
    assert_told(client.list_upload_sessions(sessions).await, invalid, Some("path"));
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
    server.rest().chunk(SESSION, "c", (0, 9), b"56").await.expect("stored");
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
async fn a_sound_store_has_nothing_to_find() {
    let (server, mut client) = server("a/f=123").await;
    server.rest().upload("a/g", &vec![7; 100_000]).await.expect("stored");
    server.rest().copy(&copy("a", "b").skip(&["f"])).await.expect("copied");
    for request in [
        CheckRequest::default(),
        CheckRequest { deep: true, repair: false },
        CheckRequest { deep: true, repair: true },
    ] {
        let reports = all(client.check(request).await).await.expect("checked");
        let last = reports.last().expect("a report");
        assert!(last.done && reports.iter().filter(|report| report.done).count() == 1);
        assert_eq!((last.findings_total, last.findings_repaired), (0, 0), "{reports:?}");
        assert!(reports.iter().all(|report| report.findings.is_empty()));
        assert!(last.rows_checked > 0 && last.objects_checked == 1);
        assert_eq!(last.bytes_read > 100_000, request.deep, "{last:?}");
    }
}

#[tokio::test]
async fn a_watch_of_all_ends_when_its_caller_leaves() {
    let (server, mut client) = server("a/f=1").await;
    let mut watch = client
        .watch_operations(WatchOperationsRequest::default())
        .await
        .expect("a watch")
        .into_inner();
    server.rest().copy(&copy("a", "b")).await.expect("copied");
    assert_eq!(watch.message().await.expect("a change").expect("one").destination, "b");
    drop(watch);
    // A stop of the server does not wait for watchers, and ends their streams with an error.
    let mut stays = client
        .watch_operations(WatchOperationsRequest::default())
        .await
        .expect("a watch")
        .into_inner();
    let server = server.restart().await;
    let end = stays.message().await.expect_err("the end");
    assert_eq!(status::kind(&end), Kind::Busy);
    assert_eq!(tree(&server.rest()).await, "a/f=1 b/f=1");
}

#[tokio::test]
async fn a_watch_of_all_goes_on_after_a_change() {
    let (server, mut client) = server("a/f=1").await;
    for destination in ["b", "c", "d"] {
        server.rest().copy(&copy("a", destination)).await.expect("copied");
    }
    let list = client.list_operations(ListOperationsRequest::default()).await.expect("a page");
    let changes: Vec<u64> = list.get_ref().operations.iter().map(|one| one.change).collect();
    assert_eq!((changes, list.get_ref().change), (vec![3, 2, 1], 3));
    // The changes keep their numbers after a restart.
    let server = server.restart().await;
    let mut client = server.client().await;
    let since = |since| WatchOperationsRequest { since: Some(since) };
    let begun_after = |watch: &tonic::Response<_>| watch.metadata().get(LAST_CHANGE).cloned();
    let anew = client.watch_operations(WatchOperationsRequest::default()).await.expect("a watch");
    assert_eq!(begun_after(&anew).expect("a change"), "3");
    let watch = client.watch_operations(since(1)).await.expect("a watch");
    assert_eq!(begun_after(&watch).expect("a change"), "1");
    let mut watch = watch.into_inner();
    for (destination, change) in [("c", 2), ("d", 3)] {
        let operation = watch.message().await.expect("a change").expect("one");
        assert_eq!((operation.destination.as_str(), operation.change), (destination, change));
        assert_eq!(operation.state(), OperationState::Succeeded);
    }
    server.rest().copy(&copy("a", "e")).await.expect("copied");
    assert_eq!(watch.message().await.expect("a change").expect("one").destination, "e");
    for unknown in [5, u64::MAX] {
        let refused = client.watch_operations(since(unknown)).await.expect_err("unknown");
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        assert_eq!(status::kind(&refused), Kind::ChangesForgotten);
        assert!(refused.message().contains("list the operations anew"), "{refused}");
    }
}
