//! The server on real sockets: both versions of HTTP, the bounds, shutdown.

mod overload;
mod panics;
mod proxies;
mod shares;
mod tls;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::IntoResponse, routing};
use bytes::Bytes;
use futures::FutureExt;
use http::StatusCode;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_stream::StreamExt;
use tonic::{Code, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use super::{identity::Authenticator, *};

/// A timeout for steps that do not wait: longer than they take on any machine.
const SOON: Duration = Duration::from_secs(20);
/// A time limit that no test reaches.
const FOREVER: Duration = Duration::from_hours(1);

/// A listener whose handlers the test gives.
struct Fixture {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

/// Everyone is let in under these names, and nothing is written of it.
fn guards(hosts: Hosts) -> Guards {
    let identification = Identification::Own(Authenticator::open(None));
    Guards { hosts, proxies: Proxies::default(), identification, audit: Audit::off() }
}

impl Fixture {
    async fn new(rest: Router, bounds: Bounds) -> Self {
        let stop = CancellationToken::new();
        Self::with_stop(rest, bounds, stop).await
    }

    async fn with_stop(rest: Router, bounds: Bounds, stop: CancellationToken) -> Self {
        Self::with(Router::new().fallback(panics), rest, bounds, stop).await
    }

    async fn with_grpc(grpc: Router, rest: Router) -> Self {
        Self::with(grpc, rest, Bounds::default(), CancellationToken::new()).await
    }

    async fn with(grpc: Router, rest: Router, bounds: Bounds, stop: CancellationToken) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let hosts = Hosts::new(&["h".to_owned()], false);
        let app = door(grpc, rest, guards(hosts), bounds).expect("a door");
        let ended = tokio::spawn(listen::serve(listener, None, app, stop.clone(), bounds));
        Self { address, stop, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Connects over HTTP/2. The task ends with the connection.
    async fn http2(&self) -> (http2::SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
        let io = TokioIo::new(self.connect().await);
        let handshake = http2::handshake(TokioExecutor::new(), io);
        let (client, connection) = handshake.await.expect("connected");
        (client, tokio::spawn(connection))
    }

    /// Stops the listener, and asserts that it ends soon.
    async fn stop(self) {
        self.stop.cancel();
        timeout(SOON, self.ended).await.expect("stopped soon").expect("no panic");
    }
}

async fn panics() {
    panic!("a handler of a test")
}

fn hello() -> Router {
    Router::new().fallback(async || "hello")
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("sent");
}

/// Reads until the text has arrived.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut byte = [0];
        let count = stream.read(&mut byte).await.expect("read");
        assert_ne!(count, 0, "ended: {}", String::from_utf8_lossy(&read));
        read.extend(byte);
    }
    String::from_utf8(read).expect("text")
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read");
    text
}

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_stop_waits_for_no_audience() {
    let bounds = Bounds { stop_time: FOREVER, ..Bounds::default() };
    let fixture = Fixture::new(hello(), bounds).await;
    let mut idle = fixture.connect().await;
    send(&mut idle, GET).await;
    read_until(&mut idle, "hello").await;
    let mut silent = fixture.connect().await;
    let mut half = fixture.connect().await;
    send(&mut half, "POST /x HT").await;
    let mut half_http2 = fixture.connect().await;
    send(&mut half_http2, "PRI * HTTP/2.0\r\n").await;
    // Connections are accepted in order: when this one is served, the others are accepted.
    let mut last = fixture.connect().await;
    send(&mut last, GET).await;
    read_until(&mut last, "hello").await;

    fixture.stop().await;
    for stream in [&mut idle, &mut silent, &mut half, &mut half_http2, &mut last] {
        let mut rest = Vec::new();
        // A reset is an end as well.
        stream.read_to_end(&mut rest).await.ok();
        assert!(rest.is_empty());
    }
}

/// Reads the next frame of HTTP/2: its type and its payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("read");
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut payload).await.expect("read");
    (head[3], payload)
}

/// Otherwise a client that has not read its last response loses it when it sends the next frame.
#[tokio::test]
async fn a_stop_does_not_reset_clients_of_http2() {
    const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0";
    for (stop_linger, closes) in [(FOREVER, true), (Duration::ZERO, false)] {
        let bounds = Bounds { stop_time: FOREVER, stop_linger, ..Bounds::default() };
        let fixture = Fixture::new(hello(), bounds).await;
        let mut client = fixture.connect().await;
        send(&mut client, shares::HTTP2).await;
        // `GET http://h/` in the static table of HPACK (RFC 7541, appendix A), as a request without a body.
        let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x86\x41\x01h";
        client.write_all(request).await.expect("sent");
        while frame(&mut client).await.1 != b"hello" {}
        fixture.stop.cancel();
        let ping = loop {
            if let (6, payload) = frame(&mut client).await {
                break payload;
            }
        };
        let pong = [PONG, &ping].concat();
        client.write_all(&pong).await.expect("sent");
        client.read_to_end(&mut Vec::new()).await.expect("an end, not a reset");
        if closes {
            for _ in 0..2 {
                client.write_all(&pong).await.expect("not a reset");
                // The kernel has dealt with the frame when it refuses a connection.
                TcpStream::connect(fixture.address).await.expect_err("stopped");
            }
            drop(client);
        }
        timeout(SOON, fixture.ended).await.expect("stopped soon").expect("no panic");
    }
}

#[tokio::test]
async fn an_answer_that_runs_is_finished() {
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, finishes) = (Arc::clone(&begun), Arc::clone(&finish));
    let rest = Router::new().fallback(async move || {
        begins.notify_one();
        finishes.notified().await;
        "finished"
    });
    let fixture = Fixture::new(rest, Bounds::default()).await;
    let mut stream = fixture.connect().await;
    send(&mut stream, GET).await;
    begun.notified().await;
    fixture.stop.cancel();
    // When connections are refused, the stop has begun.
    while TcpStream::connect(fixture.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    finish.notify_one();
    assert!(read_to_end(&mut stream).await.ends_with("finished"));
    fixture.stop().await;
}

#[tokio::test]
async fn a_stream_that_sees_the_stop_ends() {
    let stop = CancellationToken::new();
    let seen = stop.clone();
    let rest = Router::new().fallback(async move || {
        let first = tokio_stream::once(Ok::<_, Infallible>(Bytes::from_static(b"first")));
        let last = futures::stream::once(async move {
            seen.cancelled().await;
            Ok(Bytes::from_static(b"last"))
        });
        Body::from_stream(first.chain(last))
    });
    let fixture = Fixture::with_stop(rest, Bounds::default(), stop).await;
    let mut stream = fixture.connect().await;
    send(&mut stream, GET).await;
    read_until(&mut stream, "first").await;
    fixture.stop().await;
    assert!(read_to_end(&mut stream).await.contains("last\r\n0\r\n"));
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut() {
    let rest = Router::new().fallback(async || {
        let first = tokio_stream::once(Ok::<_, Infallible>(Bytes::from_static(b"first")));
        Body::from_stream(first.chain(tokio_stream::pending()))
    });
    let bounds = Bounds { stop_time: Duration::from_millis(20), ..Bounds::default() };
    let fixture = Fixture::new(rest, bounds).await;
    let mut stream = fixture.connect().await;
    send(&mut stream, GET).await;
    read_until(&mut stream, "first").await;
    fixture.stop().await;
    assert!(!read_to_end(&mut stream).await.contains("0\r\n\r\n"));
}

#[tokio::test]
async fn a_panic_costs_one_call() {
    let rest = Router::new().route("/panic", routing::get(panics)).merge(hello());
    let fixture = Fixture::new(rest, Bounds::default()).await;
    let mut stream = fixture.connect().await;
    send(&mut stream, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let answer = read_until(&mut stream, "}}").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains(r#"{"Error":{"Code":"E_FAIL","Message":"the server failed"#));
    send(&mut stream, GET).await;
    read_until(&mut stream, "hello").await;

    let status = health(fixture.address).await.check(HealthCheckRequest::default()).await;
    assert_eq!(status.expect_err("a panic").code(), Code::Internal);
    fixture.stop().await;
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    let rest = Router::new().fallback(async |_: Request| (StatusCode::BAD_REQUEST, "no"));
    let fixture = Fixture::new(rest, Bounds::default()).await;
    let mut stream = fixture.connect().await;
    let body = vec![0; 16 << 20];
    send(
        &mut stream,
        &format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()),
    )
    .await;
    // Usual clients send everything before they read the response.
    stream.write_all(&body).await.expect("read on");
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 400"));
    drop(stream);
    fixture.stop().await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let bounds = Bounds { header_time: Duration::from_millis(20), ..Bounds::default() };
    let fixture = Fixture::new(hello(), bounds).await;
    for begin in
        ["", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = fixture.connect().await;
        send(&mut stream, begin).await;
        let mut end = Vec::new();
        timeout(SOON, stream.read_to_end(&mut end)).await.expect("closed").ok();
    }
    fixture.stop().await;
}

/// A complete server on the given data folder.
async fn server(data: &std::path::Path) -> Result<Server, Error> {
    let config = Config::local(data);
    let listener = TcpListener::bind(config.listen).await.expect("a port");
    Server::start(&config, listener).await
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("connected")
}

async fn health(address: SocketAddr) -> HealthClient<Channel> {
    HealthClient::new(channel(address).await)
}

#[tokio::test]
async fn idle_grpc_clients_and_watchers_do_not_delay_a_stop() {
    let temp = tempfile::tempdir().expect("a folder");
    let server = server(temp.path()).await.expect("started");
    let address = server.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move { stopped.await.expect("a stop") }));

    let mut health = health(address).await;
    let request = || HealthCheckRequest { service: SERVICE.to_owned() };
    let answer = health.check(request()).await.expect("healthy").into_inner();
    assert_eq!(answer.status, ServingStatus::Serving as i32);
    let mut watch = health.watch(request()).await.expect("watched").into_inner();
    watch.message().await.expect("a state").expect("a first one");
    let _idle = channel(address).await;

    stop.send(()).expect("a server");
    timeout(SOON, running).await.expect("stopped soon").expect("no panic");
    let last = watch.message().await.expect("a state").expect("a last one");
    assert_eq!(last.status, ServingStatus::NotServing as i32);
    assert!(watch.message().await.is_ok_and(|message| message.is_none()), "the watch ends");
}

#[tokio::test]
async fn a_data_folder_has_one_server() {
    let temp = tempfile::tempdir().expect("a folder");
    let first = server(temp.path()).await.expect("started");
    let error = server(temp.path()).await.expect_err("refused");
    assert!(error.explain().starts_with("another server has the data folder"), "{error}");
    drop(first);
    server(temp.path()).await.expect("started again");
}

#[tokio::test]
async fn reflection_knows_every_service_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let temp = tempfile::tempdir().expect("a folder");
    let server = server(temp.path()).await.expect("started");
    let channel = channel(server.address());
    let asked = async {
        let channel = channel.await;
        let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
        let request =
            v1::ServerReflectionRequest { message_request: Some(list), host: String::new() };
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
        let answers = client.server_reflection_info(tokio_stream::once(request)).await;
        let answer = answers.expect("v1").into_inner().message().await.expect("v1").expect("one");
        let new = format!("{:?}", answer.message_response);
        let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
        let request =
            v1alpha::ServerReflectionRequest { message_request: Some(list), host: String::new() };
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(tokio_stream::once(request)).await;
        let answer = answers.expect("v1alpha").into_inner().message().await;
        (new, format!("{:?}", answer.expect("v1alpha").expect("one").message_response))
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = server.run(async move { stopped.await.expect("a stop") });
    let (answers, ended) = tokio::join!(
        async {
            let answers = asked.await;
            stop.send(()).expect("a server");
            answers
        },
        running
    );
    assert_eq!(ended, Ended::Stopped);
    for answer in [answers.0, answers.1] {
        for service in [SERVICE, "grpc.health.v1.Health"] {
            assert!(answer.contains(service), "{answer}");
        }
    }
}
