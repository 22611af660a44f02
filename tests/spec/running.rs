//! Running operations: watched, cancelled, ended by a deadline, or without a caller. A gate blocks the reads
//! of objects, so that a test decides how long a copy with `verify` takes.

use imagestore::{
    error::Kind,
    wire::v1::{
        CopyRequest, ListOperationsRequest, Operation, OperationState, WatchOperationRequest,
        WatchOperationsRequest,
    },
};
use tonic::Request;

use crate::harness::{Client, Copy, Driver, Fault, Gate, Server, copy, line, of, tree};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
const COPY: &str = "/ImageStore/$/Copy?api-version=6.0";
const BODY: &str = r#"{"RemoteSource":"a","RemoteDestination":"b","Verify":true,"OperationId":"0190a9f0-1234-7abc-8def-0123456789ab"}"#;

/// A server with one file that is too large to be inline, and its closed gate.
async fn behind() -> (Gate, Server) {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a/f", &large()).await.expect("stored");
    server.rest().upload("a/g", b"small").await.expect("stored");
    server.rest().upload("b", b"old").await.expect("stored");
    gate.close();
    (gate, server)
}

fn large() -> Vec<u8> {
    b"0123456789".repeat(5_000)
}

fn ask() -> Copy {
    copy("a", "b").verify().id(ID)
}

/// Checks that the copy was cancelled and has changed nothing; opens the gate.
async fn assert_cancelled(gate: &Gate, server: &Server) {
    let last = watch(&mut server.client().await).await.pop().expect("a state");
    assert_eq!(last.state(), OperationState::Cancelled);
    assert!(last.error.is_some() && last.finished_at.is_some());
    gate.open();
    let store = server.rest();
    assert_eq!(store.download("b").await.expect("the old file"), b"old");
    assert_eq!(of(store.list("b/f").await), Err(Kind::PathNotFound));
}

/// All messages of a watch of the operation.
async fn watch(client: &mut Client) -> Vec<Operation> {
    let request = WatchOperationRequest { id: ID.to_owned() };
    let mut stream = client.watch_operation(request).await.expect("a watch").into_inner();
    let mut all = Vec::new();
    while let Some(operation) = stream.message().await.expect("a state") {
        all.push(operation);
    }
    all
}

#[tokio::test]
async fn the_first_message_comes_at_once_and_the_last_has_succeeded() {
    let (gate, server) = behind().await;
    let mut client = server.client().await;
    let mut stream = client.copy(CopyRequest::from(&ask())).await.expect("begun").into_inner();
    let first = stream.message().await.expect("a message").expect("one");
    assert_eq!(first.id, ID);
    assert_eq!(line(&first), "Copy Running 0+0/2 0+0/50005");
    assert_eq!((first.source.as_str(), first.destination.as_str()), ("a", "b"));
    assert!(first.started_at.is_some() && first.updated_at.is_some());
    assert!(first.finished_at.is_none() && first.error.is_none());
    assert_eq!(server.rest().download("b").await.expect("the old file"), b"old");

    gate.open();
    let mut last = first;
    while let Some(operation) = stream.message().await.expect("a message") {
        assert_eq!(last.state(), OperationState::Running, "nothing follows the end");
        assert_eq!((operation.files_total, operation.bytes_total), (2, 50_005));
        assert!(operation.files_done >= last.files_done && operation.files_done <= 2);
        assert!(operation.bytes_done >= last.bytes_done && operation.bytes_done <= 50_005);
        last = operation;
    }
    assert_eq!(line(&last), "Copy Succeeded 2+0/2 50005+0/50005");
    assert!(last.finished_at.is_some() && last.error.is_none());
    assert_eq!(server.rest().download("b/f").await.expect("the copy"), large());
}

#[tokio::test]
async fn a_copy_of_one_transaction_has_one_message() {
    let server = Server::start().await;
    server.rest().upload("a/f", b"1").await.expect("stored");
    let mut client = server.client().await;
    for (ask, progress) in [
        (copy("a", "b"), "1+0/1 1+0/1"),
        (copy("a", "a"), "1+0/1 1+0/1"),
        (copy("a", "b").keep(), "0+1/1 0+1/1"),
        (copy("a/f", "c"), "1+0/1 1+0/1"),
    ] {
        let mut stream = client.copy(CopyRequest::from(&ask)).await.expect("begun").into_inner();
        let only = stream.message().await.expect("a message").expect("one");
        assert_eq!(line(&only), format!("Copy Succeeded {progress}"), "{ask:?}");
        assert_eq!(uuid::Uuid::parse_str(&only.id).expect("a UUID").to_string(), only.id);
        assert!(stream.message().await.expect("the end").is_none());
    }
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_the_copy() {
    let (gate, server) = behind().await;
    let mut client = server.client().await;
    let mut stream = client.copy(CopyRequest::from(&ask())).await.expect("begun").into_inner();
    stream.message().await.expect("a message").expect("one");
    drop(stream);
    assert_cancelled(&gate, &server).await;

    let (gate, server) = behind().await;
    let mut begun = begin_watch(&server).await;
    let connection = server.http().request("POST", COPY).body(BODY.as_bytes()).open().await;
    begun.message().await.expect("a change").expect("it begins");
    drop(connection);
    assert_cancelled(&gate, &server).await;

    let (gate, server) = behind().await;
    let request = server.http().request("POST", COPY).header("Accept", "text/event-stream");
    let mut connection = request.body(BODY.as_bytes()).open().await;
    assert_eq!(connection.head().await.status, 200);
    drop(connection);
    assert_cancelled(&gate, &server).await;
}

/// Watches all operations; the first message is about an operation that begins later.
async fn begin_watch(server: &Server) -> tonic::Streaming<Operation> {
    let mut client = server.client().await;
    client.watch_operations(WatchOperationsRequest::default()).await.expect("a watch").into_inner()
}

#[tokio::test]
async fn a_detached_copy_goes_on_without_its_caller() {
    let (gate, server) = behind().await;
    let mut client = server.client().await;
    let request = CopyRequest { detached: true, ..CopyRequest::from(&ask()) };
    let mut stream = client.copy(request).await.expect("begun").into_inner();
    stream.message().await.expect("a message").expect("one");
    drop(stream);
    gate.open();
    let last = watch(&mut client).await.pop().expect("a state");
    assert_eq!(line(&last), "Copy Succeeded 2+0/2 50005+0/50005");
    assert_eq!(server.rest().download("b/f").await.expect("the copy"), large());
}

#[tokio::test]
async fn another_client_cancels_a_copy_and_its_caller_is_told() {
    for by_rest in [true, false] {
        let (gate, server) = behind().await;
        let (rest, grpc) = (server.rest(), server.grpc().await);
        let mut begun = begin_watch(&server).await;
        let ask = ask();
        let cancel = async {
            begun.message().await.expect("a change").expect("it begins");
            // The cancel uses the other interface than the copy.
            if by_rest { grpc.cancel(ID).await } else { rest.cancel(ID).await }
        };
        let copying = async { if by_rest { rest.copy(&ask).await } else { grpc.copy(&ask).await } };
        let (copied, cancelled) = tokio::join!(copying, cancel);
        cancelled.expect("cancelled");
        assert_eq!(copied.expect_err("cancelled").kind, Kind::Cancelled);
        assert_eq!(of(rest.cancel(ID).await), Err(Kind::Finished));
        assert_cancelled(&gate, &server).await;
    }
}

/// Whether the operation has begun.
async fn is_begun(server: &Server) -> bool {
    match server.rest().operation(ID).await {
        Ok(_) => true,
        Err(fault) => {
            assert_eq!(fault.kind, Kind::OperationNotFound);
            false
        }
    }
}

/// A deadline before the copy begins leaves no operation, so each try has a longer deadline until the copy
/// begins.
#[tokio::test]
async fn a_deadline_cancels_the_copy() {
    let (gate, server) = behind().await;
    let mut time = std::time::Duration::from_millis(100);
    while !is_begun(&server).await {
        let mut request = Request::new(CopyRequest::from(&ask()));
        request.set_timeout(time);
        let mut client = server.client().await;
        let told = async {
            let mut stream = client.copy(request).await?.into_inner();
            while stream.message().await?.is_some() {}
            Ok::<_, tonic::Status>(())
        };
        let code = told.await.expect_err("too late").code();
        // The client enforces the deadline, too, and either may be first.
        assert!(matches!(code, tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{code}");
        time *= 2;
    }
    assert_cancelled(&gate, &server).await;

    let (gate, server) = behind().await;
    let mut seconds = 1;
    while !is_begun(&server).await {
        let target = format!("{COPY}&timeout={seconds}");
        server.http().post(&target, BODY.as_bytes()).await.assert_fault(Kind::Timeout);
        seconds *= 2;
    }
    assert_cancelled(&gate, &server).await;
}

#[tokio::test]
async fn a_copy_that_failed_or_was_cancelled_runs_again_under_its_id() {
    let (gate, server) = behind().await;
    let store = server.grpc().await;
    let mut client = server.client().await;
    let mut stream = client.copy(CopyRequest::from(&ask())).await.expect("begun").into_inner();
    stream.message().await.expect("a message").expect("one");
    store.cancel(ID).await.expect("cancelled");
    assert_cancelled(&gate, &server).await;
    store.copy(&ask()).await.expect("copied");
    let done = "Copy Succeeded 2+0/2 50005+0/50005";
    assert_eq!(store.operation(ID).await.expect("an operation"), done);
    assert_eq!(store.download("b/f").await.expect("the copy"), large());
}

#[tokio::test]
async fn a_repeated_copy_follows_the_first() {
    let (gate, server) = behind().await;
    let mut client = server.client().await;
    let request = CopyRequest { detached: true, ..CopyRequest::from(&ask()) };
    let mut first = client.copy(request).await.expect("begun").into_inner();
    assert_eq!(first.message().await.expect("a message").expect("one").id, ID);
    let mut second = client.copy(CopyRequest::from(&ask())).await.expect("begun").into_inner();
    assert_eq!(second.message().await.expect("a message").expect("one").id, ID);
    // A caller that joins the running copy and leaves cancels nothing.
    drop(client.copy(CopyRequest::from(&ask())).await.expect("begun"));
    // Other arguments with the same id are a conflict, also while the copy runs.
    let conflict = server.rest().copy(&copy("a", "c").id(ID)).await;
    assert_eq!(of(conflict), Err(Kind::WriteConflict));
    gate.open();
    for stream in [&mut first, &mut second] {
        let mut last = Operation::default();
        while let Some(operation) = stream.message().await.expect("a message") {
            last = operation;
        }
        assert_eq!(last.state(), OperationState::Succeeded);
    }
    // The copy has run once: a repeated call reports it.
    server.rest().copy(&ask()).await.expect("it reports the first");
    let list = ListOperationsRequest::default();
    let all = client.list_operations(list).await.expect("a page").into_inner().operations;
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn a_corrupt_part_fails_the_copy_and_names_its_file() {
    let gate = Gate::new();
    for by_rest in [true, false] {
        let server = Server::start_behind(&gate).await;
        let store = server.rest();
        store.upload("a/sub/f", &large()).await.expect("stored");
        store.upload("b", b"old").await.expect("stored");
        server.expect("is corrupt");
        gate.flip();
        let copied =
            if by_rest { store.copy(&ask()).await } else { server.grpc().await.copy(&ask()).await };
        let fault = copied.expect_err("corrupt");
        assert_eq!(fault.kind, Kind::Corrupt);
        assert!(fault.message.contains("\"a/sub/f\""), "{fault:?}");
        assert_eq!(store.download("b").await.expect("the old file"), b"old");
        let state = store.operation(ID).await.expect("an operation");
        assert!(state.starts_with("Copy Failed 0+0/1 "), "{state}");
        // A watch of the failed operation succeeds and reports the error.
        let states = watch(&mut server.client().await).await;
        let [last] = states.as_slice() else { panic!("one state: {states:?}") };
        assert_eq!(last.state(), OperationState::Failed);
        assert!(last.error.as_ref().expect("why").message.contains("\"a/sub/f\""));
        let body = server.http().get(&format!("/ImageStore/$/Operations/{ID}")).await.json();
        assert_eq!(body["Error"]["Code"], "FABRIC_E_CORRUPTED_IMAGE_STORE_OBJECT_FOUND");
        // A download never sends corrupt bytes.
        let mut client = server.client().await;
        let request = imagestore::wire::v1::DownloadRequest {
            path: "a/sub/f".to_owned(),
            ..Default::default()
        };
        let mut stream = client.download(request).await.expect("begun").into_inner();
        let fault = Fault::from(stream.message().await.expect_err("corrupt"));
        assert_eq!(fault.kind, Kind::Corrupt);
        assert!(!fault.message.contains("blobs"), "{fault:?}");
        server.http().get("/ImageStore/a/sub/f/$/Content").await.assert_fault(Kind::Corrupt);
    }
}

#[tokio::test]
async fn a_stop_cancels_what_runs_and_says_so_later() {
    let (_gate, server) = behind().await;
    let mut client = server.client().await;
    let request = CopyRequest { detached: true, ..CopyRequest::from(&ask()) };
    drop(client.copy(request).await.expect("begun"));
    let server = server.restart().await;
    let states = watch(&mut server.client().await).await;
    let [last] = states.as_slice() else { panic!("one state: {states:?}") };
    assert_eq!(last.state(), OperationState::Cancelled);
    assert!(last.error.as_ref().expect("why").message.contains("stopped"));
    assert_eq!(of(server.rest().list("b/f").await), Err(Kind::PathNotFound));
}

#[tokio::test]
async fn a_watcher_of_all_sees_what_runs_and_every_change() {
    let (gate, server) = behind().await;
    let mut early = begin_watch(&server).await;
    let mut client = server.client().await;
    let request = CopyRequest { detached: true, ..CopyRequest::from(&ask()) };
    drop(client.copy(request).await.expect("begun"));
    let first = early.message().await.expect("a change").expect("it begins");
    assert_eq!(line(&first), "Copy Running 0+0/2 0+0/50005");
    let mut late = begin_watch(&server).await;
    let first = late.message().await.expect("a change").expect("it runs");
    assert_eq!((first.id.as_str(), first.state()), (ID, OperationState::Running));
    gate.open();
    for stream in [&mut early, &mut late] {
        let mut last = OperationState::Running;
        while last == OperationState::Running {
            last = stream.message().await.expect("a change").expect("one").state();
        }
        assert_eq!(last, OperationState::Succeeded);
    }
    // A folder's delete is an operation, too.
    server.rest().delete("b").await.expect("deleted");
    let deleted = early.message().await.expect("a change").expect("one");
    assert_eq!(line(&deleted), "Delete Succeeded 2+0/2 50005+0/50005");
    assert_eq!((deleted.source.as_str(), deleted.destination.as_str()), ("b", ""));
    assert_eq!(tree(&server.rest()).await.len(), large().len() + "a/f= a/g=small".len());
}
