//! Uploads that exceed their time: the deadline of the call, or the time in the request. They wait for
//! something that never arrives, so that only the clock can end them.

use futures::{StreamExt, stream};
use imagestore::{
    error::Kind,
    wire::v1::{
        UploadChunkHeader, UploadChunkRequest, UploadHeader, UploadRequest, upload_chunk_request,
        upload_request,
    },
};
use tonic::{Code, Request, Status};

use crate::harness::{Driver, Gate, Server, chunk, tree};

const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
/// More bytes than are kept inline in the database.
static OBJECT: [u8; 20_000] = [7; 20_000];

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", "200m".parse().expect("a value"));
    request
}

/// Checks that the server has ended a call with `DEADLINE_EXCEEDED`.
#[track_caller]
fn assert_late<T>(answer: Result<T, Status>) {
    let status = answer.err().expect("an error");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(!status.details().is_empty(), "the server tells, not the client: {status:?}");
}

fn header(path: &str, timeout: Option<prost_types::Duration>) -> UploadRequest {
    let header = UploadHeader { path: path.to_owned(), timeout, ..UploadHeader::default() };
    UploadRequest { payload: Some(upload_request::Payload::Header(header)) }
}

fn data(bytes: &[u8]) -> UploadRequest {
    UploadRequest { payload: Some(upload_request::Payload::Data(bytes.to_vec().into())) }
}

fn chunk_header(length: u64, timeout: Option<prost_types::Duration>) -> UploadChunkHeader {
    let (session_id, path) = (SESSION.to_owned(), "c".to_owned());
    UploadChunkHeader {
        session_id,
        path,
        length,
        total_bytes: length,
        timeout,
        ..UploadChunkHeader::default()
    }
}

#[tokio::test]
async fn an_upload_that_does_not_end_is_over_at_its_deadline() {
    let server = Server::start().await;
    let mut client = server.plain().await;
    let silent = stream::pending::<UploadRequest>();
    assert_late(client.upload(timed(silent)).await);
    let begun = stream::iter([header("a", None), data(b"1")]).chain(stream::pending());
    assert_late(client.upload(timed(begun)).await);
    // A caller that sends data without a pause.
    let endless = stream::iter([header("a", None)]).chain(stream::repeat(data(b"1")));
    assert_late(client.upload(timed(endless)).await);
    let silent = stream::pending::<UploadChunkRequest>();
    assert_late(client.upload_chunk(timed(silent)).await);
    let begun = stream::iter(chunk(chunk_header(9, None), b"1")).chain(stream::pending());
    assert_late(client.upload_chunk(timed(begun)).await);
    let one = upload_chunk_request::Payload::Data(b"1".to_vec().into());
    let endless = stream::iter(chunk(chunk_header(1 << 24, None), b""))
        .chain(stream::repeat(UploadChunkRequest { payload: Some(one) }));
    assert_late(client.upload_chunk(timed(endless)).await);
    assert_eq!(tree(&server.rest()).await, "");
    assert_eq!(server.rest().session(SESSION).await.expect("none"), None);
}

/// The part is stored already, so the upload reads it back before relying on it, and waits at the gate.
#[tokio::test]
async fn an_upload_that_the_store_does_not_end_is_over_when_its_time_is() {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a", &OBJECT).await.expect("stored");
    gate.close();
    let mut client = server.plain().await;
    let time = Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 });
    let whole = [header("b", time), data(&OBJECT)];
    assert_late(client.upload(stream::iter(whole.clone())).await);
    let chunk = chunk(chunk_header(OBJECT.len() as u64, time), &OBJECT);
    assert_late(client.upload_chunk(stream::iter(chunk.clone())).await);
    let range = format!("bytes 0-{}/{}", OBJECT.len() - 1, OBJECT.len());
    let put = format!("/ImageStore/c/$/UploadChunk?api-version=6.0&session-id={SESSION}&timeout=1");
    for (target, range) in [("/ImageStore/b?api-version=6.0&timeout=1", None), (&put, Some(&range))]
    {
        let mut request = server.http().request("PUT", target);
        if let Some(range) = range {
            request = request.header("Content-Range", range);
        }
        request.body(&OBJECT).send().await.assert_fault(Kind::Timeout);
    }
    gate.open();
    assert_eq!(server.rest().session(SESSION).await.expect("none"), None);
    assert!(server.rest().download("b").await.is_err());
    client.upload(stream::iter(whole)).await.expect("stored in time");
    client.upload_chunk(stream::iter(chunk)).await.expect("stored in time");
}

#[tokio::test]
async fn a_time_below_zero_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (seconds, nanos) in [(-1, 0), (0, -1)] {
        let time = Some(prost_types::Duration { seconds, nanos });
        let status = client.upload(stream::iter([header("a", time)])).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        let chunk = chunk(chunk_header(1, time), b"1");
        let status = client.upload_chunk(stream::iter(chunk)).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(tree(&server.rest()).await, "");
}
