//! REST on the wire: connections that are kept alive, and both versions of HTTP.

use http::Request;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;

use crate::harness::{Driver, Http2, Server, fill, tree};

const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

#[tokio::test]
async fn a_connection_lives_on_after_a_chunked_body() {
    let server = Server::start().await;
    let http = server.http();
    let chunk = format!("/ImageStore/c/$/UploadChunk?api-version=6.0&session-id={SESSION}");
    let copy = br#"{"RemoteSource":"a","RemoteDestination":"b"}"#;
    let put = "/ImageStore/a?api-version=6.0";
    let mut connection = http.connect().await;
    for request in [
        // sfctl sends an empty file in this form.
        http.request("PUT", put).chunked(&[]),
        http.request("PUT", &chunk).header("Content-Range", "bytes */0").chunked(&[]),
        http.request("PUT", put).chunked(&[b"1", b"2"]),
        http.request("POST", "/ImageStore/$/Copy?api-version=6.0").chunked(&[copy]),
        http.request("DELETE", put).chunked(&[]),
        http.request("PUT", put).body(b""),
    ] {
        connection.send(&request.bytes()).await;
        let answer = connection.answer().await;
        answer.assert_empty_ok();
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(server.rest().session(SESSION).await.expect("a session"), Some(vec![]));
    assert_eq!(tree(&server.rest()).await, "a b=12");
}

#[tokio::test]
async fn a_connection_lives_on_after_a_body_that_nobody_needs() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let http = server.http();
    let mut connection = http.connect().await;
    let body = vec![b'x'; 60_000];
    for target in ["/", "/health/live", "/ImageStore/a?api-version=6.0", "/ImageStore/a/$/Content"]
    {
        for request in [
            http.request("GET", target).body(&body),
            http.request("GET", target).chunked(&[&body, b"x"]),
            http.request("OPTIONS", target).body(&body),
        ] {
            connection.send(&request.bytes()).await;
            let answer = connection.answer().await;
            assert!(answer.status < 300, "{target}: {answer:?}");
            assert_eq!(answer.header("connection"), None, "{target}");
        }
    }
    // A long body that is not needed is not read: the connection closes.
    let long = http.request("GET", "/health/live").header("Content-Length", "70000");
    let answer = long.send().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn a_caller_who_does_not_want_events_gets_none() {
    let server = Server::start().await;
    let target = "/ImageStore/$/Operations";
    for (accept, events) in [
        ("text/event-stream", true),
        ("application/json;q=0.5, text/event-stream;q=0.9", true),
        ("application/json, text/event-stream;q=0.9", false),
        ("text/event-stream;q=0", false),
        ("text/event-stream;q=0.0, */*", false),
        ("*/*", false),
    ] {
        let mut connection =
            server.http().request("GET", target).header("Accept", accept).open().await;
        let content_type =
            if events { "text/event-stream" } else { "application/json; charset=utf-8" };
        assert_eq!(connection.head().await.header("content-type"), Some(content_type), "{accept}");
    }
}

#[tokio::test]
async fn no_error_repeats_a_long_part_of_its_request() {
    let server = Server::start().await;
    let long = "x".repeat(3_000);
    for (method, target, headers) in [
        ("GET", format!("/ImageStore/{long}?api-version={long}"), &[][..]),
        ("GET", format!("/ImageStore/a/b/c/{long}?api-version=6.0"), &[]),
        ("POST", format!("/ImageStore/{long}?api-version=6.0"), &[]),
        ("GET", format!("/ImageStore/$/Operations/{long}"), &[]),
        ("GET", format!("/ImageStore/$/Operations?State={long}"), &[]),
        (
            "PUT",
            format!("/ImageStore/a?api-version=6.0&session-id={long}"),
            &[("If-Match", &*long)],
        ),
        ("PUT", "/ImageStore/a?api-version=6.0".to_owned(), &[("Content-MD5", &long)]),
        ("GET", "/ImageStore/a?api-version=6.0".to_owned(), &[("Host", &long)]),
        ("DELETE", "/ImageStore/a?api-version=6.0".to_owned(), &[("Origin", &long)]),
    ] {
        let request = server.http().request(method, &target);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.body(b"").send().await;
        let message = answer.json()["Error"]["Message"].as_str().expect("a message").to_owned();
        assert!(answer.status >= 400 && !message.contains(&long[..201]), "{method}: {message}");
    }
}

/// Sends a request over HTTP/2.
async fn send(
    http2: &mut Http2,
    request: http::request::Builder,
    body: &str,
) -> (http::response::Parts, String) {
    let request = request.body(Body::new(Full::from(body.to_owned()))).expect("a request");
    let answer = http2.send_request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    assert!(!head.headers.contains_key("grpc-status"), "{head:?}");
    let body = body.collect().await.expect("a body").to_bytes().to_vec();
    (head, String::from_utf8(body).expect("text"))
}

#[tokio::test]
async fn rest_answers_over_http_2_as_well() {
    let server = Server::start().await;
    let mut http2 = server.http2().await;
    let uri = format!("http://{}/ImageStore?api-version=6.0", server.address);
    let (head, body) = send(&mut http2, Request::get(uri), "").await;
    assert_eq!(head.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(body, r#"{"StoreFiles":[],"StoreFolders":[],"ContinuationToken":""}"#);
    // The check of the host applies to HTTP/2, too.
    let request = Request::get("http://evil.example/ImageStore?api-version=6.0");
    assert_eq!(send(&mut http2, request, "").await.0.status, 403);
}

#[tokio::test]
async fn rest_takes_the_content_type_of_grpc_over_http_2() {
    let server = Server::start().await;
    let mut http2 = server.http2().await;
    let copy = r#"{"RemoteSource":"a.b/c","RemoteDestination":"d"}"#;
    for (method, target, body, status) in [
        ("PUT", "/ImageStore/a.b/c?api-version=6.0", "1", 200),
        ("POST", "/ImageStore/$/Copy?api-version=6.0", copy, 200),
        ("GET", "/ImageStore/d/$/Content", "", 200),
        ("PUT", "/imagestore.v1.ImageStore/Delete", "", 404),
    ] {
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let uri = format!("http://{}{target}", server.address);
            let request = Request::builder().method(method).uri(uri);
            let request = request.header("content-type", content_type);
            let answered = send(&mut http2, request, body).await.0.status;
            assert_eq!(answered, status, "{method} {target}");
        }
    }
    assert_eq!(tree(&server.rest()).await, "a.b/c=1 d=1");
}

#[tokio::test]
async fn a_file_that_has_not_changed_has_its_own_length() {
    let server = Server::start().await;
    fill(&server.rest(), "a=0123456789").await;
    let (http, target) = (server.http(), "/ImageStore/a/$/Content");
    let tag = http.get(target).await.header("etag").expect("a tag").to_owned();
    let head = http.request("HEAD", target).header("If-None-Match", &tag).send_head().await;
    assert_eq!((head.status, head.header("content-length")), (304, Some("10")));
    let get = http.request("GET", target).header("If-None-Match", &tag).send().await;
    assert_eq!((get.status, get.header("content-length")), (304, None));
    let mut http2 = server.http2().await;
    for method in ["GET", "HEAD"] {
        let uri = format!("http://{}{target}", server.address);
        let request = Request::builder().method(method).uri(uri).header("if-none-match", &tag);
        let (head, body) = send(&mut http2, request, "").await;
        assert_eq!((head.status.as_u16(), body.as_str()), (304, ""));
        assert_eq!(head.headers["content-length"], "10");
    }
}
