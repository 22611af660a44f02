//! The server with too many clients, and with clients that stall.

use futures::stream;
use tokio::sync::Semaphore;
use tonic_types::StatusExt;

use super::*;
use crate::limits::{FRAME_OVERHEAD_BYTES, UNREAD_FREE_BYTES};

/// More unread frames than a connection may have, if there were no pool.
const MANY_FRAMES: usize = UNREAD_FREE_BYTES / FRAME_OVERHEAD_BYTES;

/// Long enough for running work to progress, short enough to wait for.
const STALL: Duration = Duration::from_millis(100);

/// Reads a whole response that has a `Content-Length`. Returns its head, in lower case, and its body.
pub(super) async fn answer(stream: &mut TcpStream) -> (String, String) {
    let head = read_until(stream, "\r\n\r\n").await.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).await.expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

/// Asserts that the response is a refusal with `Retry-After`.
async fn refused(stream: &mut TcpStream, why: &str) {
    let (head, body) = answer(stream).await;
    assert!(head.starts_with("http/1.1 503 fabric_e_service_too_busy\r\n"), "{head}");
    assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
    let message = format!("the server has too many {why}; try again later");
    let code = "FABRIC_E_SERVICE_TOO_BUSY";
    let id = head.split("x-request-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let id = id.expect("an id");
    let text =
        format!(r#"{{"Error":{{"Code":"{code}","Message":"{message}","RequestId":"{id}"}}}}"#);
    assert_eq!(body, text);
}

async fn assert_busy_grpc(channel: &Channel, why: &str) {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("ready");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/imagestore.v1.ImageStore/Stat");
    let request = tonic::Request::new(HealthCheckRequest::default());
    let status = grpc.unary(request, path, codec).await.expect_err("no room");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), format!("the server has too many {why}; try again later"));
    assert_eq!(status.get_details_error_info().expect("details").reason, "BUSY");
    let hint = status.get_details_retry_info().expect("a hint").retry_delay;
    assert_eq!(hint, Some(crate::wire::status::RETRY_AFTER));
}

/// Opens a connection, and asserts that it is served.
async fn served(fixture: &Fixture) -> TcpStream {
    let mut stream = fixture.connect().await;
    send(&mut stream, GET).await;
    read_until(&mut stream, "hello").await;
    stream
}

#[tokio::test]
async fn a_connection_without_room_is_told_so_and_health_is_answered() {
    let rest = hello().route("/health", routing::get(async || "well"));
    let fixture = Fixture::new(rest, Bounds { connections: 1, ..Bounds::default() }).await;
    let mut first = served(&fixture).await;

    let mut second = fixture.connect().await;
    send(&mut second, GET).await;
    refused(&mut second, "connections").await;
    assert_eq!(read_to_end(&mut second).await, "", "it is closed");
    let channel = channel(fixture.address).await;
    assert_busy_grpc(&channel, "connections").await;
    let mut probe = fixture.connect().await;
    send(&mut probe, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_until(&mut probe, "well").await;
    assert_eq!(read_to_end(&mut probe).await, "");

    // An open connection stays, and frees its place when it ends.
    send(&mut first, GET).await;
    read_until(&mut first, "hello").await;
    drop((first, channel));
    let next = async {
        loop {
            let mut stream = fixture.connect().await;
            send(&mut stream, GET).await;
            if answer(&mut stream).await.1 == "hello" {
                return;
            }
        }
    };
    timeout(SOON, next).await.expect("the place is free");
    fixture.stop().await;
}

#[tokio::test]
async fn a_flood_of_refused_connections_waits() {
    let bounds = Bounds { connections: 1, refused: 1, ..Bounds::default() };
    let fixture = Fixture::new(hello(), bounds).await;
    let first = served(&fixture).await;
    let silent = fixture.connect().await;
    let mut third = fixture.connect().await;
    send(&mut third, GET).await;
    let waits = timeout(STALL, third.readable()).await;
    assert!(waits.is_err(), "the third is accepted too");
    drop(silent);
    refused(&mut third, "connections").await;
    drop(first);
    fixture.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_until_one_has_its_answer() {
    let go_on = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&go_on);
    // The response begins at once, and ends when the test adds a permit.
    let slow = async move || {
        let end = stream::once(async move {
            drop(wait.acquire_owned().await);
            Ok::<_, Infallible>(Bytes::from_static(b"end"))
        });
        Body::from_stream(tokio_stream::once(Ok(Bytes::from_static(b"begun"))).chain(end))
    };
    let rest = hello().route("/slow", routing::get(slow));
    let rest = rest.route("/health", routing::get(async || "well"));
    let fixture = Fixture::new(rest, Bounds { calls: 1, ..Bounds::default() }).await;
    let mut first = fixture.connect().await;
    send(&mut first, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_until(&mut first, "begun").await;

    let mut second = fixture.connect().await;
    for _ in 0..2 {
        send(&mut second, GET).await;
        refused(&mut second, "calls").await;
    }
    assert_busy_grpc(&channel(fixture.address).await, "calls").await;
    send(&mut second, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer(&mut second).await.1, "well");

    go_on.add_permits(1);
    read_until(&mut first, "0\r\n\r\n").await;
    send(&mut second, GET).await;
    assert_eq!(answer(&mut second).await.1, "hello");
    fixture.stop().await;
}

#[tokio::test]
async fn a_body_that_stands_still_ends_its_call() {
    let rest = Router::new().fallback(async |request: Request| {
        match axum::body::to_bytes(request.into_body(), usize::MAX).await {
            Ok(_) => "whole".to_owned(),
            Err(error) => tonic::Status::from_error(error.into()).message().to_owned(),
        }
    });
    let bounds = Bounds { stall: STALL, ..Bounds::default() };
    let fixture = Fixture::new(rest, bounds).await;
    for head in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n9\r\nabc"] {
        let mut stream = fixture.connect().await;
        send(&mut stream, &format!("PUT / HTTP/1.1\r\nHost: h\r\n{head}")).await;
        let (_, body) = timeout(SOON, answer(&mut stream)).await.expect("an answer soon");
        assert!(body.starts_with("fewer than 16384 bytes of the body came in"), "{body}");
        drop(stream);
    }
    fixture.stop().await;
}

/// A router with endless responses, which adds a permit when one of them is dropped.
pub(super) fn endless(dropped: &Arc<Semaphore>) -> Router {
    struct Said(Arc<Semaphore>);
    impl Drop for Said {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    let dropped = Arc::clone(dropped);
    Router::new().route(
        "/endless",
        routing::get(async move || {
            let said = Said(dropped);
            Body::from_stream(stream::repeat_with(move || {
                let _said = &said;
                Ok::<_, Infallible>(Bytes::from(vec![7; 1 << 20]))
            }))
        }),
    )
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let dropped = Arc::new(Semaphore::new(0));
    let bounds = Bounds { stall: STALL, ..Bounds::default() };
    let fixture = Fixture::new(endless(&dropped), bounds).await;
    let mut stream = fixture.connect().await;
    send(&mut stream, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let answer = timeout(SOON, dropped.acquire()).await.expect("given up");
    answer.expect("a permit").forget();
    // The reset arrives at once, before the client has read the bytes that the kernel holds.
    let cut = stream.read_to_end(&mut Vec::new()).await.expect_err("it is cut");
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    fixture.stop().await;
}

#[tokio::test]
async fn a_call_of_http2_that_is_not_read_is_reset_alone() {
    let dropped = Arc::new(Semaphore::new(0));
    let bounds = Bounds { stall: STALL, ..Bounds::default() };
    let fixture = Fixture::new(endless(&dropped).merge(hello()), bounds).await;
    let (mut client, running) = fixture.http2().await;
    let request = |path: &str| {
        let uri = format!("http://h{path}");
        http::Request::get(uri).body(Body::empty()).expect("a request")
    };
    let mut unread = client.send_request(request("/endless")).await.expect("an answer");
    timeout(SOON, dropped.acquire()).await.expect("given up").expect("a permit").forget();
    let read = async {
        while let Some(frame) = http_body_util::BodyExt::frame(unread.body_mut()).await {
            frame?;
        }
        Ok::<_, hyper::Error>(())
    };
    read.await.expect_err("it was reset");
    let answer = client.send_request(request("/")).await.expect("the connection goes on");
    assert_eq!(answer.status(), StatusCode::OK);
    drop(client);
    running.await.expect("no panic").expect("no error");
    fixture.stop().await;
}

#[tokio::test]
async fn a_body_of_small_frames_comes_whole() {
    const FRAMES: usize = 20_000;
    let reads = Arc::new(Semaphore::new(0));
    let may_read = Arc::clone(&reads);
    let rest = Router::new().fallback(async move |request: Request| {
        // Meanwhile the server reads the connection up to its limit.
        may_read.acquire().await.expect("open").forget();
        let body = axum::body::to_bytes(request.into_body(), FRAMES).await.expect("a body");
        body.len().to_string()
    });
    let fixture = Fixture::new(rest, Bounds::default()).await;
    let (mut client, running) = fixture.http2().await;
    let mut sent = 0;
    let all_sent = Arc::new(Semaphore::new(0));
    let (begun, many) = (Arc::clone(&all_sent), MANY_FRAMES);
    let frames = stream::iter(0..FRAMES).map(move |_| {
        sent += 1;
        if sent == 10 * many {
            begun.add_permits(1);
        }
        Ok::<_, axum::Error>(Bytes::from_static(b"x"))
    });
    let request =
        http::Request::put("http://h/").body(Body::from_stream(frames)).expect("a request");
    let answer = tokio::spawn(client.send_request(request));
    all_sent.acquire().await.expect("open").forget();
    reads.add_permits(1);
    let answer = answer.await.expect("no panic").expect("an answer");
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
    assert_eq!(body.to_bytes(), FRAMES.to_string());
    drop(client);
    running.await.expect("no panic").expect("no error");
    fixture.stop().await;
}

#[tokio::test]
async fn the_bodies_of_refused_calls_are_read_and_do_not_hold_up_their_connection() {
    let bounds = Bounds { calls: 1, ..Bounds::default() };
    let entered = Arc::new(Semaphore::new(0));
    let enters = Arc::clone(&entered);
    let rest = Router::new().fallback(async move |_: Request| {
        enters.add_permits(1);
        std::future::pending::<()>().await;
    });
    let fixture = Fixture::new(rest, bounds).await;
    let (mut client, running) = fixture.http2().await;
    let request = |body| http::Request::put("http://h/").body(body).expect("a request");
    let _runs = tokio::spawn(client.send_request(request(Body::empty())));
    entered.acquire().await.expect("open").forget();
    let all = async {
        let mut refused = 0;
        while refused < 2 * MANY_FRAMES {
            // The body comes when the call is refused already.
            let (answered, is_answered) = oneshot::channel::<()>();
            let body = stream::once(async {
                is_answered.await.ok();
                Ok::<_, axum::Error>(Bytes::from_static(b"x"))
            });
            let answer = client.send_request(request(Body::from_stream(body))).await;
            assert_eq!(answer.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
            answered.send(()).expect("the body is sent");
            refused += 1;
        }
    };
    timeout(SOON, all).await.expect("the connection is read");
    drop(client);
    running.abort();
    fixture.ended.abort();
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed() {
    let bounds = Bounds { idle_time: Duration::from_secs(2), ..Bounds::default() };
    let fixture = Fixture::new(hello(), bounds).await;
    let (mut client, running) = fixture.http2().await;
    let request = http::Request::get("http://h/").body(Body::empty()).expect("a request");
    client.send_request(request).await.expect("an answer");
    timeout(SOON, running).await.expect("closed").expect("no panic").expect("a clean end");
    fixture.stop().await;
}
