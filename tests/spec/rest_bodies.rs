//! The framing of a request body: chunked and other encodings, and two lengths; and when the server asks for
//! the body.

use imagestore::{error::Kind, limits::INLINE_BYTES_MAX};

use crate::harness::{Answer, Driver, Server, fill, tree};

const PUT: &str = "/ImageStore/a/f?api-version=6.0";
const COPY: &str = "/ImageStore/$/Copy?api-version=6.0";
const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
const BODY: &[u8] = br#"{"RemoteSource":"a","RemoteDestination":"b"}"#;

/// The request target of a chunk.
fn chunk(path: &str) -> String {
    format!("/ImageStore/{path}/$/UploadChunk?api-version=6.0&session-id={SESSION}")
}

#[tokio::test]
async fn a_piece_does_not_replace_the_whole() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=whole").await;
    for range in
        ["bytes 3-4/5", "bytes 0-1/2", "", "bytes", "bytes 9-0/10", "bytes */10", "x 0-1/2"]
    {
        let put = server.http().request("PUT", PUT).header("Content-Range", range);
        let message = put.body(b"le").send().await.assert_fault(Kind::BadRange);
        assert!(message.contains("UploadChunk"), "{message}");
        assert!(message.contains(&format!("'{range}'")), "{message}");
    }
    assert_eq!(tree(&server.rest()).await, "a/f=whole");
}

#[tokio::test]
async fn an_encoded_body_is_not_taken_for_its_bytes() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let (http, chunk) = (server.http(), chunk("c"));
    let requests = || {
        [
            http.request("PUT", PUT).body(b"2"),
            http.request("PUT", &chunk).header("Content-Range", "bytes 0-0/1").body(b"2"),
            http.request("POST", COPY).body(BODY),
        ]
    };
    for encoding in ["gzip", "identity, gzip", "identity\r\nContent-Encoding: br", "unknown"] {
        for request in requests() {
            let answer = request.header("Content-Encoding", encoding).send().await;
            answer.assert_fault(Kind::UnsupportedEncoding);
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
        }
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1");
    assert_eq!(server.rest().session(SESSION).await.expect("none"), None);
    for encoding in ["identity", "", "IDENTITY\r\nContent-Encoding: , identity"] {
        for request in requests() {
            request.header("Content-Encoding", encoding).send().await.assert_empty_ok();
        }
    }
    assert_eq!(tree(&server.rest()).await, "a/f=2 b/f=2");
}

/// Pipelines requests on one connection, and returns the responses. The connection must close after the last
/// one.
async fn pipelined(server: &Server, bytes: &[u8], answers: usize) -> Vec<Answer> {
    let mut connection = server.http().connect().await;
    connection.send(bytes).await;
    let mut all = Vec::new();
    for _ in 0..answers {
        all.push(connection.answer().await);
    }
    assert_eq!(all.last().expect("one").header("connection"), Some("close"));
    assert_eq!(connection.rest().await, b"");
    all
}

#[tokio::test]
async fn a_body_with_two_ends_or_another_coding_is_refused_and_ends_its_connection() {
    let server = Server::start().await;
    let http = server.http();
    fill(&server.rest(), "a/f=1").await;
    let put = |headers: &[(&str, &str)]| {
        let mut request = http.request("PUT", PUT);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // A proxy that reads the body by its length finds a second, hidden request here.
        let hidden = "DELETE /ImageStore/a?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        [request.head().as_bytes(), b"1\r\nx\r\n0\r\n\r\n", hidden.as_bytes()].concat()
    };
    let before = [
        http.request("GET", "/health/live").bytes(),
        http.request("PUT", "/ImageStore/b?api-version=6.0").chunked(&[b"1", b"\r\n\r\n"]).bytes(),
        http.request("PUT", "/ImageStore/c?api-version=6.0").body(b"GET / HTTP/1.1\r\n").bytes(),
    ]
    .concat();
    let (te, cl) = ("Transfer-Encoding", "Content-Length");
    for (headers, kind, names) in [
        (&[(te, "chunked"), (cl, "11")][..], Kind::InvalidArgument, "Content-Length"),
        (&[(cl, "11"), (te, "chunked")], Kind::InvalidArgument, "Content-Length"),
        (&[("transfer-ENCODING", "chunked"), ("content-length", "0")], Kind::InvalidArgument, ""),
        (&[(te, "chunked, chunked")], Kind::InvalidArgument, "twice"),
        (&[(te, "chunked"), (te, "chunked")], Kind::InvalidArgument, "twice"),
        (&[(te, "gzip, chunked")], Kind::Unimplemented, "'gzip'"),
        (&[(te, "deflate"), (te, "chunked")], Kind::Unimplemented, "'deflate'"),
    ] {
        let answers = pipelined(&server, &put(headers), 1).await;
        let message = answers[0].assert_fault(kind);
        assert!(message.contains(names), "{message}");
        // The same behind valid requests, all of which are read correctly.
        let answers = pipelined(&server, &[&before[..], &put(headers)].concat(), 4).await;
        assert!(answers[..3].iter().all(|answer| answer.status == 200), "{answers:?}");
        answers[3].assert_fault(kind);
        let stored = tree(&server.rest()).await;
        assert_eq!(stored, "a/f=1 b=1\r\n\r\n c=GET / HTTP/1.1\r\n", "{headers:?}");
    }
}

#[tokio::test]
async fn nothing_is_served_after_a_length_with_many_zeros() {
    let server = Server::start().await;
    let zeros = "0".repeat(300);
    let head =
        |path| format!("PUT /ImageStore/{path}?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\n");
    // A parser that reads this length differently finds the next head elsewhere.
    let hidden = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let sized = format!("{}Content-Length: {zeros}5\r\n\r\nX\r\n\r\n", head("a"));
    let answers = pipelined(&server, format!("{sized}{}{hidden}", head("b")).as_bytes(), 1).await;
    answers[0].assert_fault(Kind::InvalidArgument);
    let chunked = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n{zeros}5\r\nX\r\n\r\n\r\n0\r\n\r\n",
        head("a")
    );
    let answers = pipelined(&server, format!("{chunked}{}{hidden}", head("b")).as_bytes(), 2).await;
    answers[0].assert_empty_ok();
    answers[1].assert_fault(Kind::InvalidArgument);
    assert_eq!(tree(&server.rest()).await, "a=X\r\n\r\n");
}

#[tokio::test]
async fn a_copy_body_may_begin_with_a_byte_order_mark() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let marked = [b"\xef\xbb\xbf", BODY].concat();
    server.http().post(COPY, &marked).await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "a=1 b=1");
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_asked_for_once_its_head_is_judged() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let (http, expect) = (server.http(), "100-continue");
    for request in [
        http.request("PUT", PUT).body(b"abc"),
        http.request("PUT", &chunk("c")).header("Content-Range", "bytes 0-2/3").body(b"abc"),
        http.request("POST", COPY).body(BODY),
    ] {
        let request = request.header("Expect", expect);
        let (head, bytes) = (request.head(), request.bytes());
        let mut connection = http.connect().await;
        connection.send(head.as_bytes()).await;
        assert_eq!(connection.head().await.status, 100, "{head}");
        connection.send(&bytes[head.len()..]).await;
        connection.answer().await.assert_empty_ok();
    }
    assert_eq!(tree(&server.rest()).await, "a/f=abc b/f=abc");
    for (method, target, headers, kind) in [
        ("PUT", "/ImageStore/a?api-version=0.9", &[][..], Kind::InvalidArgument),
        ("PUT", "/ImageStore/a?api-version=6.0", &[], Kind::AlreadyExists),
        ("PUT", "/ImageStore/a/f/g?api-version=6.0", &[], Kind::AlreadyExists),
        ("PUT", "/ImageStore/..?api-version=6.0", &[], Kind::InvalidArgument),
        ("PUT", PUT, &[("If-Match", "x")], Kind::InvalidArgument),
        ("PUT", PUT, &[("Content-Encoding", "gzip")], Kind::UnsupportedEncoding),
        ("PUT", &chunk(".."), &[("Content-Range", "bytes 0-2/3")], Kind::InvalidArgument),
        ("PUT", &chunk("d"), &[("Content-Range", "bytes 0-2/3")], Kind::SessionConflict),
        ("PUT", &chunk("c"), &[("Content-Range", "bytes 0-3/3")], Kind::BadRange),
        ("POST", COPY, &[("Content-Encoding", "gzip")], Kind::UnsupportedEncoding),
        ("POST", COPY, &[("If-Match", "x")], Kind::InvalidArgument),
    ] {
        let mut request = http.request(method, target).header("Expect", expect);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // A path is judged with the head, unless the body is so small that it is judged with the body.
        let is_large = kind == Kind::AlreadyExists;
        let body = if is_large { vec![b'a'; INLINE_BYTES_MAX + 1] } else { b"abc".to_vec() };
        let mut connection = http.connect().await;
        connection.send(request.body(&body).head().as_bytes()).await;
        // The first response is the final one, without a `100 Continue` before it.
        connection.answer().await.assert_fault(kind);
    }
    assert_eq!(tree(&server.rest()).await, "a/f=abc b/f=abc");
}
