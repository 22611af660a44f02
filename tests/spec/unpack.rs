//! `unpack`: an uploaded ZIP archive becomes a folder, over both interfaces.

use std::io::{Cursor, Write};

use imagestore::{
    error::Kind,
    wire::v1::{IfExists, UploadFinish, UploadHeader, UploadRequest, upload_request::Payload},
};
use tokio_stream::iter;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::{
    grpc::{assert_told, path, server},
    harness::{Driver, Server, fill, tree},
};

/// An archive of files, each `PATH=TEXT`.
fn pack(files: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files.split_whitespace() {
        let (name, text) = file.split_once('=').unwrap_or((file, ""));
        zip.start_file(name, SimpleFileOptions::default()).expect("a file");
        zip.write_all(text.as_bytes()).expect("a text");
    }
    zip.finish().expect("an archive").into_inner()
}

fn header(to: &str) -> UploadHeader {
    UploadHeader { path: path(to), unpack: true, ..UploadHeader::default() }
}

/// The messages of an upload of an archive.
fn messages(header: UploadHeader, archive: &[u8]) -> Vec<UploadRequest> {
    let data = archive.chunks(100).map(|data| Payload::Data(data.to_vec().into()));
    let payloads = [Payload::Header(header)].into_iter().chain(data);
    payloads.map(|payload| UploadRequest { payload: Some(payload) }).collect()
}

#[tokio::test]
async fn an_archive_becomes_a_folder_over_grpc() {
    let (server, mut client) = server("to/old=1").await;
    let archive = pack("a=hello b/c=world b/d");
    let stored = client.upload(iter(messages(header("to"), &archive))).await.expect("stored");
    let stored = stored.into_inner();
    let entry = stored.entry.expect("an entry");
    assert_eq!((entry.path.as_str(), entry.file_count, entry.size_bytes), ("to", 3, 10));
    assert_eq!(stored.files_replaced, 1);
    assert_eq!(tree(&server.rest()).await, "to/a=hello to/b/c=world to/b/d");
    // With marks, and with the size and the digest of the archive.
    let sent = UploadHeader {
        size_bytes: Some(archive.len() as u64),
        blake3: blake3::hash(&archive).to_string(),
        ends_with_finish: true,
        mark: true,
        ..header("to")
    };
    let mut marked = messages(sent, &archive);
    let finish = UploadFinish {
        size_bytes: Some(archive.len() as u64),
        blake3: blake3::hash(&archive).to_string(),
    };
    marked.push(UploadRequest { payload: Some(Payload::Finish(finish)) });
    client.upload(iter(marked)).await.expect("stored");
    assert_eq!(tree(&server.rest()).await, "to/_.dir to/a=hello to/b/_.dir to/b/c=world to/b/d");
}

#[tokio::test]
async fn an_archive_that_is_refused_changes_nothing() {
    let (server, mut client) = server("file=1 to/old=1").await;
    let archive = pack("a=hello");
    let mut told = async |header: UploadHeader, archive: &[u8], kind, field| {
        let stored = client.upload(iter(messages(header, archive))).await;
        assert_told(stored, kind, field);
    };
    told(header("to"), b"no archive", Kind::InvalidArgument, Some("archive")).await;
    let climbs = pack("a=1");
    let climbs: Vec<u8> =
        climbs.iter().map(|byte| if *byte == b'a' { b'$' } else { *byte }).collect();
    told(header("to"), &climbs, Kind::InvalidArgument, Some("archive")).await;
    told(header("file"), &archive, Kind::AlreadyExists, Some("path")).await;
    told(header("file/below"), &archive, Kind::AlreadyExists, Some("path")).await;
    told(header("Store"), &archive, Kind::Reserved, Some("path")).await;
    told(header(""), &archive, Kind::InvalidArgument, Some("path")).await;
    let other = UploadHeader { blake3: blake3::hash(b"other").to_string(), ..header("to") };
    told(other, &archive, Kind::DataLoss, Some("blake3")).await;
    let short = UploadHeader { size_bytes: Some(1), ..header("to") };
    told(short, &archive, Kind::DataLoss, Some("size_bytes")).await;
    let only_new = UploadHeader { if_none_match: vec![path("*")], ..header("to") };
    told(only_new, &archive, Kind::PreconditionFailed, Some("if_none_match")).await;
    let no_archive = UploadHeader { unpack: false, mark: true, ..header("to") };
    told(no_archive, &archive, Kind::InvalidArgument, Some("mark")).await;
    let unfinished = UploadHeader { ends_with_finish: true, ..header("to") };
    told(unfinished, &archive, Kind::DataLoss, Some("finish")).await;
    assert_eq!(tree(&server.rest()).await, "file=1 to/old=1");
    let over = UploadHeader { if_exists: IfExists::Overwrite.into(), ..header("file") };
    client.upload(iter(messages(over, &archive))).await.expect("stored");
    assert_eq!(tree(&server.rest()).await, "file/a=hello to/old=1");
}

#[tokio::test]
async fn an_archive_becomes_a_folder_over_rest() {
    let server = Server::start().await;
    let http = server.http();
    let archive = pack("a=hello b/c=world");
    let put = async |query: &str| {
        http.put(&format!("/ImageStore/to?api-version=6.0&{query}"), &archive).await
    };
    put("unpack=true").await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "to/a=hello to/b/c=world");
    let again = put("unpack=true&mark=true").await;
    assert_eq!(again.header("files-replaced"), Some("2"));
    assert_eq!(tree(&server.rest()).await, "to/_.dir to/a=hello to/b/_.dir to/b/c=world");
    for (query, says) in [
        ("unpack=yes", "unpack is 'yes'"),
        ("unpack=", "unpack is ''"),
        ("unpack=true&mark=1", "mark is '1'"),
        ("mark=true", "mark is for an archive"),
    ] {
        let message = put(query).await.assert_fault(Kind::InvalidArgument);
        assert!(message.contains(says), "{query}: {message}");
    }
    // Without it the archive is a file, which does not replace the folder.
    put("unpack=false").await.assert_fault(Kind::AlreadyExists);
    put("unpack=false&if-exists=Overwrite").await;
    assert_eq!(server.rest().download("to").await.expect("the archive"), archive);
    http.put("/ImageStore/x?api-version=6.0&unpack=true", b"PK")
        .await
        .assert_fault(Kind::InvalidArgument);
}

#[tokio::test]
async fn copies_and_archives_see_each_other() {
    let server = Server::start().await;
    fill(&server.rest(), "base/a=1").await;
    let archive = pack("b=2");
    server
        .http()
        .put("/ImageStore/v1?api-version=6.0&unpack=true", &archive)
        .await
        .assert_empty_ok();
    let copied = server.rest().copy(&crate::harness::copy("v1", "base")).await;
    copied.expect("copied");
    assert_eq!(tree(&server.rest()).await, "base/b=2 v1/b=2");
    let server = server.restart().await;
    assert_eq!(tree(&server.rest()).await, "base/b=2 v1/b=2");
}
