//! What keeps a web page of elsewhere from acting on a store of this machine (DESIGN 5.2).

use imagestore::{error::Kind, wire::v1::DeleteRequest};
use prost::Message;

use crate::harness::{Driver, Server, tree};

const PUT: &str = "/ImageStore/a?api-version=6.0";

#[tokio::test]
async fn a_write_from_another_origin_is_forbidden() {
    let server = Server::start().await;
    let host = server.address.to_string();
    let other_port = format!("http://127.0.0.1:{}", server.address.port() ^ 1);
    for origin in ["http://evil.example", "https://127.0.0.1", "null", "file://", "", &other_port] {
        for (method, target) in [
            ("PUT", PUT),
            ("DELETE", PUT),
            ("POST", "/ImageStore/$/Copy?api-version=6.0"),
            ("PUT", "/ImageStore/a/$/UploadChunk?api-version=6.0"),
            ("POST", "/ImageStore/$/Operations/x/$/Cancel"),
        ] {
            let request = server.http().request(method, target).header("Origin", origin);
            let message = request.body(b"x").send().await.assert_fault(Kind::Forbidden);
            assert!(message.contains(&format!("'{origin}'")), "{message}");
        }
        let request = server.http().request("GET", "/ImageStore?api-version=6.0");
        assert_eq!(request.header("Origin", origin).send().await.status, 200);
    }
    assert_eq!(tree(&server.rest()).await, "");
    let request = server.http().request("PUT", PUT).header("Origin", &format!("http://{host}"));
    request.body(b"1").send().await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn a_write_from_another_site_is_forbidden() {
    let server = Server::start().await;
    let request = server.http().request("PUT", PUT).header("Sec-Fetch-Site", "cross-site");
    request.body(b"1").send().await.assert_fault(Kind::Forbidden);
    assert_eq!(tree(&server.rest()).await, "");
    for site in ["same-origin", "same-site", "none"] {
        let request = server.http().request("PUT", PUT).header("Sec-Fetch-Site", site);
        request.body(b"1").send().await.assert_empty_ok();
    }
    let request = server.http().request("GET", "/ImageStore?api-version=6.0");
    assert_eq!(request.header("Sec-Fetch-Site", "cross-site").send().await.status, 200);
}

#[tokio::test]
async fn a_foreign_host_name_is_forbidden_even_to_read() {
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    for host in ["evil.example", "localhost.evil.example:80", "192.0.2.1", "a b", ""] {
        for (method, target) in
            [("GET", "/ImageStore?api-version=6.0"), ("GET", "/health"), ("PUT", PUT)]
        {
            let request = server.http().request(method, target).header("Host", host);
            request.body(b"").send().await.assert_fault(Kind::Forbidden);
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]:19080"] {
        let request = server.http().request("GET", "/ImageStore?api-version=6.0");
        assert_eq!(request.header("Host", host).send().await.status, 200, "{host}");
    }
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn a_request_says_at_most_once_for_whom_it_is() {
    let server = Server::start().await;
    let target = "/ImageStore?api-version=6.0";
    let get = |target: &str| server.http().request("GET", target);
    for (hosts, kind) in [
        (&["localhost", "localhost"][..], Kind::InvalidArgument),
        (&["localhost", "evil.example"], Kind::InvalidArgument),
        (&["evil.example", "localhost"], Kind::InvalidArgument),
        (&["evil.example"], Kind::Forbidden),
    ] {
        let request = hosts.iter().fold(get(target), |request, host| request.header("Host", host));
        request.send().await.assert_fault(kind);
    }
    let mut connection = server.http().connect().await;
    connection.send(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
    assert_eq!(connection.answer().await.status, 200);
    let mut connection = server.http().connect().await;
    connection.send(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert!(connection.rest().await.starts_with(b"HTTP/1.0 200 OK\r\n"));
    // As to a proxy: the address counts.
    let foreign = get(&format!("http://evil.example{target}")).header("Host", "localhost");
    foreign.send().await.assert_fault(Kind::Forbidden);
    let foreign = get(&format!("http://localhost{target}")).header("Host", "evil.example");
    foreign.send().await.assert_fault(Kind::Forbidden);
    let own = get(&format!("http://localhost{target}")).header("Host", "localhost");
    assert_eq!(own.send().await.status, 200);
    let origin = "http://127.0.0.1:1";
    let put = |uri: &str| server.http().request("PUT", uri).header("Origin", origin);
    put(&format!("http://localhost{PUT}"))
        .header("Host", "127.0.0.1:1")
        .body(b"1")
        .send()
        .await
        .assert_fault(Kind::Forbidden);
    put(&format!("{origin}{PUT}"))
        .header("Host", "localhost")
        .body(b"1")
        .send()
        .await
        .assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn a_page_cannot_speak_grpc() {
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    let message =
        DeleteRequest { path: "a".to_owned(), ..DeleteRequest::default() }.encode_to_vec();
    let length = u32::try_from(message.len()).expect("small");
    let frame = [&[0], &length.to_be_bytes()[..], &message].concat();
    let target = "/imagestore.v1.ImageStore/Delete";
    let call = || server.http().request("POST", target).header("Content-Type", "application/grpc");
    // A name of a page that was made to mean this machine: to the browser it is one origin.
    let foreign = call().header("Host", "evil.example").body(&frame).send().await;
    foreign.assert_fault(Kind::Forbidden);
    // Browsers have no HTTP/2 without TLS, and gRPC has nothing else.
    assert_eq!(call().body(&frame).send().await.status, 404);
    assert_eq!(tree(&server.rest()).await, "a=1");
}
