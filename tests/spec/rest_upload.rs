//! `PUT /ImageStore/{path}`: a file is stored whole or not at all.

use base64::{Engine, engine::general_purpose::STANDARD};
use imagestore::{error::Kind, limits::REST_BODY_BYTES_MAX};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::harness::{Driver, Server, fill, tree};

const PUT: &str = "/ImageStore/a/f?api-version=6.0";

#[tokio::test]
async fn a_body_may_say_its_length_or_not() {
    let server = Server::start().await;
    let (http, store) = (server.http(), server.rest());
    let check = async |expected: &[u8]| {
        assert_eq!(store.download("a/f").await.expect("the bytes"), expected);
        assert_eq!(store.list("a").await.expect("a listing")[0].size, expected.len() as u64);
    };
    http.put(PUT, b"one").await.assert_empty_ok();
    check(b"one").await;
    http.request("PUT", PUT).chunked(&[b"t", b"wo"]).send().await.assert_empty_ok();
    check(b"two").await;
    http.put(PUT, b"").await.assert_empty_ok();
    check(b"").await;
    http.put(PUT, b"three").await.assert_empty_ok();
    // sfctl sends an empty file in this form.
    http.request("PUT", PUT).chunked(&[]).send().await.assert_empty_ok();
    check(b"").await;
    http.put(PUT, b"four").await.assert_empty_ok();
    http.request("PUT", PUT).send().await.assert_empty_ok();
    check(b"").await;
    // More than one gRPC message, and more than one part.
    let large: Vec<u8> = (0..9_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    http.put(PUT, &large).await.assert_empty_ok();
    check(&large).await;
    http.request("PUT", PUT)
        .chunked(&[&large[..100], &large[100..]])
        .send()
        .await
        .assert_empty_ok();
    check(&large).await;
}

#[tokio::test]
async fn any_content_type_is_taken() {
    let server = Server::start().await;
    for kind in ["text/json", "application/octet-stream", "application/x-www-form-urlencoded", ""] {
        let request = server.http().request("PUT", PUT).header("Content-Type", kind);
        request.body(kind.as_bytes()).send().await.assert_empty_ok();
        assert_eq!(server.rest().download("a/f").await.expect(kind), kind.as_bytes());
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_leaves_nothing() {
    let server = Server::start().await;
    fill(&server.rest(), "a/old=1").await;
    for begin in [
        "Content-Length: 10\r\n\r\nshort".to_owned(),
        "Content-Length: 10\r\n\r\n".to_owned(),
        format!("Content-Length: 200000\r\n\r\n{}", "x".repeat(100_000)),
        "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n5\r\nsh".to_owned(),
    ] {
        for target in ["/ImageStore/a/f", "/ImageStore/a/old"] {
            let head =
                format!("PUT {target}?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\n{begin}");
            let mut connection = server.http().connect().await;
            connection.send(head.as_bytes()).await;
            connection.finish().await;
            // The server closes the connection after it has handled the request.
            let rest = connection.rest().await;
            assert!(!rest.starts_with(b"HTTP/1.1 200"), "{target} {begin:.40}");
            assert_eq!(tree(&server.rest()).await, "a/old=1", "{target} {begin:.40}");
        }
    }
    let server = server.restart().await;
    assert_eq!(tree(&server.rest()).await, "a/old=1");
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_leaves_nothing() {
    let server = Server::start().await;
    let head = "PUT /ImageStore/a?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\n";
    for body in
        ["Content-Length: 9\r\n\r\nshort", "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"]
    {
        let mut connection = server.http().connect().await;
        connection.send(format!("{head}{body}").as_bytes()).await;
        connection.reset();
    }
    // A stop of the server waits for running requests.
    let server = server.restart().await;
    assert_eq!(tree(&server.rest()).await, "");
}

#[tokio::test]
async fn a_digest_must_be_that_of_the_body() {
    let server = Server::start().await;
    let md5 = STANDARD.encode(Md5::digest(b"hello"));
    let sha = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(b"hello")));
    let other = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(b"other")));
    let both = format!("sha-512=:AAAA:, {sha}");
    let put = async |name: &str, value: &str| {
        server.http().request("PUT", PUT).header(name, value).body(b"hello").send().await
    };
    for (name, value) in [
        ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkQ=="),
        ("Content-Digest", &other),
        ("Content-MD5", "hello"),
        ("Content-MD5", ""),
        ("Content-Digest", "sha-256=hello"),
        ("Content-Digest", "sha-256=:aGVsbG8=:"),
        ("Content-Digest", "sha-256"),
    ] {
        let message = put(name, value).await.assert_fault(Kind::InvalidArgument);
        assert!(message.contains(name), "{message}");
        assert_eq!(tree(&server.rest()).await, "", "{name} {value}");
    }
    for (name, value) in
        [("Content-MD5", &md5), ("Content-Digest", &sha), ("Content-Digest", &both)]
    {
        put(name, value).await.assert_empty_ok();
        assert_eq!(tree(&server.rest()).await, "a/f=hello");
        server.rest().delete("a").await.expect("deleted");
    }
}

#[tokio::test]
async fn a_refused_body_is_read_so_that_its_client_gets_the_answer() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let large = vec![7; 20 << 20];
    for (target, kind) in [
        ("/ImageStore/a?api-version=6.0", Kind::AlreadyExists),
        ("/ImageStore/a/f/below?api-version=6.0", Kind::AlreadyExists),
        ("/ImageStore/..?api-version=6.0", Kind::InvalidArgument),
        ("/ImageStore/b", Kind::InvalidArgument),
        ("/ImageStore/a/$/Nothing?api-version=6.0", Kind::InvalidArgument),
    ] {
        server.http().put(target, &large).await.assert_fault(kind);
        let answer = server.http().request("PUT", target).chunked(&[&large]).send().await;
        answer.assert_fault(kind);
    }
    assert_eq!(tree(&server.rest()).await, "a/f=1");
}

#[tokio::test]
async fn a_post_or_delete_body_is_bounded() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1").await;
    let copy = br#"{"RemoteSource":"a","RemoteDestination":"b"}"#;
    let mut body = copy.to_vec();
    body.resize(REST_BODY_BYTES_MAX, b' ');
    let target = "/ImageStore/$/Copy?api-version=6.0";
    server.http().post(target, &body).await.assert_empty_ok();
    body.push(b' ');
    for (method, target) in [("POST", target), ("DELETE", "/ImageStore/a?api-version=6.0")] {
        let answer = server.http().request(method, target).body(&body).send().await;
        answer.assert_fault(Kind::MessageTooLarge);
        let (first, rest) = body.split_at(1000);
        let answer = server.http().request(method, target).chunked(&[first, rest]).send().await;
        answer.assert_fault(Kind::MessageTooLarge);
    }
    assert_eq!(tree(&server.rest()).await, "a=1 b=1");
    let delete = server.http().request("DELETE", "/ImageStore/a?api-version=6.0").body(b"ignored");
    delete.send().await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "b=1");
}

#[tokio::test]
async fn a_copy_body_that_is_wrong_says_where() {
    let server = Server::start().await;
    fill(&server.rest(), "a=1 b=2").await;
    for (body, names) in [
        ("", "its end"),
        ("[]", "["),
        ("null", "null"),
        ("{}", "RemoteSource"),
        (r#"{"RemoteSource":"a"}"#, "RemoteDestination"),
        (r#"{"RemoteDestination":"a"}"#, "RemoteSource"),
        (r#"{"remotesource":"a","RemoteDestination":"b"}"#, "RemoteSource"),
        (r#"{"RemoteSource":"a","RemoteDestination":null}"#, "RemoteDestination"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b""#, "its end"),
        (r#"{"RemoteSource":["a"],"RemoteDestination":"b"}"#, "RemoteSource"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","CheckMarkFile":"true"}"#, "CheckMarkFile"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","CheckMarkFile":1}"#, "CheckMarkFile"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","SkipFiles":"x"}"#, "SkipFiles"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","SkipFiles":[null]}"#, "SkipFiles"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","CopyFlag":"echo"}"#, "CopyFlag"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","CopyFlag":true}"#, "CopyFlag"),
        (r#"{"RemoteSource":"a","RemoteDestination":"b","Verify":"yes"}"#, "Verify"),
        (r#"{"RemoteSource":"a\u0001b","RemoteDestination":"b"}"#, "source"),
        ("\u{feff}[]", "byte 3"),
        ("{\u{feff}}", "byte 1"),
    ] {
        let answer =
            server.http().post("/ImageStore/$/Copy?api-version=1.0", body.as_bytes()).await;
        let message = answer.assert_fault(Kind::InvalidArgument);
        assert!(message.contains(names), "{body}: {message}");
    }
    assert_eq!(tree(&server.rest()).await, "a=1 b=2");
}

#[tokio::test]
async fn a_copy_flag_has_many_spellings() {
    let server = Server::start().await;
    let store = server.rest();
    for (flag, expected) in [
        ("2", "a=1 b=1"),
        ("\"Overwrite\"", "a=1 b=1"),
        ("\"2\"", "a=1 b=1"),
        ("null", "a=1 b=1"),
        ("1", "a=1 b=2"),
        ("\"Echo\"", "a=1 b=2"),
        ("0", "a=1 b=2"),
        ("\"Invalid\"", "a=1 b=2"),
        ("7", "a=1 b=2"),
    ] {
        fill(&store, "a=1 b=2").await;
        let body = format!(r#"{{"RemoteSource":"a","RemoteDestination":"b","CopyFlag":{flag}}}"#);
        let target = "/ImageStore/$/Copy?api-version=6.0";
        server.http().post(target, body.as_bytes()).await.assert_empty_ok();
        assert_eq!(tree(&store).await, expected, "{flag}");
    }
}
