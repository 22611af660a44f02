//! `$/Content`: the bytes of a file, ranges of them, and their entity tag.

use imagestore::{error::Kind, wire::v1::StatRequest};

use crate::harness::{Answer, Driver, Server, copy, fill};

const TARGET: &str = "/ImageStore/a/f/$/Content";
const BYTES: &[u8] = b"0123456789";

async fn server() -> Server {
    let server = Server::start().await;
    server.rest().upload("a/f", BYTES).await.expect("stored");
    server
}

/// Checks the headers of every response with content.
fn assert_guarded(answer: &Answer) {
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    let disposition = answer.header("content-disposition").expect("a disposition");
    assert!(disposition.starts_with("attachment; "), "{disposition}");
}

#[tokio::test]
async fn a_file_is_downloaded() {
    let server = server().await;
    for target in [
        TARGET,
        "/ImageStore/a%2Ff/$/Content?api-version=1.0&timeout=9",
        "/ImageStore//a\\f/%24/Content",
    ] {
        let answer = server.http().get(target).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, BYTES), "{target}");
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_guarded(&answer);
        let entry = StatRequest { path: "a/f".to_owned() };
        let stat = server.client().await.stat(entry).await.expect("a file").into_inner();
        let etag = format!("\"{}\"", stat.entry.expect("an entry").etag);
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
    }
    // An HTML file is served only as an attachment.
    server.rest().upload("a/x.html", b"<script>").await.expect("stored");
    assert_guarded(&server.http().get("/ImageStore/a/x.html/$/Content").await);
    server.rest().upload("a/f", b"").await.expect("stored");
    let empty = server.http().get(TARGET).await;
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let server = server().await;
    let get = server.http().get(TARGET).await;
    let head = server.http().request("HEAD", TARGET).send_head().await;
    assert_eq!(head.status, 200);
    assert_guarded(&head);
    for name in ["content-length", "etag", "last-modified", "content-type", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
        assert!(head.header(name).is_some(), "{name}");
    }
    // A range applies only to GET.
    let head = server.http().request("HEAD", TARGET).header("Range", "bytes=0-1").send_head().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let none = server.http().request("HEAD", "/ImageStore/no/$/Content").send_head().await;
    assert_eq!(none.status, 404);
}

#[tokio::test]
async fn a_range_is_served() {
    let server = server().await;
    for (range, expected, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=9-99", "9", "bytes 9-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ("bytes=0-", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = server.http().request("GET", TARGET).header("Range", range).send().await;
        assert_eq!((answer.status, answer.text().as_str()), (206, expected), "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert_guarded(&answer);
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused() {
    let server = server().await;
    for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-"] {
        let answer = server.http().request("GET", TARGET).header("Range", range).send().await;
        let message = answer.assert_fault(Kind::UnsatisfiableRange);
        assert!(message.contains(range), "{message}");
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    }
}

#[tokio::test]
async fn a_range_that_is_none_or_many_asks_for_all() {
    let server = server().await;
    for range in ["bytes=0-1,4-5", "bytes=5-2", "items=0-1", "bytes", "bytes=a-b", "bytes=-"] {
        let answer = server.http().request("GET", TARGET).header("Range", range).send().await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, BYTES), "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
}

#[tokio::test]
async fn a_range_crosses_parts() {
    let server = Server::start().await;
    let bytes: Vec<u8> = (0..17_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    server.rest().upload("a/f", &bytes).await.expect("stored");
    for (from, to) in [(8_388_600, 8_388_620), (0, 16_999_999), (8_388_608, 16_777_216)] {
        let range = format!("bytes={from}-{to}");
        let answer = server.http().request("GET", TARGET).header("Range", &range).send().await;
        assert_eq!(answer.status, 206);
        assert!(answer.body == bytes[from..=to], "{range}");
    }
}

#[tokio::test]
async fn the_entity_tag_is_that_of_the_bytes() {
    let server = server().await;
    let store = server.rest();
    store.upload("b", BYTES).await.expect("stored");
    store.copy(&copy("a", "c")).await.expect("copied");
    let tag = async |path: &str| {
        let answer = server.http().get(&format!("/ImageStore/{path}/$/Content")).await;
        answer.header("etag").expect("a tag").to_owned()
    };
    let first = tag("a/f").await;
    assert_eq!(tag("b").await, first);
    assert_eq!(tag("c/f").await, first);
    store.upload("b", b"012345678X").await.expect("stored");
    assert_ne!(tag("b").await, first);
    store.upload("b", BYTES).await.expect("stored");
    assert_eq!(tag("b").await, first);
}

#[tokio::test]
async fn conditions_are_looked_at() {
    let server = server().await;
    let tag = server.http().get(TARGET).await.header("etag").expect("a tag").to_owned();
    let weak = format!("W/{tag}");
    let get = async |name: &str, value: &str| {
        server.http().request("GET", TARGET).header(name, value).send().await
    };
    for value in [tag.as_str(), &weak, "*", &format!("\"x\", {tag}")] {
        let answer = get("If-None-Match", value).await;
        assert_eq!((answer.status, answer.text().as_str()), (304, ""), "{value}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(get("If-None-Match", "\"x\"").await.status, 200);
    assert_eq!(get("If-Match", &tag).await.status, 200);
    get("If-Match", "\"x\"").await.assert_fault(Kind::PreconditionFailed);
    for (value, status) in [(tag.as_str(), 206), ("\"x\"", 200), (weak.as_str(), 200)] {
        let request = server.http().request("GET", TARGET).header("Range", "bytes=0-1");
        assert_eq!(request.header("If-Range", value).send().await.status, status, "{value}");
    }
    let head = server.http().request("HEAD", TARGET).header("If-None-Match", &tag);
    assert_eq!(head.send_head().await.status, 304);
}

#[tokio::test]
async fn only_a_file_has_content() {
    let server = server().await;
    fill(&server.rest(), "a/g/x=1").await;
    for path in ["no", "a", "a/g", "a/f/below", "a/F"] {
        let answer = server.http().get(&format!("/ImageStore/{path}/$/Content")).await;
        let message = answer.assert_fault(Kind::FileNotFound);
        assert!(message.contains(path), "{message}");
    }
}
