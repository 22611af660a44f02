//! REST on the wire, over both versions of HTTP.

use http::Request;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;

use crate::harness::{Http2, Server};

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
    // The guard knows its host, too.
    let request = Request::get("http://evil.example/ImageStore?api-version=6.0");
    assert_eq!(send(&mut http2, request, "").await.0.status, 403);
}
