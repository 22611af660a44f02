//! Errors over gRPC on the wire: each fits the limit of every client for trailers, and has its reason.

use http::Request;
use http_body_util::Full;
use imagestore::{
    error::Kind,
    limits::{KIB, MESSAGE_BYTES_MAX},
    wire::{
        status,
        v1::{CopyRequest, DeleteRequest, StatRequest},
    },
};
use prost::Message;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;

use crate::harness::{Driver, Server, tree};

/// The size of headers that every client accepts, in bytes.
const HEADERS_BYTES_MAX: usize = 8 * KIB;

/// Sends one message, and returns the error of the response.
async fn refused(server: &Server, method: &str, message: &[u8]) -> Status {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    let frame = [&[0][..], &length, message].concat();
    let uri = format!("http://{}{method}", server.grpc_address);
    let request = Request::post(uri).header("content-type", "application/grpc");
    let request = request.body(Body::new(Full::from(frame))).expect("a request");
    let answer = server.grpc_http2().await.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let sizes = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    assert!(sizes.sum::<usize>() < HEADERS_BYTES_MAX, "{:?}", answer.headers());
    let status = Status::from_header_map(answer.headers()).expect("a status");
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!((&*info.domain, &*info.reason), (status::DOMAIN, status::kind(&status).reason()));
    status
}

#[tokio::test]
async fn an_error_about_a_long_path_reaches_its_client() {
    let server = Server::start().await;
    for name in ["a", "ä"] {
        let name = name.repeat(1000 / name.len());
        let path = [name.as_str(); 4].join("/");
        assert!(path.len() > 4000);
        let message = StatRequest { path: path.clone() }.encode_to_vec();
        let status = refused(&server, "/imagestore.v1.ImageStore/Stat", &message).await;
        assert_eq!((status.code(), status::kind(&status)), (Code::NotFound, Kind::PathNotFound));
        let shown = &status.get_details_error_info().expect("a reason").metadata["path"];
        let (begin, end) = shown.split_once('…').expect("a gap");
        assert!(path.starts_with(begin) && path.ends_with(end), "{shown}");
        assert!(begin.len() > 90 && end.len() > 90, "{shown}");
        // The generated client gets the same error.
        let status = server.client().await.stat(StatRequest { path: path.clone() }).await;
        assert_eq!(status::kind(&status.expect_err("nothing there")), Kind::PathNotFound);
        // An error message with two paths.
        let below = format!("{path}/b");
        let message =
            CopyRequest { source: path, destination: below, ..Default::default() }.encode_to_vec();
        let status = refused(&server, "/imagestore.v1.ImageStore/Copy", &message).await;
        assert_eq!(status::kind(&status), Kind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_call_that_does_not_exist_is_unimplemented() {
    let server = Server::start().await;
    for path in ["/imagestore.v1.ImageStore/Nothing", "/no.Service/Stat", "/no.Service/"] {
        let status = refused(&server, path, b"").await;
        assert_eq!(
            (status.code(), status::kind(&status)),
            (Code::Unimplemented, Kind::Unimplemented)
        );
        assert_eq!(status.message(), format!("there is no call '{path}'"));
    }
}

#[tokio::test]
async fn a_message_that_is_none_is_an_invalid_argument() {
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    for message in [&b"\xff\xff"[..], b"\x0a\x05a", b"\x0a\x01\xff"] {
        let status = refused(&server, "/imagestore.v1.ImageStore/Delete", message).await;
        assert_eq!(
            (status.code(), status::kind(&status)),
            (Code::InvalidArgument, Kind::InvalidArgument)
        );
        assert!(!status.message().is_empty());
    }
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_so() {
    let server = Server::start().await;
    let message = DeleteRequest { path: "a".repeat(MESSAGE_BYTES_MAX), ..DeleteRequest::default() }
        .encode_to_vec();
    let status = refused(&server, "/imagestore.v1.ImageStore/Delete", &message).await;
    assert_eq!(
        (status.code(), status::kind(&status)),
        (Code::ResourceExhausted, Kind::MessageTooLarge)
    );
}
