//! Running copies: what their callers and watchers see.
//!
//! A gate blocks the reads of objects, so that a test decides where a copy with `verify` waits, and no test
//! depends on the speed of a copy.

use std::time::Duration;

use imagestore::{
    error::Kind,
    wire::{
        status::kind,
        v1::{
            CopyRequest, GetOperationRequest, Operation, OperationState, WatchOperationRequest,
            WatchOperationsRequest,
        },
    },
};
use tonic::{Code, Streaming};

use super::harness::{Client, Connection, Driver, Gate, Http, Server, copy, of};

const FILES: usize = 8;
/// More than is kept inline in the database, so that every file has an object.
const FILE_BYTES: usize = 40_000;
const ID: &str = "0b5d1c1e-52a7-4a4c-8d3e-6a1f2f5b7a10";
/// A timeout longer than any call here takes that is not blocked.
const SOON: Duration = Duration::from_secs(20);

/// A server behind a closed gate, with a folder `app` of distinct files and a file to be overwritten.
async fn stage() -> (Gate, Server) {
    let gate = Gate::new();
    gate.close();
    let server = Server::start_behind(&gate).await;
    let grpc = server.grpc().await;
    for number in 0..FILES {
        let content = format!("{number}").repeat(FILE_BYTES);
        grpc.upload(&format!("app/f{number}"), content.as_bytes()).await.expect("stored");
    }
    grpc.upload("new", b"old").await.expect("stored");
    (gate, server)
}

fn request() -> CopyRequest {
    let mut request = CopyRequest::from(&copy("app", "new").verify().id(ID));
    request.skip_files = vec!["F7".to_owned()];
    request
}

async fn begin(client: &Client, request: CopyRequest) -> (Streaming<Operation>, Operation) {
    let mut stream = client.clone().copy(request).await.expect("begun").into_inner();
    let first = stream.message().await.expect("a message").expect("the first");
    (stream, first)
}

/// Reads the states of a stream to its end, and checks the rules for their order.
async fn follow(mut stream: Streaming<Operation>, mut last: Operation) -> Result<Operation, Kind> {
    while let Some(next) = stream.message().await.map_err(|status| kind(&status))? {
        assert_eq!(last.state(), OperationState::Running, "nothing follows the end");
        assert_eq!((&next.id, next.files_total), (&last.id, last.files_total));
        assert!(next.files_done >= last.files_done && next.bytes_done >= last.bytes_done);
        assert!(next.files_done + next.files_skipped <= next.files_total);
        assert!(next.bytes_done + next.bytes_skipped <= next.bytes_total);
        last = next;
    }
    Ok(last)
}

async fn operation(client: &Client) -> Operation {
    let request = GetOperationRequest { id: ID.to_owned() };
    client.clone().get_operation(request).await.expect("an operation").into_inner()
}

/// Waits, by a watch, until the operation has ended.
async fn ended(client: &Client) -> Operation {
    let request = WatchOperationRequest { id: ID.to_owned() };
    let stream = client.clone().watch_operation(request).await.expect("a watch").into_inner();
    let first = operation(client).await;
    let watched = Operation { state: OperationState::Running.into(), ..first };
    let last = tokio::time::timeout(SOON, follow(stream, watched)).await.expect("in time");
    last.expect("the watch of any operation succeeds")
}

/// Checks that nothing has changed, and that no pin or unfinished folder blocks later calls.
async fn assert_untouched(server: &Server) {
    let grpc = server.grpc().await;
    assert_eq!(grpc.download("new").await.expect("the old file"), b"old");
    assert_eq!(grpc.list("app").await.expect("the source").len(), FILES);
}

#[tokio::test]
async fn progress_comes_while_the_copy_runs() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (mut stream, mut last) = begin(&client, request()).await;
    gate.pass(3);
    // The gate blocks all further reads, so only progress messages can report these files.
    while last.files_done < 3 {
        last = stream.message().await.expect("a message").expect("progress");
        assert_eq!(last.state(), OperationState::Running);
    }
    assert_eq!(last.bytes_done, 3 * FILE_BYTES as u64);
    assert!(last.current_path.starts_with("app/f"), "{}", last.current_path);
    gate.open();
    follow(stream, last).await.expect("copied");
}

#[tokio::test]
async fn a_copy_of_rest_is_cancelled_over_rest() {
    let (_gate, server) = stage().await;
    let mut caller = copy_over_rest(&server, "", "").await;
    until_running(&server).await;
    server.rest().cancel(ID).await.expect("cancelled");
    let answer = caller.answer().await;
    assert_eq!((answer.status, answer.fault().kind), (409, Kind::Cancelled));
    assert_eq!(answer.json()["Error"]["Code"], "E_ABORT");
    assert_eq!(of(server.rest().cancel(ID).await), Err(Kind::Finished));
    assert_untouched(&server).await;
}

#[tokio::test]
async fn a_caller_of_rest_who_hangs_up_cancels_his_copy() {
    let (_gate, server) = stage().await;
    let caller = copy_over_rest(&server, "", "").await;
    until_running(&server).await;
    drop(caller);
    assert_eq!(ended(&server.client().await).await.state(), OperationState::Cancelled);
    assert_untouched(&server).await;
}

#[tokio::test]
async fn the_timeout_of_rest_is_504() {
    let (_gate, server) = stage().await;
    let mut caller = copy_over_rest(&server, "&timeout=4", "").await;
    let answer = caller.answer().await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["Error"]["Code"], "FABRIC_E_TIMEOUT");
    assert_eq!(ended(&server.client().await).await.state(), OperationState::Cancelled);
    assert_untouched(&server).await;
}

#[tokio::test]
async fn the_same_id_follows_the_first_and_other_arguments_conflict() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;
    let (second, at) = begin(&client, request()).await;
    assert_eq!(first.id, at.id);
    let other = CopyRequest { destination: "elsewhere".to_owned(), ..request() };
    let refused = client.clone().copy(other).await.expect_err("a conflict");
    assert_eq!((kind(&refused), refused.code()), (Kind::WriteConflict, Code::AlreadyExists));
    // A caller that joins a running copy does not own it, so it can leave.
    let (third, _) = begin(&client, request()).await;
    drop(third);
    gate.open();
    let last = follow(stream, first).await.expect("copied");
    assert_eq!(follow(second, at).await.as_ref(), Ok(&last));
    // After the end, a repeated call returns the result.
    let (_, again) = begin(&client, request()).await;
    assert_eq!(again, last);
}

#[tokio::test]
async fn a_slow_watcher_gets_the_latest_state() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (slow, at) = begin(&client, request()).await;
    let watch = WatchOperationRequest { id: ID.to_owned() };
    let quick = client.clone().watch_operation(watch).await.expect("a watch").into_inner();
    gate.open();
    // The slow watcher has read no message when the copy ends.
    follow(quick, at.clone()).await.expect("copied");
    let last = follow(slow, at).await.expect("copied");
    assert_eq!(last.state(), OperationState::Succeeded);
}

/// Sends the copy of these tests over REST, without reading the response.
async fn copy_over_rest(server: &Server, query: &str, headers: &str) -> Connection {
    let body = format!(
        r#"{{"RemoteSource":"app","RemoteDestination":"new","Verify":true,"OperationId":"{ID}"}}"#
    );
    let http: Http = server.http();
    let mut connection = http.connect().await;
    let head = format!(
        "POST /ImageStore/$/Copy?api-version=6.0{query} HTTP/1.1\r\nHost: {}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    connection.send(head.as_bytes()).await;
    connection
}

/// Waits, by the watch of all operations, until the copy runs.
async fn until_running(server: &Server) {
    let mut client = server.client().await;
    let all = client.watch_operations(WatchOperationsRequest::default()).await.expect("a watch");
    let first = all.into_inner().message().await.expect("a message").expect("an operation");
    assert_eq!((first.id.as_str(), first.state()), (ID, OperationState::Running));
}
