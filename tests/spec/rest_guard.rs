//! The protection of a store against web pages of other origins: requests across origins, and DNS rebinding.

use imagestore::{
    error::Kind,
    wire::{
        status,
        v1::{DeleteRequest, StatRequest, image_store_client::ImageStoreClient},
    },
};
use prost::Message;
use tonic::{Request, Status, transport::Endpoint};
use tonic_types::StatusExt;

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
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_str().expect("text");
    let check = async |host, kind| {
        for (method, target) in
            [("GET", "/ImageStore?api-version=6.0"), ("GET", "/health"), ("GET", "/"), ("PUT", PUT)]
        {
            let request = server.http().request(method, target).header("Host", host);
            let message = request.body(b"").send().await.assert_fault(kind);
            assert!(message.contains(&format!("the host '{host}' is not")), "{message}");
        }
    };
    for host in ["evil.example", "localhost.evil.example:80"] {
        check(host, Kind::Forbidden).await;
    }
    for host in ["a b", "", "user@localhost", "user:pw@localhost:80", "localhost:99999"] {
        check(host, Kind::InvalidArgument).await;
    }
    for host in ["localhost", "LOCALHOST:1", "192.0.2.1", "127.8.9.1:80", "[::1]:19080", machine] {
        let request = server.http().request("GET", "/ImageStore?api-version=6.0");
        assert_eq!(request.header("Host", host).send().await.status, 200, "{host}");
    }
    assert_eq!(tree(&server.rest()).await, "a=1");
}

#[tokio::test]
async fn what_is_answered_is_for_pages_of_the_same_origin() {
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    for (method, target, status) in [
        ("GET", "/", 200),
        ("GET", "/page/icon.svg", 200),
        ("GET", "/health/live", 200),
        ("GET", "/ImageStore?api-version=6.0", 200),
        ("GET", "/ImageStore/a/$/Content", 200),
        ("GET", "/nothing", 404),
        ("PUT", PUT, 200),
        ("OPTIONS", "/health", 204),
        ("GET", "http://evil.example/", 403),
        ("GET", "http://a@localhost/", 400),
    ] {
        let answer = server.http().request(method, target).send().await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{target}");
        assert!(answer.header("x-request-id").is_some(), "{target}");
    }
}

#[tokio::test]
async fn the_guards_hold_for_grpc_as_well() {
    let server = Server::start().await;
    server.rest().upload("a", b"1").await.expect("stored");
    let client = async |origin: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc_address));
        let endpoint = endpoint.expect("an address").origin(origin.parse().expect("an origin"));
        ImageStoreClient::new(endpoint.connect().await.expect("connected"))
    };
    let stat = |metadata: &[(&'static str, &str)]| {
        let mut request = Request::new(StatRequest { path: "a".to_owned() });
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().expect("a value"));
        }
        request
    };
    let refused = |status: Status, kind: Kind, says: &str| {
        assert_eq!(status::kind(&status), kind, "{status}");
        assert!(status.message().contains(says), "{status}");
        assert!(status.get_details_request_info().is_some(), "{status}");
    };
    let mut foreign = client("http://evil.example:1").await;
    let status = foreign.stat(stat(&[])).await.expect_err("foreign");
    refused(status, Kind::Forbidden, "the host 'evil.example:1' is not");
    let mut bad = client("http://user@localhost").await;
    let status = bad.stat(stat(&[])).await.expect_err("bad");
    refused(status, Kind::InvalidArgument, "the host 'user@localhost' is not");
    let mut own = client("http://localhost:1").await;
    own.stat(stat(&[])).await.expect("found");
    own.stat(stat(&[("origin", "http://localhost:1")])).await.expect("found");
    let status = own.stat(stat(&[("origin", "http://evil.example")])).await.expect_err("foreign");
    refused(status, Kind::Forbidden, "the origin 'http://evil.example'");
    let status = own.stat(stat(&[("sec-fetch-site", "cross-site")])).await.expect_err("foreign");
    refused(status, Kind::Forbidden, "of another site");
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
    // A target in absolute form, as for a proxy: its host and the Host header must both be allowed.
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
    // DNS rebinding: the host name of the page leads to this machine, so the browser sees one origin.
    let foreign = call().header("Host", "evil.example").body(&frame).send().await;
    foreign.assert_fault(Kind::Forbidden);
    // Browsers have no HTTP/2 without TLS, and gRPC requires HTTP/2.
    assert_eq!(call().body(&frame).send().await.status, 404);
    assert_eq!(tree(&server.rest()).await, "a=1");
}
