//! Packages over REST and gRPC: the headers of the archive, its entries, and what has no package.

use std::{collections::BTreeMap, io::Read as _};

use flate2::{Crc, read::DeflateDecoder};
use imagestore::{
    error::Kind,
    wire::v1::{
        Compression, DownloadPackageRequest, PackageHeader, download_package_response::Payload,
    },
};

use crate::{
    grpc_wire::kind,
    harness::{Answer, Client, Driver, Server, fill},
};

/// Reads a field of `bytes` bytes.
fn number(archive: &[u8], at: usize, bytes: usize) -> usize {
    archive[at..at + bytes].iter().rev().fold(0, |number, byte| number * 256 + usize::from(*byte))
}

/// The entries of an archive by its directory, in order: name, method, and bytes, whose checksum is right.
fn entries(archive: &[u8]) -> Vec<(String, usize, Vec<u8>)> {
    let end = archive.len() - 22;
    assert_eq!(archive[end..end + 4], *b"PK\x05\x06", "the end of an archive");
    let (count, size, mut at) =
        (number(archive, end + 10, 2), number(archive, end + 12, 4), number(archive, end + 16, 4));
    assert_eq!(at + size, end);
    let mut found = Vec::new();
    while at < end {
        assert_eq!(archive[at..at + 4], *b"PK\x01\x02");
        let (method, crc) = (number(archive, at + 10, 2), number(archive, at + 16, 4));
        let (packed, size) = (number(archive, at + 20, 4), number(archive, at + 24, 4));
        let (name, extra) = (number(archive, at + 28, 2), number(archive, at + 30, 2));
        let local = number(archive, at + 42, 4);
        let text = String::from_utf8(archive[at + 46..at + 46 + name].to_vec()).expect("UTF-8");
        assert_eq!(archive[local..local + 4], *b"PK\x03\x04", "{text}");
        let begin = local + 30 + number(archive, local + 26, 2) + number(archive, local + 28, 2);
        let packed = &archive[begin..begin + packed];
        let mut bytes = Vec::new();
        match method {
            0 => bytes.extend_from_slice(packed),
            8 => {
                DeflateDecoder::new(packed).read_to_end(&mut bytes).expect("deflated");
            }
            other => panic!("{text} has the method {other}"),
        }
        let mut sum = Crc::new();
        sum.update(&bytes);
        assert_eq!((sum.sum() as usize, bytes.len()), (crc, size), "{text}");
        found.push((text, method, bytes));
        at += 46 + name + extra;
    }
    assert_eq!(found.len(), count);
    found
}

fn names(archive: &[u8]) -> String {
    let names: Vec<_> = entries(archive).into_iter().map(|(name, ..)| name).collect();
    names.join(" ")
}

const TARGET: &str = "/Packages/a/App.sfpkg";

async fn server() -> Server {
    let server = Server::start().await;
    let files =
        "a/App/b/y=2 a/App/B/x=1 a/App/_.dir a/App/z/_.dir a/App/z/e/_.dir a/App/c= a/Other/x=3";
    fill(&server.rest(), files).await;
    let large: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    server.rest().upload("a/App/large", &large).await.expect("stored");
    server
}

const NAMES: &str = "B/x b/y c large z/e/";

fn assert_guarded(answer: &Answer) {
    for (name, value) in [
        ("content-type", "application/zip"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("accept-ranges", "none"),
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment; filename=\"App.sfpkg\"; filename*=UTF-8''App.sfpkg"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
}

#[tokio::test]
async fn a_folder_is_an_archive_in_the_order_of_listings() {
    let server = server().await;
    let plain = server.http().get(TARGET).await;
    assert_eq!(plain.status, 200);
    assert_guarded(&plain);
    assert_eq!(plain.header("content-length"), Some(plain.body.len().to_string().as_str()));
    assert_eq!(names(&plain.body), NAMES);
    let found: BTreeMap<_, _> = entries(&plain.body)
        .into_iter()
        .map(|(name, method, bytes)| (name, (method, bytes)))
        .collect();
    assert_eq!(found["b/y"], (0, b"2".to_vec()));
    assert_eq!(found["z/e/"], (0, Vec::new()));
    assert_eq!((found["large"].0, found["large"].1.len()), (8, 200_000));
    let again = server.http().get("/Packages/a/App.sfpkg?compress=none").await;
    assert!(plain.body == again.body && plain.header("etag") == again.header("etag"));

    let packed = server.http().get("/Packages/a/App.sfpkg?compress=deflate").await;
    assert_guarded(&packed);
    assert_eq!((packed.status, packed.header("content-length")), (200, None));
    assert!(packed.body.len() < plain.body.len() / 2, "{}", packed.body.len());
    let again = server.http().get("/Packages/a/App.sfpkg?compress=deflate").await;
    assert!(packed.body == again.body, "the same bytes");
    assert_ne!(packed.header("etag"), plain.header("etag"));
    let bytes = |archive: &[u8]| {
        entries(archive).into_iter().map(|(name, _, bytes)| (name, bytes)).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&packed.body), bytes(&plain.body));

    // The path may be encoded, and the other suffix gives the same bytes.
    let other = server.http().get("/Packages/a%2FApp.zip").await;
    assert!(other.body == plain.body);
    let name = other.header("content-disposition").expect("a name");
    assert!(name.starts_with("attachment; filename=\"App.zip\""), "{name}");
}

#[tokio::test]
async fn head_and_conditions_need_no_bytes() {
    let server = server().await;
    for query in ["", "?compress=deflate"] {
        let target = format!("{TARGET}{query}");
        let get = server.http().get(&target).await;
        let head = server.http().request("HEAD", &target).send_head().await;
        assert_eq!(head.status, 200);
        assert_guarded(&head);
        let etag = get.header("etag").expect("a tag").to_owned();
        assert!(etag.starts_with('"'), "a strong tag: {etag}");
        assert_eq!(head.header("etag"), Some(etag.as_str()));
        assert_eq!(head.header("content-length"), get.header("content-length"));
        let known = server.http().request("GET", &target).header("If-None-Match", &etag);
        let known = known.send().await;
        assert_eq!((known.status, known.header("etag")), (304, Some(etag.as_str())));
        let other = server.http().request("GET", &target).header("If-Match", "\"other\"");
        other.send().await.assert_fault(Kind::PreconditionFailed);
        // A write elsewhere does not change the package.
        server.rest().upload("a/Other/x", b"4").await.expect("stored");
        let same = server.http().request("HEAD", &target).send_head().await;
        assert_eq!(same.header("etag"), Some(etag.as_str()));
        server.rest().upload("a/App/c", b"4").await.expect("stored");
        let changed = server.http().request("GET", &target).header("If-None-Match", &etag);
        let changed = changed.send().await;
        assert_eq!((changed.status, names(&changed.body).as_str()), (200, NAMES));
        assert_ne!(changed.header("etag"), Some(etag.as_str()));
    }
}

#[tokio::test]
async fn what_has_no_package_is_refused() {
    let server = server().await;
    for (target, kind, message) in [
        ("/Packages/no.zip", Kind::FolderNotFound, "there is no folder \"no\""),
        ("/Packages/a/App/c.zip", Kind::FolderNotFound, "is a file, and a package is a folder"),
        ("/Packages/a/App", Kind::InvalidArgument, "add '.sfpkg' or '.zip' to the path"),
        ("/Packages/.zip", Kind::InvalidArgument, "names nothing below the root"),
        ("/Packages/a/App.zip?compress=gzip", Kind::InvalidArgument, "compress is 'gzip'"),
        ("/packages/a/App.zip", Kind::InvalidArgument, "'packages' is written 'Packages'"),
        (
            "/Packages/a/$/Content",
            Kind::InvalidArgument,
            "there is no call 'GET /Packages/a/$/Content'",
        ),
    ] {
        let answer = server.http().get(target).await;
        let found = answer.assert_fault(kind);
        assert!(found.contains(message), "{target}: {found}");
    }
    let put = server.http().request("PUT", TARGET).body(b"x").send().await;
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

async fn package(
    client: &mut Client,
    request: DownloadPackageRequest,
) -> Result<(PackageHeader, Vec<u8>), tonic::Status> {
    let mut messages = client.download_package(request).await?.into_inner();
    let first = messages.message().await?.expect("a message").payload;
    let Some(Payload::Header(header)) = first else { panic!("no header") };
    let mut all = Vec::new();
    while let Some(message) = messages.message().await? {
        let Some(Payload::Data(data)) = message.payload else { panic!("no data") };
        all.extend_from_slice(&data);
    }
    Ok((header, all))
}

#[tokio::test]
async fn grpc_sends_the_same_bytes() {
    let server = server().await;
    let mut client = server.client().await;
    for (compression, query) in [
        (Compression::Unspecified, ""),
        (Compression::None, ""),
        (Compression::Deflate, "?compress=deflate"),
    ] {
        let request =
            DownloadPackageRequest { path: "a\\App".to_owned(), compression: compression.into() };
        let (header, bytes) = package(&mut client, request).await.expect("a package");
        let answer = server.http().get(&format!("{TARGET}{query}")).await;
        assert!(bytes == answer.body, "{compression:?}");
        assert_eq!(Some(format!("\"{}\"", header.etag).as_str()), answer.header("etag"));
        let length = answer.header("content-length").map(str::to_owned);
        assert_eq!(header.size_bytes.map(|size| size.to_string()), length);
    }
    for (path, compression, expected) in [
        ("no", 0, Kind::FolderNotFound),
        ("", 0, Kind::InvalidArgument),
        ("a/App", 9, Kind::InvalidArgument),
    ] {
        let request = DownloadPackageRequest { path: path.to_owned(), compression };
        assert_eq!(kind(package(&mut client, request).await), expected, "{path}");
    }
}
