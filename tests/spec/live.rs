//! Copies that take their time: they are found, followed, cancelled and timed out from anywhere.
//!
//! The objects are behind a gate, so a copy with `verify` stands where the test wants it to, and no
//! test waits for a clock that it does not name.

use std::time::Duration;

use imagestore::{
    error::Kind,
    wire::{
        status::kind,
        v1::{
            CancelOperationRequest, CopyRequest, GetOperationRequest, ListOperationsRequest,
            Operation, OperationState, WatchOperationRequest, WatchOperationsRequest,
        },
    },
};
use serde_json::Value;
use tonic::{Code, Request, Streaming};

use super::harness::{Client, Connection, Driver, Gate, Http, Server, copy, of};

const FILES: usize = 8;
/// Above what is kept in the database, so that every file is an object.
const FILE_BYTES: usize = 40_000;
const ID: &str = "0b5d1c1e-52a7-4a4c-8d3e-6a1f2f5b7a10";
/// Longer than anything here takes that waits for nothing.
const SOON: Duration = Duration::from_secs(20);

/// A store with a folder `app` of distinct files, and a file that is to be overwritten.
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

/// Follows a stream to its end, and looks at every rule that its messages have to keep.
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

/// Nothing has changed, and no pin or half-built folder is in the way of anything.
async fn assert_untouched(server: &Server) {
    let grpc = server.grpc().await;
    assert_eq!(grpc.download("new").await.expect("the old file"), b"old");
    assert_eq!(grpc.list("app").await.expect("the source").len(), FILES);
}

#[tokio::test]
async fn a_copy_tells_its_totals_at_once_and_its_end_last() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;
    assert_eq!(first.state(), OperationState::Running);
    assert_eq!((first.files_total, first.bytes_total), (8, 8 * FILE_BYTES as u64));
    gate.open();
    let last = follow(stream, first).await.expect("copied");
    assert_eq!(last.state(), OperationState::Succeeded);
    assert_eq!((last.files_done, last.files_skipped), (7, 1));
    assert_eq!(last.bytes_done + last.bytes_skipped, last.bytes_total);
    assert_eq!(last.current_path, "");
    assert_eq!(last, operation(&client).await);
    assert_eq!(server.grpc().await.list("new").await.expect("a folder").len(), 7);
}

#[tokio::test]
async fn progress_comes_while_the_copy_runs() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (mut stream, mut last) = begin(&client, request()).await;
    gate.pass(3);
    // The gate is shut again, so these can only be told by messages on the way.
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
async fn anybody_finds_and_follows_a_running_copy() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;

    let mut other = server.client().await;
    let running = ListOperationsRequest {
        state: OperationState::Running.into(),
        ..ListOperationsRequest::default()
    };
    let found = other.list_operations(running.clone()).await.expect("a list").into_inner();
    assert_eq!(found.operations.iter().map(|o| o.id.as_str()).collect::<Vec<_>>(), [ID]);
    let all = other.watch_operations(WatchOperationsRequest {}).await.expect("a watch");
    let mut all = all.into_inner();
    assert_eq!(all.message().await.expect("a message").expect("the running one").id, ID);

    let mut events = events(&server, &format!("/ImageStore/$/Operations/{ID}")).await;
    let (name, event) = next_event(&mut events).await.expect("an event");
    assert_eq!((name.as_str(), event["State"].as_str()), ("progress", Some("Running")));
    assert_eq!(event["FilesTotal"], "8");

    gate.open();
    let last = follow(stream, first).await.expect("copied");
    loop {
        let (name, event) = next_event(&mut events).await.expect("the end comes");
        if name == "done" {
            assert_eq!(event["State"], "Succeeded");
            assert_eq!(event["FilesDone"], last.files_done.to_string());
            break;
        }
    }
    assert_eq!(next_event(&mut events).await, None, "done comes once, at the end");
    while all.message().await.expect("a message").expect("a change").state()
        != OperationState::Succeeded
    {}
    let found = other.list_operations(running).await.expect("a list").into_inner();
    assert_eq!(found.operations, []);
}

#[tokio::test]
async fn whoever_cancels_the_caller_is_told() {
    let (_gate, server) = stage().await;
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;
    let cancel = CancelOperationRequest { id: ID.to_owned() };
    let answer = client.clone().cancel_operation(cancel.clone()).await.expect("cancelled");
    assert_eq!(answer.into_inner().state(), OperationState::Cancelled);
    assert_eq!(follow(stream, first).await, Err(Kind::Cancelled));
    let last = operation(&client).await;
    assert_eq!(last.error.as_ref().map(|error| error.code), Some(Code::Cancelled as i32));
    assert_eq!(last, ended(&client).await);
    assert_untouched(&server).await;

    let again = client.clone().cancel_operation(cancel).await.expect_err("it has ended");
    assert_eq!((kind(&again), again.code()), (Kind::Finished, Code::FailedPrecondition));
    assert_eq!(operation(&client).await, last, "and nothing has changed");
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
async fn a_copy_belongs_to_its_caller() {
    let (_gate, server) = stage().await;
    let client = server.client().await;
    let (stream, _) = begin(&client, request()).await;
    drop(stream);
    assert_eq!(ended(&client).await.state(), OperationState::Cancelled);
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
async fn a_detached_copy_goes_on_without_its_caller() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (stream, _) = begin(&client, CopyRequest { detached: true, ..request() }).await;
    drop(stream);
    gate.open();
    assert_eq!(ended(&client).await.state(), OperationState::Succeeded);
    assert_eq!(server.grpc().await.list("new").await.expect("a folder").len(), 7);
}

#[tokio::test]
async fn a_deadline_cancels_and_nothing_has_changed() {
    let (_gate, server) = stage().await;
    let client = server.client().await;
    let mut late = Request::new(request());
    late.metadata_mut().insert("grpc-timeout", "300m".parse().expect("a value"));
    let mut stream = client.clone().copy(late).await.expect("begun").into_inner();
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "it ends by an error"),
            Err(status) => break status,
        }
    };
    assert_eq!((kind(&status), status.code()), (Kind::Timeout, Code::DeadlineExceeded));
    assert_eq!(operation(&client).await.state(), OperationState::Cancelled);
    assert_untouched(&server).await;
}

#[tokio::test]
async fn the_timeout_of_rest_is_504() {
    let (_gate, server) = stage().await;
    let mut caller = copy_over_rest(&server, "&timeout=1", "").await;
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
    // The second does not own the copy: it can leave.
    let (third, _) = begin(&client, request()).await;
    drop(third);
    gate.open();
    let last = follow(stream, first).await.expect("copied");
    assert_eq!(follow(second, at).await.as_ref(), Ok(&last));
    // And after the end it reports it.
    let (_, again) = begin(&client, request()).await;
    assert_eq!(again, last);
}

#[tokio::test]
async fn a_cancelled_copy_runs_again_under_its_id() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (stream, _) = begin(&client, request()).await;
    drop(stream);
    assert_eq!(ended(&client).await.state(), OperationState::Cancelled);
    gate.open();
    let (stream, first) = begin(&client, request()).await;
    let last = follow(stream, first).await.expect("copied");
    assert_eq!(last.state(), OperationState::Succeeded);
}

#[tokio::test]
async fn a_slow_watcher_gets_the_latest_state() {
    let (gate, server) = stage().await;
    let client = server.client().await;
    let (slow, at) = begin(&client, request()).await;
    let watch = WatchOperationRequest { id: ID.to_owned() };
    let quick = client.clone().watch_operation(watch).await.expect("a watch").into_inner();
    gate.open();
    // The slow one has not read a word when the copy is over.
    follow(quick, at.clone()).await.expect("copied");
    let last = follow(slow, at).await.expect("copied");
    assert_eq!(last.state(), OperationState::Succeeded);
}

#[tokio::test]
async fn an_async_copy_answers_with_the_place_of_its_operation() {
    let (gate, server) = stage().await;
    let mut caller = copy_over_rest(&server, "", "Prefer: respond-async\r\n").await;
    let answer = caller.answer().await;
    assert_eq!(answer.status, 202);
    let location = answer.header("location").expect("a location").to_owned();
    let path = location.split_once("/ImageStore").expect("a place below the prefix").1;
    assert_eq!(path.split('?').next(), Some(format!("/$/Operations/{ID}").as_str()));
    assert_eq!(answer.json()["State"], "Running");
    drop(caller);
    gate.open();
    assert_eq!(ended(&server.client().await).await.state(), OperationState::Succeeded);
    let found = server.http().get(&format!("/ImageStore{path}")).await;
    assert_eq!((found.status, found.json()["State"].as_str()), (200, Some("Succeeded")));
}

#[tokio::test]
async fn a_copy_can_be_watched_as_events_by_its_caller() {
    let (gate, server) = stage().await;
    let mut caller = copy_over_rest(&server, "", "Accept: text/event-stream\r\n").await;
    let head = caller.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let (name, event) = next_event(&mut caller).await.expect("an event");
    assert_eq!((name.as_str(), event["Id"].as_str()), ("progress", Some(ID)));
    gate.open();
    let (name, event) = loop {
        let (name, event) = next_event(&mut caller).await.expect("the end comes");
        if name == "done" {
            break (name, event);
        }
    };
    assert_eq!((name.as_str(), event["State"].as_str()), ("done", Some("Succeeded")));
    assert_eq!(event["Error"], Value::Null);
}

#[tokio::test]
async fn a_corrupt_part_fails_the_copy_and_names_the_file() {
    let (gate, server) = stage().await;
    gate.spoil();
    gate.open();
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;
    assert_eq!(follow(stream, first).await, Err(Kind::Corrupt));
    let failed = ended(&client).await;
    assert_eq!(failed.state(), OperationState::Failed);
    let error = failed.error.expect("a reason");
    assert_eq!(error.code, Code::DataLoss as i32);
    assert!(error.message.contains("\"app/f"), "{}", error.message);
    assert_untouched_but_corrupt(&server).await;
}

async fn assert_untouched_but_corrupt(server: &Server) {
    let grpc = server.grpc().await;
    assert_eq!(grpc.download("new").await.expect("the old file"), b"old");
    assert_eq!(of(grpc.download("app/f0").await), Err(Kind::Corrupt));
    let answer = server.http().get("/ImageStore/app/f0/$/Content").await;
    let code = "FABRIC_E_CORRUPTED_IMAGE_STORE_OBJECT_FOUND";
    assert_eq!((answer.status, answer.json()["Error"]["Code"].as_str()), (500, Some(code)));
}

#[tokio::test]
async fn an_unknown_and_a_malformed_id_are_told_apart_everywhere() {
    let server = Server::start().await;
    let client = server.client().await;
    for (id, expected) in [(ID, Kind::OperationNotFound), ("nonsense", Kind::InvalidArgument)] {
        let watch = WatchOperationRequest { id: id.to_owned() };
        let status = client.clone().watch_operation(watch).await.expect_err("no operation");
        assert_eq!(kind(&status), expected);
        for driver in [&server.rest() as &dyn Driver, &server.grpc().await] {
            assert_eq!(of(driver.operation(id).await), Err(expected));
            assert_eq!(of(driver.cancel(id).await), Err(expected));
        }
    }
}

#[tokio::test]
async fn a_stop_cancels_what_runs_and_says_so_after_the_start() {
    let (_gate, server) = stage().await;
    let client = server.client().await;
    let (stream, first) = begin(&client, request()).await;
    let server = server.restart().await;
    assert_eq!(follow(stream, first).await, Err(Kind::Cancelled));
    let left = operation(&server.client().await).await;
    assert_eq!(left.state(), OperationState::Cancelled);
    assert!(left.error.expect("a reason").message.contains("stopped"));
}

/// Sends the copy of these tests over REST and leaves the answer to be read.
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
    let all = client.watch_operations(WatchOperationsRequest {}).await.expect("a watch");
    let first = all.into_inner().message().await.expect("a message").expect("an operation");
    assert_eq!((first.id.as_str(), first.state()), (ID, OperationState::Running));
}

/// Opens a stream of events.
async fn events(server: &Server, target: &str) -> Connection {
    let mut connection =
        server.http().request("GET", target).header("Accept", "text/event-stream").open().await;
    let head = connection.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    connection
}

/// The next event's name and data; comments are passed over.
async fn next_event(connection: &mut Connection) -> Option<(String, Value)> {
    loop {
        let piece = String::from_utf8(connection.piece().await?).expect("text");
        let field = |name: &str| {
            piece
                .lines()
                .find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
        };
        if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
            assert!(field("id:").is_some_and(|id| id.starts_with(ID)), "{piece}");
            return Some((name, serde_json::from_str(&data).expect("JSON")));
        }
    }
}
