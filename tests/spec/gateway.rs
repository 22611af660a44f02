//! A gateway alone before backends that the tests make: which calls it makes again, and what it tells of a caller.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use imagestore::{
    error::{Error, Kind},
    limits::{BACKEND_KEPT_BYTES, BACKEND_TRIES},
    server::gateway::{Config, Gateway},
    wire::status,
};
use tokio::{net::TcpListener, sync::Notify};
use tonic::Status;

use crate::harness::{Http, Log};

const LIST: &str = "/ImageStore?api-version=6.0";
const FILE: &str = "/ImageStore/a?api-version=6.0";
const COPY: &str = "/ImageStore/$/Copy?api-version=6.0";
const EXPIRES: &str = "x-imagestore-token-expires";

type Body = BoxBody<Bytes, Infallible>;

/// How a backend answers a call.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// It resets the stream.
    Lost,
    /// It is busy.
    Busy,
    /// It finds nothing.
    NotFound,
    /// It does not answer.
    Silent,
}

/// A backend that is healthy. It gives its replies in turn, the last one again and again.
struct Backend {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    /// Notified of each call.
    arrived: Arc<Notify>,
}

impl Backend {
    async fn start(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::<Mutex<Vec<(String, HeaderMap)>>>::default();
        let arrived = Arc::<Notify>::default();
        let (seen, arrives) = (Arc::clone(&calls), Arc::clone(&arrived));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                let (seen, arrives) = (Arc::clone(&seen), Arc::clone(&arrives));
                let service = service_fn(move |request: Request<Incoming>| {
                    if !request.uri().path().ends_with("/Check") {
                        arrives.notify_one();
                    }
                    answer(request, Arc::clone(&seen), replies)
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, calls, arrived }
    }

    /// The names of the rpcs that were called.
    fn rpcs(&self) -> Vec<String> {
        self.calls.lock().expect("no panic").iter().map(|(name, _)| name.clone()).collect()
    }

    /// A header of each call.
    fn header(&self, name: &str) -> Vec<Option<String>> {
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let calls = self.calls.lock().expect("no panic");
        calls.iter().map(|(_, headers)| headers.get(name).map(text)).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    replies: &[Reply],
) -> Result<Response<Body>, Status> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/grpc.health.v1.Health/Check" {
        return Ok(healthy());
    }
    let name = head.uri.path().rsplit('/').next().expect("a name").to_owned();
    let number = {
        let mut seen = seen.lock().expect("no panic");
        seen.push((name, head.headers));
        seen.len()
    };
    // The gateway has sent all of it.
    body.collect().await.ok();
    let status = match replies[(number - 1).min(replies.len() - 1)] {
        Reply::Lost => return Err(Status::internal("lost")),
        Reply::Busy => status::from_error(&Error::new(Kind::Busy, "busy there")),
        Reply::NotFound => Status::not_found("nothing there"),
        Reply::Silent => std::future::pending().await,
    };
    let mut response = status.into_http::<tonic::body::Body>().map(|_| Full::default().boxed());
    response.headers_mut().insert(EXPIRES, HeaderValue::from_static("2030-01-01T00:00:00Z"));
    Ok(response)
}

/// The answer `SERVING` to a question for the health.
fn healthy() -> Response<Body> {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let message = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
    let body = message.with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A client of a gateway before some backends, and the log of the test.
async fn before(backends: &[&Backend]) -> (Http, Log) {
    let log = Log::of_test();
    log.expect("the service behind the gateway does not answer");
    let mut config = Config::local("http://127.0.0.1:1").expect("an address");
    let one = |backend: &&Backend| {
        Config::local(&format!("http://{}", backend.address)).expect("an address").backends
    };
    config.backends = backends.iter().flat_map(one).collect();
    let listener = TcpListener::bind(config.listen).await.expect("a port");
    let gateway = Gateway::start(&config, listener).await.expect("started");
    let http = Http::new(gateway.address());
    tokio::spawn(gateway.run(std::future::pending()));
    (http, log)
}

#[tokio::test]
async fn a_read_that_is_lost_is_made_again() {
    let backend = Backend::start(&[Reply::Lost, Reply::NotFound]).await;
    let (http, _log) = before(&[&backend]).await;
    let answer = http.get(LIST).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    assert_eq!(backend.rpcs(), ["List", "List"]);
    assert_eq!(answer.header(EXPIRES), Some("2030-01-01T00:00:00Z"));
    // Each try is told the time that is left.
    assert!(backend.header("grpc-timeout").iter().all(Option::is_some));
}

#[tokio::test]
async fn a_read_is_made_again_a_few_times_only() {
    let backend = Backend::start(&[Reply::Lost]).await;
    let (http, _log) = before(&[&backend]).await;
    let message = http.get(LIST).await.assert_fault(Kind::Busy);
    assert_eq!(message, "the service behind the gateway does not answer; try again");
    assert_eq!(backend.rpcs().len(), BACKEND_TRIES as usize);
}

#[tokio::test]
async fn a_copy_that_is_lost_is_made_again_by_its_id() {
    let backend = Backend::start(&[Reply::Lost, Reply::NotFound]).await;
    let (http, _log) = before(&[&backend]).await;
    let copy = br#"{"RemoteSource":"a","RemoteDestination":"b"}"#;
    assert_eq!(http.request("POST", COPY).body(copy).send().await.status, 404);
    assert_eq!(backend.rpcs(), ["Copy", "Copy"]);
}

#[tokio::test]
async fn what_may_have_changed_something_is_not_made_again() {
    for (method, rpc) in [("DELETE", "Delete"), ("PUT", "Upload")] {
        let backend = Backend::start(&[Reply::Lost, Reply::NotFound]).await;
        let (http, _log) = before(&[&backend]).await;
        let request = http.request(method, FILE).body(b"1");
        request.send().await.assert_fault(Kind::Busy);
        assert_eq!(backend.rpcs(), [rpc]);
    }
}

#[tokio::test]
async fn who_is_busy_is_not_asked_again_but_another_one_is() {
    let busy = Backend::start(&[Reply::Busy]).await;
    let (http, _log) = before(&[&busy]).await;
    assert_eq!(http.get(LIST).await.assert_fault(Kind::Busy), "busy there");
    assert_eq!(busy.rpcs(), ["List"]);

    let (busy, idle) =
        (Backend::start(&[Reply::Busy]).await, Backend::start(&[Reply::NotFound]).await);
    let (http, _log) = before(&[&busy, &idle]).await;
    for _ in 0..10 {
        let status = http.get(LIST).await.status;
        // Until the idle one has been found to serve, the busy one is the only one.
        assert!(status == 404 || idle.rpcs().is_empty(), "{status}");
    }
    // A change is the business of its client.
    let refused = http.request("DELETE", FILE).send().await.status;
    assert!([404, 503].contains(&refused));
}

#[tokio::test]
async fn what_is_kept_of_calls_has_a_bound() {
    let backend = Backend::start(&[Reply::Silent]).await;
    let (http, _log) = before(&[&backend]).await;
    let names = format!("\"{}\"", "x".repeat(1_000));
    let names = vec![names; 1_000].join(",");
    let copy = format!(r#"{{"RemoteSource":"a","RemoteDestination":"b","SkipFiles":[{names}]}}"#);
    let mut open = FuturesUnordered::new();
    // The backend answers none of them.
    let refused = loop {
        open.push(http.request("POST", COPY).body(copy.as_bytes()).send());
        tokio::select! {
            Some(refused) = open.next() => break refused,
            () = backend.arrived.notified() => {}
        }
        assert!(open.len() <= BACKEND_KEPT_BYTES / names.len(), "more is kept");
    };
    let message = refused.assert_fault(Kind::Busy);
    assert!(message.contains("bytes of calls"), "{message}");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let backend = Backend::start(&[Reply::Silent]).await;
    let (http, _log) = before(&[&backend]).await;
    let answer = http.get(&format!("{LIST}&timeout=1")).await;
    let message = answer.assert_fault(Kind::Timeout);
    assert_eq!(message, "the deadline passed before a server behind the gateway answered");
}

#[tokio::test]
async fn without_a_backend_a_call_is_refused_as_busy() {
    let log = Log::of_test();
    log.expect("a backend does not serve");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = Config::local("http://127.0.0.1:1").expect("an address");
    let gateway = Gateway::start(&config, listener).await.expect("started");
    let http = Http::new(gateway.address());
    tokio::spawn(gateway.run(std::future::pending()));
    let message = http.get(LIST).await.assert_fault(Kind::Busy);
    assert_eq!(message, "no server behind the gateway serves at the moment; try again");
    let message = http.get("/health").await.assert_fault(Kind::Busy);
    assert!(message.starts_with("no server behind the gateway serves"), "{message}");
    assert_eq!(http.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn only_the_gateway_says_who_calls() {
    let backend = Backend::start(&[Reply::NotFound]).await;
    let (http, _log) = before(&[&backend]).await;
    let request = http.request("GET", LIST).header("Authorization", "Bearer x");
    let request = request.header("X-Forwarded-For", "192.0.2.1").header("imagestore-link", "/x");
    let request = request.header("X-Forwarded-Proto", "http").header("X-Request-Id", "mine");
    assert_eq!(request.send().await.status, 404);
    for (name, expected) in [
        ("authorization", Some("Bearer x")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("https")),
        ("x-forwarded-host", None),
        ("imagestore-link", None),
        ("x-request-id", Some("mine")),
    ] {
        assert_eq!(backend.header(name), [expected.map(str::to_owned)], "{name}");
    }
    let link = "/ImageStore/a/$/Content?link-expires=1&link-maker=m&link-signature=s";
    http.get(link).await;
    assert_eq!(backend.header("imagestore-link").pop().flatten().as_deref(), Some(link));
    // A link is for downloads.
    let other = "/ImageStore/a?api-version=6.0&link-expires=1&link-maker=m&link-signature=s";
    http.get(other).await.assert_fault(Kind::Forbidden);
    assert_eq!(backend.rpcs().len(), 2);
}
