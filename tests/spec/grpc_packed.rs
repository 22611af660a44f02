//! gRPC on the wire: compressed messages, and metadata and messages that are too large.

use futures::{FutureExt, stream};
use http::Request;
use http_body_util::{BodyExt, Full};
use imagestore::{
    error::Kind,
    limits::{HEADER_BYTES_MAX, KIB, MESSAGE_BYTES_MAX, MIB},
    wire::{
        status,
        v1::{
            DeleteRequest, DownloadRequest, ListRequest, StatRequest, UploadHeader, UploadRequest,
            WatchOperationsRequest, upload_request::Payload,
        },
    },
};
use prost::Message;
use tonic::{Code, Status, body::Body, codec::CompressionEncoding};

use crate::harness::{Driver, Server, fill, tree};

const ENCODINGS: [CompressionEncoding; 2] = [CompressionEncoding::Gzip, CompressionEncoding::Zstd];

/// The messages of an upload with one message of data.
fn upload(path: &str, data: Vec<u8>) -> [UploadRequest; 2] {
    let header = UploadHeader { path: path.to_owned(), ..UploadHeader::default() };
    [Payload::Header(header), Payload::Data(data.into())]
        .map(|payload| UploadRequest { payload: Some(payload) })
}

#[tokio::test]
async fn requests_and_answers_may_be_compressed() {
    let server = Server::start().await;
    for encoding in ENCODINGS {
        let client = server.client().await.accept_compressed(encoding);
        let mut client = client.send_compressed(encoding);
        let data = vec![7; MIB];
        client.upload(stream::iter(upload("a/f", data.clone()))).await.expect("stored");
        let stat = client.stat(StatRequest { path: "a/f".to_owned() }).await.expect("described");
        assert_eq!(stat.into_inner().entry.expect("an entry").size_bytes, data.len() as u64);
        assert_eq!(server.rest().download("a/f").await.expect("the bytes"), data);
    }
}

/// Makes a call that accepts gzip. Returns whether the first message of the response is compressed.
async fn is_packed(server: &Server, method: &str, message: &impl Message) -> bool {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    let frame = [&[0][..], &length, &message].concat();
    let uri = format!("http://{}/imagestore.v1.ImageStore/{method}", server.grpc_address);
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("grpc-accept-encoding", "identity, deflate, gzip")
        .body(Body::new(Full::from(frame)))
        .expect("a request");
    let answer = server.grpc_http2().await.send_request(request).await.expect("an answer");
    let is_encoded = answer.headers().get("grpc-encoding").is_some_and(|value| value == "gzip");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    body[0] == 1 && is_encoded
}

#[tokio::test]
async fn long_answers_are_compressed_and_stored_bytes_are_not() {
    let server = Server::start().await;
    let files: Vec<String> = (0..100).map(|number| format!("a/file-{number}=1")).collect();
    fill(&server.rest(), &files.join(" ")).await;
    server.rest().upload("b", &vec![7; MIB]).await.expect("stored");
    let list = |path: &str| ListRequest { path: path.to_owned(), ..ListRequest::default() };
    assert!(is_packed(&server, "List", &list("a")).await);
    assert!(!is_packed(&server, "List", &list("")).await);
    let download = DownloadRequest { path: "b".to_owned(), ..DownloadRequest::default() };
    assert!(!is_packed(&server, "Download", &download).await);
}

/// Checks the error of a message that is too large: it names the bound.
#[track_caller]
fn assert_too_large(status: &Status, bound: usize) {
    assert_eq!(
        (status.code(), status::kind(status)),
        (Code::ResourceExhausted, Kind::MessageTooLarge)
    );
    assert!(!status.details().is_empty(), "the server tells, not the client: {status:?}");
    assert!(status.message().contains(&bound.to_string()), "{}", status.message());
}

#[tokio::test]
async fn a_message_is_as_large_as_it_is_unpacked() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let bomb = 40 * MESSAGE_BYTES_MAX;
    for encoding in ENCODINGS {
        let mut client = server.client().await.send_compressed(encoding);
        let path = "a".repeat(bomb);
        let refused = client.delete(DeleteRequest { path, ..DeleteRequest::default() }).await;
        assert_too_large(&refused.expect_err("too large"), MESSAGE_BYTES_MAX);
        let refused = client.upload(stream::iter(upload("a", vec![0; bomb]))).await;
        assert_too_large(&refused.expect_err("too large"), MESSAGE_BYTES_MAX);
    }
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn an_upload_with_a_message_that_is_too_large_is_told_so() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let refused = client.upload(stream::iter(upload("a", vec![7; 5 * MIB]))).await;
    assert_too_large(&refused.expect_err("too large"), MESSAGE_BYTES_MAX);
    assert_eq!(tree(&server.rest()).await, "");
}

#[tokio::test]
async fn metadata_that_is_too_large_costs_its_call_alone() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let mut client = server.plain().await;
    let mut watch = client.watch_operations(WatchOperationsRequest::default()).await;
    let watch = watch.as_mut().expect("watched").get_mut();
    for bytes in [70 * KIB, 300 * KIB] {
        let mut request = tonic::Request::new(StatRequest { path: "a".to_owned() });
        let value = "x".repeat(bytes).parse().expect("a value");
        request.metadata_mut().insert("x-large", value);
        let refused = client.stat(request).await.expect_err("too large");
        assert_too_large(&refused, HEADER_BYTES_MAX);
        // The connection still serves other calls.
        client.stat(StatRequest { path: "a".to_owned() }).await.expect("described");
        assert!(watch.message().now_or_never().is_none(), "the watch goes on");
    }
    let uri = format!("http://{}/ImageStore?api-version=6.0", server.address);
    let request = Request::get(uri).header("x-large", "x".repeat(70 * KIB));
    let request = request.body(Body::empty()).expect("a request");
    let answer = server.http2().await.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 431);
}
