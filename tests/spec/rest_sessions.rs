//! Uploads in chunks, as only REST has them: the `Content-Range`, the forms of an empty file, and the
//! responses about unknown sessions.

use imagestore::error::Kind;

use crate::harness::{Answer, Driver, Server, tree};

const ID: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";

/// Sends a chunk with or without a `Content-Range`.
async fn chunk(server: &Server, range: Option<&str>, body: &[u8]) -> Answer {
    let target = format!("/ImageStore/a/f/$/UploadChunk?api-version=6.0&session-id={ID}");
    let mut request = server.http().request("PUT", &target);
    if let Some(range) = range {
        request = request.header("Content-Range", range);
    }
    request.body(body).send().await
}

async fn commit(server: &Server) -> Answer {
    let target = format!("/ImageStore/$/CommitUploadSession?api-version=6.0&session-id={ID}");
    server.http().post(&target, b"").await
}

#[tokio::test]
async fn a_range_has_some_spellings() {
    for range in ["bytes 0-2/3", "0-2/3", "  bytes   0-2/3 ", "bytes0-2/3"] {
        let server = Server::start().await;
        chunk(&server, Some(range), b"abc").await.assert_empty_ok();
        commit(&server).await.assert_empty_ok();
        assert_eq!(tree(&server.rest()).await, "a/f=abc", "{range}");
    }
}

#[tokio::test]
async fn a_file_of_no_bytes_has_three_forms() {
    for range in [None, Some("bytes 0-0/0"), Some("bytes */0")] {
        let server = Server::start().await;
        chunk(&server, range, b"").await.assert_empty_ok();
        let session = server.rest().session(ID).await.expect("a session");
        assert_eq!(session, Some(vec![]), "{range:?}");
        commit(&server).await.assert_empty_ok();
        assert_eq!(tree(&server.rest()).await, "a/f", "{range:?}");
    }
}

#[tokio::test]
async fn a_range_that_is_malformed_or_does_not_fit_is_refused() {
    let server = Server::start().await;
    for range in [
        "",
        "bytes",
        "bytes 0-2",
        "bytes 0-2/",
        "bytes 2-0/3",
        "bytes 0-3/3",
        "bytes 0-4/3",
        "bytes */3",
        "bytes 0-/3",
        "bytes -2/3",
        "bytes 0-2/*",
        "bytes a-b/c",
        "bytes=0-2/3",
        "bytes +0-2/3",
        "bytes 0-18446744073709551615/18446744073709551616",
        "bytes 1-1/0",
    ] {
        let message = chunk(&server, Some(range), b"abc").await.assert_fault(Kind::BadRange);
        assert!(message.contains(&format!("'{}'", range.trim())), "{message}");
    }
    assert_eq!(server.rest().session(ID).await.expect("none"), None, "nothing is stored");
}

#[tokio::test]
async fn a_body_of_another_length_than_its_range_is_refused() {
    let server = Server::start().await;
    for (range, body) in [
        (Some("bytes 0-2/9"), &b"ab"[..]),
        (Some("bytes 0-2/9"), b"abcd"),
        (Some("bytes 0-2/9"), b""),
        (Some("bytes */0"), b"a"),
        (None, b"a"),
    ] {
        chunk(&server, range, body).await.assert_fault(Kind::BadRange);
        // The same with a chunked body, which has no `Content-Length`.
        let target = format!("/ImageStore/a/f/$/UploadChunk?api-version=6.0&session-id={ID}");
        let mut request = server.http().request("PUT", &target);
        if let Some(range) = range {
            request = request.header("Content-Range", range);
        }
        let pieces: &[&[u8]] = if body.is_empty() { &[] } else { &[body] };
        request.chunked(pieces).send().await.assert_fault(Kind::BadRange);
    }
    // A body that breaks off.
    let head = format!(
        "PUT /ImageStore/a/f/$/UploadChunk?api-version=6.0&session-id={ID} HTTP/1.1\r\n\
         Host: localhost\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\nshort"
    );
    let mut connection = server.http().connect().await;
    connection.send(head.as_bytes()).await;
    connection.finish().await;
    assert!(!connection.rest().await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.rest().session(ID).await.expect("none"), None, "nothing is stored");
}

#[tokio::test]
async fn other_bytes_for_a_stored_range_are_told_as_upstream_tells_conflicts() {
    let server = Server::start().await;
    chunk(&server, Some("bytes 0-4/9"), b"hello").await.assert_empty_ok();
    let answer = chunk(&server, Some("bytes 0-4/9"), b"hallo").await;
    let message = answer.assert_fault(Kind::SessionConflict);
    assert!(message.contains(ID) && message.contains("0 to 4"), "{message}");
    let code = &answer.json()["Error"]["Code"];
    assert_eq!((answer.status, code), (409, &"FABRIC_E_UPLOAD_SESSION_ID_CONFLICT".into()));
    chunk(&server, Some("bytes 0-4/9"), b"hello").await.assert_empty_ok();
}

#[tokio::test]
async fn a_chunk_may_carry_a_digest() {
    let server = Server::start().await;
    let target = format!("/ImageStore/a/f/$/UploadChunk?api-version=6.0&session-id={ID}");
    let request = || server.http().request("PUT", &target).header("Content-Range", "bytes 0-4/5");
    let wrong = request().header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkQ==").body(b"hello");
    wrong.send().await.assert_fault(Kind::InvalidArgument);
    assert_eq!(server.rest().session(ID).await.expect("none"), None);
    let right = request().header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==").body(b"hello");
    right.send().await.assert_empty_ok();
}

#[tokio::test]
async fn a_session_that_is_not_there_has_four_answers() {
    let server = Server::start().await;
    let http = server.http();
    for target in [
        format!("/ImageStore/$/GetUploadSession?api-version=6.0&session-id={ID}"),
        "/ImageStore/a/$/GetUploadSession?api-version=6.0".to_owned(),
    ] {
        let answer = http.get(&target).await;
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{target}");
    }
    let delete = format!("/ImageStore/$/DeleteUploadSession?api-version=6.0&session-id={ID}");
    let answer = http.delete(&delete).await;
    answer.assert_fault(Kind::SessionNotFound);
    assert_eq!(answer.json()["Error"]["Code"], "NotFound");
    assert!(commit(&server).await.assert_fault(Kind::InvalidArgument).contains(ID));
}

#[tokio::test]
async fn a_malformed_session_id_is_told_as_upstream_does() {
    let server = Server::start().await;
    let http = server.http();
    for query in [
        "",
        "&session-id=",
        "&session-id=x",
        "&session-id={d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11}",
        "&session-id=d7d3d8c84d2a4b8e9c060e2f8f0f8b11",
        "&Session-Id=d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11",
    ] {
        let get = format!("/ImageStore/$/GetUploadSession?api-version=6.0{query}");
        http.get(&get).await.assert_fault(Kind::InvalidSessionId);
        let chunk = format!("/ImageStore/f/$/UploadChunk?api-version=6.0{query}");
        let request = http.request("PUT", &chunk).header("Content-Range", "bytes 0-0/1");
        request.body(b"1").send().await.assert_fault(Kind::InvalidSessionId);
        let commit = format!("/ImageStore/$/CommitUploadSession?api-version=6.0{query}");
        http.post(&commit, b"").await.assert_fault(Kind::InvalidArgument);
        let delete = format!("/ImageStore/$/DeleteUploadSession?api-version=6.0{query}");
        http.delete(&delete).await.assert_fault(Kind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_path_can_have_several_sessions() {
    let server = Server::start().await;
    let store = server.rest();
    let ids: Vec<String> =
        (1..=3).map(|i| format!("d7d3d8c8-4d2a-4b8e-9c06-00000000000{i}")).collect();
    for id in &ids {
        store.chunk(id, "a/f", (0, 2), b"1").await.expect("stored");
    }
    let answer = server.http().get("/ImageStore/a/f/$/GetUploadSession?api-version=6.0").await;
    let sessions = answer.json()["UploadSessions"].as_array().expect("sessions").clone();
    let found: Vec<_> = sessions.iter().map(|session| session["SessionId"].as_str()).collect();
    assert_eq!(found, ids.iter().map(|id| Some(id.as_str())).collect::<Vec<_>>());
    let other = server.http().get("/ImageStore/a/F/$/GetUploadSession?api-version=6.0").await;
    assert_eq!(other.status, 204);
}
