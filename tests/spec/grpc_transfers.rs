//! The rpcs that carry bytes: uploads, downloads, chunks, and the bounds of their messages.

use imagestore::{
    error::Kind,
    limits::{DOWNLOAD_MESSAGE_BYTES, MESSAGE_BYTES_MAX, MIB},
    wire::v1::{
        CommitUploadSessionRequest, DeleteUploadSessionRequest, DownloadRequest,
        GetUploadSessionRequest, ListUploadSessionsRequest, StatRequest, UploadChunkHeader,
        UploadChunkRequest, UploadFinish, UploadHeader, UploadRequest, upload_chunk_request,
        upload_request,
    },
};
use prost::Message as _;
use tokio_stream::iter;
use tonic::Code;

use crate::{
    grpc::{ID, SESSION, all, assert_told, path, server},
    harness::{Driver, chunk, tree, upload},
};
fn header(payload: UploadHeader) -> UploadRequest {
    UploadRequest { payload: Some(upload_request::Payload::Header(payload)) }
}

fn data(bytes: &[u8]) -> UploadRequest {
    UploadRequest { payload: Some(upload_request::Payload::Data(bytes.to_vec().into())) }
}

fn finish(size_bytes: Option<u64>, blake3: &str) -> UploadRequest {
    let finish = UploadFinish { size_bytes, blake3: blake3.to_owned() };
    UploadRequest { payload: Some(upload_request::Payload::Finish(finish)) }
}

fn chunk_header(offset: u64, length: u64, total_bytes: u64) -> UploadChunkHeader {
    UploadChunkHeader {
        session_id: path(SESSION),
        path: path("c"),
        offset,
        length,
        total_bytes,
        ..UploadChunkHeader::default()
    }
}

#[tokio::test]
async fn a_file_is_uploaded_and_described() {
    let (server, mut client) = server("").await;
    let bytes = b"hello";
    let sent = UploadHeader {
        path: path("a/f"),
        size_bytes: Some(5),
        blake3: blake3::hash(bytes).to_hex().to_uppercase(),
        ends_with_finish: true,
        ..UploadHeader::default()
    };
    // An empty data message is allowed.
    let end = finish(Some(5), &blake3::hash(bytes).to_hex());
    let messages = vec![header(sent), data(b"he"), data(b""), data(b"llo"), end];
    let stored = client.upload(iter(messages)).await.expect("stored").into_inner();
    let stat = client.stat(StatRequest { path: path("a/f") }).await.expect("found").into_inner();
    assert_eq!(stored.entry, stat.entry);
    assert_eq!(tree(&server.rest()).await, "a/f=hello");
    // A header without data is an empty file.
    let sent = UploadHeader { path: path("a/f"), ..UploadHeader::default() };
    client.upload(iter([header(sent)])).await.expect("stored");
    assert_eq!(tree(&server.rest()).await, "a/f");
    // The size and the digest are optional, and so is the announcement of a `finish` message.
    let sent = UploadHeader { path: path("a/f"), ..UploadHeader::default() };
    client.upload(iter([header(sent), data(b"1"), finish(None, "")])).await.expect("stored");
    assert_eq!(tree(&server.rest()).await, "a/f=1");
}

#[tokio::test]
async fn an_upload_that_is_not_as_announced_leaves_nothing() {
    let (server, mut client) = server("d/x=1 f=2").await;
    let head = |path: &str| UploadHeader { path: path.to_owned(), ..UploadHeader::default() };
    let sized = |size| UploadHeader { size_bytes: Some(size), ..head("a") };
    let digest = |text: &str| UploadHeader { blake3: text.to_owned(), ..head("a") };
    let ended = |size_bytes| UploadHeader { size_bytes, ends_with_finish: true, ..head("a") };
    let one = blake3::hash(b"1").to_hex();
    let (invalid, lost) = (Kind::InvalidArgument, Kind::DataLoss);
    let other = blake3::hash(b"other").to_hex();
    for (messages, kind, field) in [
        (vec![], invalid, Some("header")),
        (vec![data(b"1")], invalid, Some("header")),
        (vec![data(b"1"), header(head("a"))], invalid, Some("header")),
        (vec![UploadRequest { payload: None }], invalid, Some("header")),
        (vec![header(head("a")), header(head("a"))], invalid, Some("header")),
        (vec![header(head("a")), data(b"1"), header(head("a"))], invalid, Some("header")),
        (vec![header(head("a")), UploadRequest { payload: None }], invalid, Some("data")),
        (vec![header(sized(2)), data(b"1")], lost, Some("size_bytes")),
        (vec![header(sized(2))], lost, Some("size_bytes")),
        (vec![header(sized(2)), data(b"12"), data(b"3")], lost, Some("size_bytes")),
        (vec![header(sized(1 << 60)), data(b"1")], Kind::TooLarge, Some("size_bytes")),
        (vec![header(digest(&other)), data(b"1")], lost, Some("blake3")),
        (vec![header(digest("xyz")), data(b"1")], invalid, Some("blake3")),
        (
            vec![header(digest(&other.replacen(|_| true, "", 1))), data(b"1")],
            invalid,
            Some("blake3"),
        ),
        (vec![finish(Some(0), "")], invalid, Some("header")),
        (vec![header(head("a")), data(b"1"), finish(Some(2), "")], lost, Some("size_bytes")),
        (vec![header(head("a")), data(b"12"), finish(Some(1), "")], lost, Some("size_bytes")),
        (vec![header(head("a")), data(b"1"), finish(None, &other)], lost, Some("blake3")),
        (vec![header(head("a")), data(b"1"), finish(None, "xyz")], invalid, Some("blake3")),
        // The size and the digest of the header must hold, too.
        (vec![header(sized(2)), data(b"1"), finish(Some(1), "")], lost, Some("size_bytes")),
        (vec![header(digest(&other)), data(b"1"), finish(None, &one)], lost, Some("blake3")),
        // No message may follow `finish`, not even another one.
        (vec![header(head("a")), finish(Some(0), ""), data(b"1")], invalid, Some("finish")),
        (vec![header(head("a")), finish(None, ""), finish(None, "")], invalid, Some("finish")),
        (vec![header(head("a")), finish(None, ""), header(head("a"))], invalid, Some("finish")),
        // The announced `finish` is missing.
        (vec![header(ended(None))], lost, Some("finish")),
        (vec![header(ended(None)), data(b"1")], lost, Some("finish")),
        (vec![header(ended(Some(1))), data(b"1")], lost, Some("finish")),
        (vec![header(head("")), data(b"1")], invalid, Some("path")),
        (vec![header(head("a/../b")), data(b"1")], invalid, Some("path")),
        (vec![header(head(&"n".repeat(1025)))], Kind::PathTooLong, Some("path")),
        (vec![header(head("d")), data(b"1")], Kind::AlreadyExists, Some("path")),
        (vec![header(head("f/below")), data(b"1")], Kind::AlreadyExists, Some("path")),
    ] {
        assert_told(client.upload(iter(messages)).await, kind, field);
        assert_eq!(tree(&server.rest()).await, "d/x=1 f=2");
    }
}

#[tokio::test]
async fn bytes_are_downloaded_from_where_to_where_is_asked() {
    let (_server, mut client) = server("f=0123456789 e").await;
    let stat = client.stat(StatRequest { path: path("f") }).await.expect("found").into_inner();
    let etag = stat.entry.expect("an entry").etag;
    for (name, offset, length, expected) in [
        ("f", 0, None, "0123456789"),
        ("f", 3, Some(4), "3456"),
        ("f", 8, Some(99), "89"),
        ("f", 8, Some(u64::MAX), "89"),
        ("f", 0, Some(0), ""),
        ("f", 10, None, ""),
        ("e", 0, None, ""),
    ] {
        let etag = if name == "f" { etag.clone() } else { String::new() };
        let request = DownloadRequest { path: path(name), offset, length, etag };
        let pieces = all(client.download(request).await).await.expect("downloaded");
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.data).collect();
        assert_eq!(bytes, expected.as_bytes(), "{name} {offset} {length:?}");
    }
    let mut download = async |request| all(client.download(request).await).await;
    let file = || DownloadRequest { path: path("f"), ..DownloadRequest::default() };
    let beyond = DownloadRequest { offset: 11, ..file() };
    assert_told(download(beyond).await, Kind::UnsatisfiableRange, Some("offset"));
    let other = DownloadRequest { etag: "0".repeat(64), ..file() };
    assert_told(download(other).await, Kind::Changed, Some("etag"));
    let malformed = DownloadRequest { etag: path("x"), ..file() };
    assert_told(download(malformed).await, Kind::InvalidArgument, Some("etag"));
    for missing in ["no", "f/below"] {
        let request = DownloadRequest { path: path(missing), ..file() };
        assert_told(download(request).await, Kind::FileNotFound, Some("path"));
    }
    let root = DownloadRequest { path: path(""), ..file() };
    assert_told(download(root).await, Kind::InvalidArgument, Some("path"));
}

#[tokio::test]
async fn no_message_of_a_download_is_large() {
    let (server, mut client) = server("").await;
    let bytes = vec![7; 9 * MIB];
    server.rest().upload("f", &bytes).await.expect("stored");
    let request = DownloadRequest { path: path("f"), ..DownloadRequest::default() };
    let pieces = all(client.download(request).await).await.expect("downloaded");
    assert!(pieces.iter().all(|piece| (1..=DOWNLOAD_MESSAGE_BYTES).contains(&piece.data.len())));
    assert_eq!(pieces.iter().map(|piece| piece.data.len()).sum::<usize>(), bytes.len());
}

#[tokio::test]
async fn a_chunk_that_is_not_as_announced_is_refused() {
    let (server, mut client) = server("d/x=1").await;
    let payload = |payload| UploadChunkRequest { payload: Some(payload) };
    let bytes = payload(upload_chunk_request::Payload::Data(b"1".to_vec().into()));
    let first = |header| payload(upload_chunk_request::Payload::Header(header));
    let twice = vec![first(chunk_header(0, 1, 1)), first(chunk_header(0, 1, 1))];
    let none = UploadChunkRequest { payload: None };
    let (invalid, range) = (Kind::InvalidArgument, Kind::BadRange);
    let folder = UploadChunkHeader { path: path("d"), ..chunk_header(0, 1, 1) };
    let nameless = UploadChunkHeader { session_id: path("x"), ..chunk_header(0, 1, 1) };
    for (messages, kind, field) in [
        (vec![], invalid, Some("header")),
        (vec![bytes.clone()], invalid, Some("header")),
        (twice, invalid, Some("header")),
        (vec![first(chunk_header(0, 1, 1)), none], invalid, Some("data")),
        (chunk(chunk_header(0, 2, 2), b"1"), range, Some("length")),
        (chunk(chunk_header(0, 1, 2), b"12"), range, Some("length")),
        (chunk(chunk_header(1, 1, 1), b"1"), range, Some("length")),
        (chunk(chunk_header(u64::MAX, 1, 1), b"1"), range, Some("length")),
        (chunk(chunk_header(0, 0, 1), b""), range, Some("length")),
        (chunk(chunk_header(0, 1, 1 << 60), b"1"), range, Some("length")),
        (chunk(folder, b"1"), Kind::AlreadyExists, Some("path")),
        (chunk(nameless, b"1"), Kind::InvalidSessionId, Some("session_id")),
    ] {
        assert_told(client.upload_chunk(iter(messages)).await, kind, field);
        assert_eq!(server.rest().session(SESSION).await.expect("none"), None);
    }
    client.upload_chunk(iter(chunk(chunk_header(0, 2, 4), b"12"))).await.expect("stored");
    let overlap = client.upload_chunk(iter(chunk(chunk_header(1, 2, 4), b"23"))).await;
    assert_told(overlap, range, Some("offset"));
    let bytes = client.upload_chunk(iter(chunk(chunk_header(0, 2, 4), b"1x"))).await;
    assert_told(bytes, Kind::SessionConflict, Some("data"));
    let other = UploadChunkHeader { path: path("e"), ..chunk_header(2, 2, 4) };
    let other = client.upload_chunk(iter(chunk(other, b"34"))).await;
    assert_told(other, Kind::SessionConflict, Some("path"));
    let total = client.upload_chunk(iter(chunk(chunk_header(2, 2, 5), b"34"))).await;
    assert_told(total, invalid, Some("total_bytes"));
}

#[tokio::test]
async fn a_session_is_described_listed_and_committed() {
    let (_server, mut client) = server("").await;
    client.upload_chunk(iter(chunk(chunk_header(1, 2, 4), b"12"))).await.expect("stored");
    let get = || GetUploadSessionRequest { session_id: SESSION.to_uppercase() };
    let session = client.get_upload_session(get()).await.expect("a session").into_inner();
    assert_eq!((session.session_id.as_str(), session.path.as_str()), (SESSION, "c"));
    assert_eq!((session.total_bytes, session.committed), (4, false));
    let ranges: Vec<_> = session.expected_ranges.iter().map(|r| (r.start, r.end)).collect();
    assert_eq!(ranges, [(0, 0), (3, 3)]);
    let other =
        UploadChunkHeader { session_id: path(ID), path: path("e"), ..chunk_header(0, 0, 0) };
    client.upload_chunk(iter(chunk(other, b""))).await.expect("stored");
    let mut list = async |name: &str, page_size, page_token: &str| {
        let page_token = page_token.to_owned();
        let request = ListUploadSessionsRequest { path: path(name), page_size, page_token };
        client.list_upload_sessions(request).await.expect("a page").into_inner()
    };
    assert_eq!(list("c", 0, "").await.sessions, std::slice::from_ref(&session));
    assert_eq!(list("no", 0, "").await.sessions, []);
    let first = list("", 1, "").await;
    assert_eq!(first.sessions[0].session_id, ID);
    let second = list("", 1, &first.next_page_token).await;
    assert_eq!((second.sessions, second.next_page_token.as_str()), (vec![session], ""));

    let commit = CommitUploadSessionRequest { session_id: path(ID), ..Default::default() };
    let entry = client.commit_upload_session(commit.clone()).await.expect("committed").into_inner();
    let entry = entry.entry.expect("an entry");
    assert_eq!((entry.path.as_str(), entry.size_bytes, entry.file_count), ("e", 0, 1));
    let again = client.commit_upload_session(commit).await.expect("committed").into_inner();
    assert_eq!(again.entry, Some(entry));
    let done = GetUploadSessionRequest { session_id: path(ID) };
    assert!(client.get_upload_session(done).await.expect("a session").into_inner().committed);
    let forget = DeleteUploadSessionRequest { session_id: path(SESSION) };
    client.delete_upload_session(forget).await.expect("forgotten");
    let gone = client.get_upload_session(get()).await;
    assert_told(gone, Kind::SessionNotFound, Some("session_id"));
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused_and_one_at_it_is_taken() {
    let (server, mut client) = server("").await;
    let head = |size| {
        let size_bytes = Some(size);
        header(UploadHeader { path: path("f"), size_bytes, ..UploadHeader::default() })
    };
    let overhead = data(&vec![0; 4_000_000]).encoded_len() - 4_000_000;
    let largest = MESSAGE_BYTES_MAX - overhead;
    let exact = vec![0; largest];
    client.upload(iter([head(exact.len() as u64), data(&exact)])).await.expect("stored");
    let over = vec![0; largest + 1];
    let refused = client.upload(iter([head(over.len() as u64), data(&over)])).await;
    assert_told(refused, Kind::MessageTooLarge, None);
    assert_eq!(server.rest().size("f").await.expect("the old file"), largest as u64);
    let long = StatRequest { path: "x".repeat(MESSAGE_BYTES_MAX) };
    let refused = client.stat(long).await.expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // The connection still works.
    client.stat(StatRequest::default()).await.expect("the root");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let (server, client) = server("").await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let mut uploading = client.clone();
    let call = tokio::spawn(async move {
        uploading.upload(tokio_stream::wrappers::ReceiverStream::new(receiver)).await
    });
    for message in upload("a/f", &vec![1; 3 * MIB]) {
        sender.send(message).await.expect("it is read");
    }
    // More bytes than the flow-control windows hold, so the server has begun to read.
    for _ in 0..64 {
        sender.send(data(&vec![2; MIB])).await.expect("it is read");
    }
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    drop(client);
    let server = server.restart().await;
    assert_eq!(tree(&server.rest()).await, "");
}
