//! Clients that ask for more than the server does at once: over both interfaces they get an error at once,
//! with the time after which to retry, while the admitted calls continue.

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use imagestore::{
    error::Kind,
    limits::{
        BODY_POOL_BYTES, BUDGET_RESERVE, DOWNLOADS_MAX, DOWNLOADS_WAITING_MAX, MIB,
        REST_BODY_BYTES_MAX, STREAMS_PER_CONNECTION_MAX, UPLOADS_MAX, UPLOADS_WAITING_MAX,
        WATCHERS_MAX,
    },
    wire::{
        status,
        v1::{
            DownloadRequest, UploadHeader, UploadRequest, WatchOperationRequest,
            WatchOperationsRequest, upload_request::Payload,
        },
    },
};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::harness::{Answer, Client, Connection, Driver, Server, copy};

/// A timeout longer than any call here takes that does not queue, and shorter than the timeout of any queue.
const SOON: Duration = Duration::from_secs(20);
const EVENTS: &str = "/ImageStore/$/Operations";

/// Clients on separate connections: enough for this many calls and one more.
async fn clients(server: &Server, calls: usize) -> Vec<Client> {
    let connections = calls / STREAMS_PER_CONNECTION_MAX as usize + 1;
    join_all((0..connections).map(|_| server.client())).await
}

/// Checks a refusal over gRPC, with the time after which to retry.
#[track_caller]
fn assert_busy(status: &Status, message: &str) {
    assert_eq!((status.code(), status.message()), (Code::Unavailable, message));
    assert_eq!(status::kind(status), Kind::Busy);
    let hint = status.get_details_retry_info().expect("a hint").retry_delay;
    assert_eq!(hint, Some(status::RETRY_AFTER));
}

/// Checks a refusal over REST, with its `Retry-After`.
#[track_caller]
fn assert_busy_rest(answer: &Answer, message: &str) {
    assert_eq!(answer.assert_fault(Kind::Busy), message);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn watchers_beyond_the_bound_are_refused() {
    let message = "the server has too many watchers; try again later";
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    let id = "0b5d1c1e-52a7-4a4c-8d3e-6a1f2f5b7a11";
    server.rest().copy(&copy("a", "b").id(id)).await.expect("copied");
    // All clients are one peer, which gets no part of the reserve beyond its share.
    let most = WATCHERS_MAX - WATCHERS_MAX / BUDGET_RESERVE;
    let clients = clients(&server, most).await;
    let watch = |number: usize| {
        let mut client = clients[number % clients.len()].clone();
        async move { client.watch_operations(WatchOperationsRequest::default()).await }
    };
    let mut watches = join_all((0..most).map(watch)).await;
    assert!(watches.iter().all(Result::is_ok));

    assert_busy(&watch(0).await.expect_err("one too many"), message);
    let one = WatchOperationRequest { id: id.to_owned() };
    let mut client = server.client().await;
    assert_busy(&client.watch_operation(one).await.expect_err("one too many"), message);
    let events = || server.http().request("GET", EVENTS).header("Accept", "text/event-stream");
    assert_busy_rest(&events().send().await, message);
    // Calls that do not watch are served.
    server.rest().copy(&copy("a", "c")).await.expect("copied");

    drop(watches.pop());
    let again = async {
        loop {
            let mut connection: Connection = events().open().await;
            let answer = connection.head().await;
            if answer.status == 200 {
                return;
            }
        }
    };
    timeout(SOON, again).await.expect("the place is free");
}

#[tokio::test]
async fn uploads_beyond_those_that_run_and_wait_are_refused() {
    let message = "the server has too many uploads; try again later";
    let server = Server::start().await;
    let most = UPLOADS_MAX + UPLOADS_WAITING_MAX;
    let clients = clients(&server, most).await;
    let header = |number: usize| {
        let path = format!("f{number}");
        let header = UploadHeader { path, ..UploadHeader::default() };
        UploadRequest { payload: Some(Payload::Header(header)) }
    };
    // Uploads that never send more than their header.
    let mut uploads: FuturesUnordered<_> = (0..=most)
        .map(|number| {
            let mut client = clients[number % clients.len()].clone();
            let body = futures::stream::iter([header(number)]).chain(futures::stream::pending());
            async move { client.upload(body).await }
        })
        .collect();

    let first = timeout(SOON, uploads.next()).await.expect("an answer soon").expect("one");
    assert_busy(&first.expect_err("one too many"), message);
    let put = server.http().request("PUT", "/ImageStore/x?api-version=6.0");
    // The server does not ask for the body.
    let put = put.header("Expect", "100-continue").header("Content-Length", "1");
    let rest = timeout(SOON, put.send()).await;
    assert_busy_rest(&rest.expect("an answer soon"), message);
    // Calls that do not upload are served.
    server.rest().list("").await.expect("listed");

    drop(uploads);
    let again = async { while server.rest().upload("x", b"1").await.is_err() {} };
    timeout(SOON, again).await.expect("the places are free");
}

#[tokio::test]
async fn downloads_beyond_those_that_run_and_wait_are_refused() {
    let message = "the server has too many downloads; try again later";
    let server = Server::start().await;
    // More bytes than the client's flow-control window lets a server send ahead on a call.
    server.rest().upload("a", &vec![7; 3 * MIB]).await.expect("stored");
    let most = DOWNLOADS_MAX + DOWNLOADS_WAITING_MAX;
    let clients = clients(&server, most).await;
    let mut downloads: FuturesUnordered<_> = (0..=most)
        .map(|number| {
            let mut client = clients[number % clients.len()].clone();
            let request = DownloadRequest { path: "a".to_owned(), ..DownloadRequest::default() };
            async move { client.download(request).await }
        })
        .collect();

    let mut running = Vec::new();
    let refused = async {
        loop {
            match downloads.next().await.expect("one is refused") {
                Ok(download) => running.push(download),
                Err(status) => return status,
            }
        }
    };
    assert_busy(&timeout(SOON, refused).await.expect("an answer soon"), message);
    let rest = timeout(SOON, server.http().get("/ImageStore/a/$/Content")).await;
    assert_busy_rest(&rest.expect("an answer soon"), message);
    server.rest().list("").await.expect("listed");

    drop((downloads, running));
    let again = async { while server.rest().download("a").await.is_err() {} };
    timeout(SOON, again).await.expect("the places are free");
}

#[tokio::test]
async fn requests_that_are_kept_whole_have_a_bound_together() {
    let server = Server::start().await;
    let body = vec![b' '; REST_BODY_BYTES_MAX];
    let target = "/ImageStore/$/Copy?api-version=6.0";
    let post = || server.http().request("POST", target);
    let length = body.len().to_string();
    // Each request lacks one byte of its body and waits for it.
    let mut waiting = Vec::new();
    for _ in 0..BODY_POOL_BYTES / REST_BODY_BYTES_MAX - 1 {
        let mut connection = post().header("Content-Length", &length).open().await;
        connection.send(&body[1..]).await;
        waiting.push(connection);
    }

    // Some of the sent bytes may not have arrived, so requests are added until one is refused.
    let refused = async {
        let mut open = Vec::new();
        loop {
            let mut connection = post().header("Content-Length", &length).open().await;
            connection.send(&body[1..]).await;
            if let Ok(answer) = timeout(Duration::from_millis(100), connection.answer()).await {
                return answer;
            }
            open.push(connection);
        }
    };
    let answer = timeout(SOON, refused).await.expect("one is refused");
    assert_busy_rest(&answer, "the server has too many bytes of requests; try again later");
    // A body that is not buffered in memory is served.
    server.rest().upload("a", &body).await.expect("stored");

    drop(waiting);
    let again = async { while server.rest().copy(&copy("a", "b")).await.is_err() {} };
    timeout(SOON, again).await.expect("there is room again");
}
