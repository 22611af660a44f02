//! gRPC on the wire: deadlines, bounds of messages, health and reflection.
//!
//! The client here enforces no deadlines, so that the server has to.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use imagestore::{
    error::Kind,
    limits::MESSAGE_BYTES_MAX,
    server::SERVICE,
    wire::{
        DESCRIPTOR, status,
        v1::{
            BackupRequest, CancelOperationRequest, CheckRequest, CommitUploadSessionRequest,
            CopyRequest, CreateLinkRequest, CreateTokenRequest, DeleteRequest,
            DeleteUploadSessionRequest, DownloadPackageRequest, DownloadRequest, GetCallerRequest,
            GetOperationRequest, GetStoreInfoRequest, GetUploadSessionRequest, Grant, LinkTarget,
            ListOperationsRequest, ListRequest, ListTokensRequest, ListUploadSessionsRequest,
            RestoreRequest, RevokeTokenRequest, Role, RotateLinkKeyRequest, RotateTokenRequest,
            StatRequest, UploadChunkHeader, WatchOperationRequest, WatchOperationsRequest,
        },
    },
};
use prost::Message as _;
use tonic::{Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Driver, Gate, Server, chunk, copy, fill, tree, upload};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

/// A request with a deadline.
fn timed<T>(timeout: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

/// The kind of the error of a call.
pub(crate) fn kind<T>(answer: Result<T, Status>) -> Kind {
    let status = answer.err().expect("an error");
    assert!(!status.details().is_empty(), "the server tells, not the client: {status:?}");
    status::kind(&status)
}

/// The kind of the error that a stream begins or ends with.
async fn end<T>(answer: Result<tonic::Response<Streaming<T>>, Status>) -> Kind {
    match answer {
        Err(status) => kind(Err::<(), _>(status)),
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended well"),
                    Err(status) => return kind(Err::<(), _>(status)),
                }
            }
        }
    }
}

/// The kind of the error of every rpc, called with a deadline.
async fn every_call(server: &Server, timeout: &str) -> Vec<(&'static str, Kind)> {
    let mut client = server.plain().await;
    let path = || "a".to_owned();
    let (id, session_id) = (|| ID.to_owned(), || SESSION.to_owned());
    let stat = timed(timeout, StatRequest { path: path() });
    let list = timed(timeout, ListRequest { path: path(), ..ListRequest::default() });
    let ask = timed(timeout, CopyRequest::from(&copy("a", "b")));
    let verify = timed(timeout, CopyRequest::from(&copy("a", "b").verify()));
    let delete = timed(timeout, DeleteRequest { path: path(), ..Default::default() });
    let download = timed(timeout, DownloadRequest { path: "a/f".to_owned(), ..Default::default() });
    let package = timed(timeout, download_package());
    let header = UploadChunkHeader {
        session_id: "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b12".to_owned(),
        path: "c".to_owned(),
        offset: 0,
        length: 1,
        total_bytes: 1,
        ..UploadChunkHeader::default()
    };
    let upload = timed(timeout, stream::iter(upload("c", b"1")));
    let chunk = timed(timeout, stream::iter(chunk(header, b"1")));
    let get = timed(timeout, GetUploadSessionRequest { session_id: session_id() });
    let sessions = timed(timeout, ListUploadSessionsRequest::default());
    let commit = timed(
        timeout,
        CommitUploadSessionRequest { session_id: session_id(), ..Default::default() },
    );
    let forget = timed(timeout, DeleteUploadSessionRequest { session_id: session_id() });
    let operation = timed(timeout, GetOperationRequest { id: id() });
    let operations = timed(timeout, ListOperationsRequest::default());
    let cancel = timed(timeout, CancelOperationRequest { id: id() });
    let watch = timed(timeout, WatchOperationRequest { id: id() });
    let watch_all = timed(timeout, WatchOperationsRequest::default());
    let backup = stream::iter([BackupRequest::default()]);
    let restore = stream::iter([RestoreRequest::default()]);
    vec![
        ("Stat", kind(client.stat(stat).await)),
        ("List", kind(client.list(list).await)),
        ("Copy", end(client.copy(ask).await).await),
        ("Copy", end(client.copy(verify).await).await),
        ("Delete", kind(client.delete(delete).await)),
        ("Download", end(client.download(download).await).await),
        ("DownloadPackage", end(client.download_package(package).await).await),
        ("Upload", kind(client.upload(upload).await)),
        ("UploadChunk", kind(client.upload_chunk(chunk).await)),
        ("GetUploadSession", kind(client.get_upload_session(get).await)),
        ("ListUploadSessions", kind(client.list_upload_sessions(sessions).await)),
        ("CommitUploadSession", kind(client.commit_upload_session(commit).await)),
        ("DeleteUploadSession", kind(client.delete_upload_session(forget).await)),
        ("GetOperation", kind(client.get_operation(operation).await)),
        ("ListOperations", kind(client.list_operations(operations).await)),
        ("CancelOperation", kind(client.cancel_operation(cancel).await)),
        ("WatchOperation", end(client.watch_operation(watch).await).await),
        ("WatchOperations", end(client.watch_operations(watch_all).await).await),
        ("Check", end(client.check(timed(timeout, CheckRequest::default())).await).await),
        ("Backup", end(client.backup(timed(timeout, backup)).await).await),
        ("Restore", kind(client.restore(timed(timeout, restore)).await)),
        ("GetStoreInfo", kind(client.get_store_info(timed(timeout, GetStoreInfoRequest {})).await)),
        ("GetCaller", kind(client.get_caller(timed(timeout, GetCallerRequest::default())).await)),
        ("CreateToken", kind(client.create_token(timed(timeout, create_token())).await)),
        ("CreateLink", kind(client.create_link(timed(timeout, create_link())).await)),
        ("RotateLinkKey", kind(client.rotate_link_key(timed(timeout, rotate_key())).await)),
        ("ListTokens", kind(client.list_tokens(timed(timeout, list_tokens())).await)),
        ("RotateToken", kind(client.rotate_token(timed(timeout, rotate_token())).await)),
        ("RevokeToken", kind(client.revoke_token(timed(timeout, revoke_token())).await)),
    ]
}

fn download_package() -> DownloadPackageRequest {
    DownloadPackageRequest { path: "a".to_owned(), ..Default::default() }
}

fn list_tokens() -> ListTokensRequest {
    ListTokensRequest::default()
}

fn rotate_key() -> RotateLinkKeyRequest {
    RotateLinkKeyRequest {}
}

fn create_link() -> CreateLinkRequest {
    let target = LinkTarget::Content.into();
    CreateLinkRequest { path: "a".to_owned(), target, ..Default::default() }
}

fn create_token() -> CreateTokenRequest {
    let grants = vec![Grant { role: Role::Reader.into(), path: "/".to_owned() }];
    CreateTokenRequest { name: "u".to_owned(), grants, ..Default::default() }
}

fn rotate_token() -> RotateTokenRequest {
    RotateTokenRequest { name: "t".to_owned(), overlap: None }
}

fn revoke_token() -> RevokeTokenRequest {
    RevokeTokenRequest { name: "t".to_owned() }
}

/// A store on which every call without a deadline would succeed.
async fn ready() -> Server {
    let server = Server::start().await;
    let store = server.rest();
    fill(&store, "a/f=1").await;
    store.copy(&copy("a", "d").id(ID)).await.expect("copied");
    store.chunk(SESSION, "e", (0, 1), b"1").await.expect("stored");
    let token = CreateTokenRequest { name: "t".to_owned(), ..create_token() };
    server.client().await.create_token(token).await.expect("created");
    server
}

#[tokio::test]
async fn no_call_does_anything_after_its_deadline() {
    let server = ready().await;
    for (rpc, kind) in every_call(&server, "1n").await {
        assert_eq!(kind, Kind::Timeout, "{rpc}");
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1 d/f=1");
    assert_eq!(server.rest().session(SESSION).await.expect("a session"), Some(vec![]));
}

#[tokio::test]
async fn a_malformed_deadline_is_an_invalid_argument() {
    let server = ready().await;
    for timeout in ["1", "S", "1s", "-1S", "123456789S", "1.5S"] {
        for (rpc, kind) in every_call(&server, timeout).await {
            assert_eq!(kind, Kind::InvalidArgument, "{rpc} {timeout}");
        }
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1 d/f=1");
}

#[tokio::test]
async fn a_deadline_that_passes_during_a_copy_cancels_it() {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a/f", &vec![7; 20_000]).await.expect("stored");
    gate.close();
    let mut client = server.plain().await;
    let ask = CopyRequest::from(&copy("a", "b").verify().id(ID));
    let mut stream = client.copy(timed("5S", ask)).await.expect("begun").into_inner();
    stream.message().await.expect("a message").expect("one");
    assert_eq!(kind(stream.message().await), Kind::Timeout);
    let state = server.rest().operation(ID).await.expect("an operation");
    assert!(state.starts_with("Copy Cancelled "), "{state}");
    let watch = client.watch_operation(timed("5S", WatchOperationRequest { id: ID.to_owned() }));
    let states = watch.await.expect("a watch").into_inner();
    assert_eq!(states.count().await, 1, "one that has ended ends its watch before any deadline");
}

#[tokio::test]
async fn a_watch_ends_at_its_deadline() {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a/f", &vec![7; 20_000]).await.expect("stored");
    gate.close();
    let mut client = server.plain().await;
    let ask = CopyRequest::from(&copy("a", "b").verify().id(ID));
    let _copying = client.copy(ask).await.expect("begun");
    let watch = timed("5S", WatchOperationRequest { id: ID.to_owned() });
    assert_eq!(end(client.watch_operation(watch).await).await, Kind::Timeout);
    let watch = timed("5S", WatchOperationsRequest::default());
    assert_eq!(end(client.watch_operations(watch).await).await, Kind::Timeout);
    let state = server.rest().operation(ID).await.expect("an operation");
    assert!(state.starts_with("Copy Running "), "{state}");
}

/// A path of nearly the maximum length.
fn long(index: usize) -> String {
    let name = format!("{index:04}{}", "n".repeat(1016));
    [name.as_str(), &"n".repeat(1020), &"n".repeat(1020), &"n".repeat(1020)].join("/")
}

#[tokio::test]
async fn no_page_is_larger_than_a_message() {
    const OPERATIONS: usize = 550;
    const SESSIONS: usize = 1000;
    let server = Server::start().await;
    let client = server.client().await;
    let path = long(0);
    server.rest().upload(&path, b"1").await.expect("stored");
    stream::iter(0..OPERATIONS)
        .for_each_concurrent(64, async |_| {
            let ask = CopyRequest::from(&copy(&path, &path));
            client.clone().copy(ask).await.expect("copied");
        })
        .await;
    stream::iter(0..SESSIONS)
        .for_each_concurrent(64, async |index| {
            let header = UploadChunkHeader {
                session_id: format!("d7d3d8c8-4d2a-4b8e-9c06-{index:012}"),
                path: long(1),
                offset: 1 << 50,
                length: 1,
                total_bytes: 1 << 52,
                ..UploadChunkHeader::default()
            };
            client.clone().upload_chunk(stream::iter(chunk(header, b"1"))).await.expect("stored");
        })
        .await;

    let mut found = BTreeSet::new();
    let mut page_token = String::new();
    while found.is_empty() || !page_token.is_empty() {
        let request = ListOperationsRequest { page_size: 1000, page_token, state: 0 };
        let page = client.clone().list_operations(request).await.expect("a page").into_inner();
        assert!(page.encoded_len() <= MESSAGE_BYTES_MAX && !page.operations.is_empty());
        found.extend(page.operations.into_iter().map(|operation| operation.id));
        page_token = page.next_page_token;
    }
    assert_eq!(found.len(), OPERATIONS);

    let (mut found, mut first_page) = (BTreeSet::new(), None);
    let mut page_token = String::new();
    while found.is_empty() || !page_token.is_empty() {
        let request =
            ListUploadSessionsRequest { path: String::new(), page_size: 1000, page_token };
        let page = client.clone().list_upload_sessions(request).await.expect("a page").into_inner();
        assert!(page.encoded_len() <= MESSAGE_BYTES_MAX && !page.sessions.is_empty());
        first_page.get_or_insert(page.sessions.len());
        found.extend(page.sessions.into_iter().map(|session| session.session_id));
        page_token = page.next_page_token;
    }
    assert_eq!(found.len(), SESSIONS);
    // REST has no paging here: the response has the first page.
    let target = format!("/ImageStore/{}/$/GetUploadSession?api-version=6.0", long(1));
    let sessions = server.http().get(&target).await.json();
    let sessions = sessions["UploadSessions"].as_array().expect("sessions");
    assert_eq!(Some(sessions.len()), first_page);
    assert!(sessions.len() < SESSIONS, "one page is enough");
}

#[tokio::test]
async fn the_health_of_the_service_is_told() {
    let server = Server::start().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.grpc_address));
    let channel = channel.expect("a URI").connect().await.expect("connected");
    let mut client = HealthClient::new(channel);
    for service in ["", SERVICE] {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request.clone()).await.expect("a status");
        // On a busy machine the database may not answer for a while.
        let mut watch = client.watch(request).await.expect("watched").into_inner();
        let serves = tonic_health::ServingStatus::Serving as i32;
        while watch.message().await.expect("a status").expect("no end").status != serves {}
    }
    let other = HealthCheckRequest { service: "no".to_owned() };
    assert_eq!(client.check(other).await.expect_err("unknown").code(), tonic::Code::NotFound);
}

/// The files that a version of reflection returns for a symbol.
macro_rules! files {
    ($version:ident, $server:expr, $symbol:expr) => {{
        use $version::{
            server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let channel =
            tonic::transport::Channel::from_shared(format!("http://{}", $server.grpc_address));
        let channel = channel.expect("a URI").connect().await.expect("connected");
        let mut client = ServerReflectionClient::new(channel);
        let ask = MessageRequest::FileContainingSymbol($symbol.to_owned());
        let ask =
            $version::ServerReflectionRequest { message_request: Some(ask), host: String::new() };
        let answers = client.server_reflection_info(stream::iter([ask])).await.expect("answers");
        let answer = answers.into_inner().message().await.expect("an answer").expect("one");
        match answer.message_response.expect("a response") {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
            other => panic!("files were asked for: {other:?}"),
        }
    }};
}

#[tokio::test]
async fn reflection_describes_the_service_in_both_versions() {
    let server = Server::start().await;
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTOR).expect("the descriptor");
    for symbol in
        [SERVICE, "imagestore.v1.CopyRequest", "google.rpc.Status", "grpc.health.v1.Health"]
    {
        for files in [files!(v1, server, symbol), files!(v1alpha, server, symbol)] {
            let [file] = files.as_slice() else { panic!("one file has {symbol}") };
            let file = prost_types::FileDescriptorProto::decode(file.as_slice()).expect("a file");
            let ours = set.file.iter().find(|known| known.name == file.name);
            assert!(ours.is_none_or(|ours| *ours == file), "{symbol}");
            assert_eq!(ours.is_some(), !symbol.starts_with("grpc."), "{symbol}");
        }
    }
}
