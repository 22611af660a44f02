//! The shares of clients: what one client may take, and what it cannot take from others.

use futures::future::select_all;
use tokio::{net::TcpSocket, sync::Semaphore};

use super::{
    overload::{answer, endless},
    *,
};

/// A request with an incomplete body.
const HALF: &str = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc";
/// A request that cancels an operation.
const CANCEL: &str = "POST /ImageStore/$/Operations/1/$/Cancel HTTP/1.1\r\nHost: h\r\n\r\n";

/// A router that reads bodies to their end, and responds with the error of a body that breaks off.
pub(super) fn reads() -> Router {
    Router::new().fallback(async |request: Request| {
        match axum::body::to_bytes(request.into_body(), usize::MAX).await {
            Ok(_) => Ok("whole"),
            Err(error) => {
                let message = tonic::Status::from_error(error.into()).message().to_owned();
                Err((StatusCode::SERVICE_UNAVAILABLE, message))
            }
        }
    })
}

/// Connects from the loopback address 127.0.0.`host`.
pub(super) async fn connect_from(fixture: &Fixture, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address");
    socket.connect(fixture.address).await.expect("connected")
}

/// Sends requests from an address, each on a separate connection.
pub(super) async fn crowd(
    fixture: &Fixture,
    host: u8,
    count: usize,
    request: &str,
) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = connect_from(fixture, host).await;
        send(&mut stream, request).await;
        crowd.push(stream);
    }
    crowd
}

/// Sends requests from an address until a response begins with the expected text, which it does soon.
pub(super) async fn until(fixture: &Fixture, host: u8, request: &str, expected: &str) {
    let ask = async {
        loop {
            let mut stream = connect_from(fixture, host).await;
            send(&mut stream, request).await;
            if answer(&mut stream).await.0.starts_with(expected) {
                return;
            }
        }
    };
    timeout(SOON, ask).await.expect("an answer soon");
}

pub(super) const BUSY: &str = "http/1.1 503";
pub(super) const SERVED: &str = "http/1.1 200";

#[tokio::test]
async fn calls_that_stand_still_give_way_to_others() {
    let bounds = Bounds { calls: 8, ..Bounds::default() };
    let fixture = Fixture::new(reads(), bounds).await;
    // One address holds all calls except the reserve.
    let mut greedy = crowd(&fixture, 1, 7, HALF).await;
    until(&fixture, 1, GET, BUSY).await;
    // Another address gets a call at once, and keeps it.
    let mut second = crowd(&fixture, 2, 1, HALF).await;
    until(&fixture, 3, GET, SERVED).await;
    let (told, ..) = select_all(greedy.iter_mut().map(|stream| Box::pin(answer(stream)))).await;
    assert!(told.0.starts_with(BUSY), "{told:?}");
    assert!(told.1.contains("its client had too many calls"), "{told:?}");
    send(&mut second[0], "123456").await;
    assert_eq!(answer(&mut second[0]).await.1, "whole");
    drop((greedy, second));
    fixture.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_takes_give_way_to_others() {
    let dropped = Arc::new(Semaphore::new(0));
    let bounds = Bounds { calls: 8, ..Bounds::default() };
    let fixture = Fixture::new(endless(&dropped).merge(reads()), bounds).await;
    let unread = "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n";
    let greedy = crowd(&fixture, 1, 7, unread).await;
    until(&fixture, 1, GET, BUSY).await;
    let second = crowd(&fixture, 2, 1, HALF).await;
    until(&fixture, 3, GET, SERVED).await;
    timeout(SOON, dropped.acquire()).await.expect("one is cut").expect("a permit").forget();
    drop((greedy, second));
    fixture.stop().await;
}

/// The preface of HTTP/2 and an empty SETTINGS frame.
pub(super) const HTTP2: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";

#[tokio::test]
async fn connections_that_stand_still_give_way_to_others() {
    for still in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n", HTTP2] {
        let bounds = Bounds { connections: 8, ..Bounds::default() };
        let fixture = Fixture::new(reads(), bounds).await;
        let greedy = crowd(&fixture, 1, 7, still).await;
        gives_way(fixture, greedy).await;
    }
}

/// Asserts that one of 7 connections of an address, of 8 in all, is closed when two others come.
async fn gives_way(fixture: Fixture, mut greedy: Vec<TcpStream>) {
    until(&fixture, 1, GET, BUSY).await;
    let second = crowd(&fixture, 2, 1, "").await;
    until(&fixture, 3, GET, SERVED).await;
    drop(second);
    let closed = select_all(greedy.iter_mut().map(|stream| Box::pin(ended(stream))));
    timeout(SOON, closed).await.expect("one is closed");
    fixture.stop().await;
}

/// Waits for the end of a connection, whatever comes before.
async fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    stream.read_to_end(&mut rest).await.ok();
}

#[tokio::test]
async fn connections_that_are_kept_alive_give_way_to_others() {
    let bounds = Bounds { connections: 8, ..Bounds::default() };
    let fixture = Fixture::new(reads(), bounds).await;
    let mut greedy = crowd(&fixture, 1, 7, GET).await;
    for stream in &mut greedy {
        read_until(stream, "whole").await;
    }
    gives_way(fixture, greedy).await;
}

#[tokio::test]
async fn who_cancels_is_let_in_where_others_are_not() {
    let bounds = Bounds { calls: 1, connections: 8, ..Bounds::default() };
    let fixture = Fixture::new(reads(), bounds).await;
    let greedy = crowd(&fixture, 1, 1, HALF).await;
    until(&fixture, 1, GET, BUSY).await;
    until(&fixture, 1, CANCEL, SERVED).await;
    // Also on a connection above the limit of connections.
    let crowd = crowd(&fixture, 1, 7, "").await;
    until(&fixture, 1, GET, BUSY).await;
    until(&fixture, 1, CANCEL, SERVED).await;
    drop((greedy, crowd));
    fixture.stop().await;
}
