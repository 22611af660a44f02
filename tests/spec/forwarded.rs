//! What a proxy says of its client: taken of a trusted proxy alone, and dropped of all others.

use imagestore::{
    error::Kind,
    wire::{
        status,
        v1::{Role, StatRequest},
    },
};
use tonic::Request;

use crate::{
    credentials::create,
    harness::{Server, fill, tree},
};

const PUT: &str = "/ImageStore/a?api-version=6.0";
const COPY: &str = "/ImageStore/$/Copy?api-version=6.0";
const LIST: &str = "/ImageStore?api-version=6.0";
/// The network of the client of the tests.
const HERE: &str = "127.0.0.0/8";
const ELSEWHERE: &str = "192.0.2.0/24";

/// The `Location` of a copy in the background.
async fn location(server: &Server, id: u8, prefix: &str) -> String {
    let body = format!(
        r#"{{"RemoteSource":"a","RemoteDestination":"b","OperationId":"00000000-0000-4000-8000-0000000000{id:02}"}}"#
    );
    let request = server.http().request("POST", COPY).header("Prefer", "respond-async");
    let request = request.header("X-Forwarded-Prefix", prefix);
    let answer = request.body(body.as_bytes()).send().await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").expect("a location").to_owned()
}

#[tokio::test]
async fn a_location_has_the_prefix_of_a_trusted_proxy() {
    let server = Server::start_behind_proxies(HERE).await;
    fill(&server.rest(), "a/f=1").await;
    let id = |number| format!("00000000-0000-4000-8000-0000000000{number:02}");
    let found = location(&server, 1, "/store/").await;
    assert_eq!(found, format!("/store/ImageStore/$/Operations/{}", id(1)));
    let found = location(&server, 2, "/").await;
    assert_eq!(found, format!("Operations/{}", id(2)));
    let request =
        server.http().request("POST", COPY).header("X-Forwarded-Prefix", "//evil.example");
    let message = request.body(b"{}").send().await.assert_fault(Kind::InvalidArgument);
    assert!(message.contains("malformed x-forwarded-prefix"), "{message}");

    let server = Server::start_behind_proxies(ELSEWHERE).await;
    fill(&server.rest(), "a/f=1").await;
    for (number, prefix) in [(1, "/store"), (2, "//evil.example")] {
        let found = location(&server, number, prefix).await;
        assert_eq!(found, format!("Operations/{}", id(number)));
    }
}

#[tokio::test]
async fn a_malformed_header_of_a_trusted_proxy_is_refused() {
    let server = Server::start_behind_proxies(HERE).await;
    let other = Server::start_behind_proxies(ELSEWHERE).await;
    let without = Server::start().await;
    let (mut client, mut other_client) = (server.client().await, other.client().await);
    for (name, value) in [
        ("x-forwarded-for", "unknown"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "a b"),
    ] {
        let get = |server: &Server| server.http().request("GET", LIST).header(name, value).send();
        let message = get(&server).await.assert_fault(Kind::InvalidArgument);
        assert!(message.starts_with(&format!("the proxy sends a malformed {name}: ")), "{message}");
        assert_eq!(get(&other).await.status, 200);
        assert_eq!(get(&without).await.status, 200);

        let stat = || {
            let mut request = Request::new(StatRequest::default());
            request.metadata_mut().insert(name, value.parse().expect("a value"));
            request
        };
        let refused = client.stat(stat()).await.expect_err("malformed");
        assert_eq!(status::kind(&refused), Kind::InvalidArgument, "{refused}");
        other_client.stat(stat()).await.expect("dropped");
    }
    // gRPC has no prefix.
    let mut request = Request::new(StatRequest::default());
    let prefix = "//evil.example".parse().expect("a value");
    request.metadata_mut().insert("x-forwarded-prefix", prefix);
    client.stat(request).await.expect("dropped");
}

#[tokio::test]
async fn a_page_is_judged_by_the_host_and_the_scheme_of_its_proxy() {
    let server = Server::start_behind_proxies(HERE).await;
    let put = |headers: &[(&str, &str)]| {
        let mut request = server.http().request("PUT", PUT).header("Host", "127.0.0.1:19080");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(b"1").send()
    };
    let (host, https) =
        (("X-Forwarded-Host", "store.example:8443"), ("X-Forwarded-Proto", "https"));
    let own = ("Origin", "https://store.example:8443");
    put(&[host, https, own]).await.assert_empty_ok();
    assert_eq!(tree(&server.rest()).await, "a=1");
    let evil = ("X-Forwarded-Host", "evil.example");
    for headers in [
        &[host, https, ("Origin", "https://evil.example")][..],
        &[host, https, ("Origin", "http://store.example:8443")],
        &[host, https, ("Origin", "https://127.0.0.1:19080")],
        // A name has to be known, whatever the proxy says of TLS.
        &[evil, https, ("Origin", "https://evil.example")],
        &[evil, https],
        &[evil, ("X-Forwarded-Proto", "http")],
        &[evil],
    ] {
        put(headers).await.assert_fault(Kind::Forbidden);
    }
    // A page of another name that sends the headers of a proxy itself: the browser sends its name in `Host`.
    for told in ["evil.example", "localhost:19080", "store.example"] {
        let request = server.http().request("GET", LIST).header("Host", "evil.example:19080");
        let request = request.header("X-Forwarded-Host", told).header(https.0, https.1);
        let message = request.send().await.assert_fault(Kind::Forbidden);
        assert!(message.starts_with("the host 'evil.example"), "{message}");
    }
    let other = Server::start_behind_proxies(ELSEWHERE).await;
    let request = other.http().request("PUT", PUT).header(host.0, host.1).header(https.0, https.1);
    let message =
        request.header(own.0, own.1).body(b"1").send().await.assert_fault(Kind::Forbidden);
    assert!(message.contains("is a --trusted-proxy and tells it in X-Forwarded-Host"), "{message}");
}

#[tokio::test]
async fn a_credential_needs_tls_before_the_proxy() {
    let server = Server::start_behind_proxies(HERE).await;
    let admin = create(&mut server.client().await, "admin", Role::Admin, &["/"]).await;
    let server = server.restart_with_access(None).await;
    let bearer = format!("Bearer {admin}");
    let list = |headers: &[(&str, &str)]| {
        let mut request = server.http().request("GET", LIST).header("Authorization", &bearer);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send()
    };
    let client = ("X-Forwarded-For", "192.0.2.1");
    assert_eq!(list(&[client, ("X-Forwarded-Proto", "https")]).await.status, 200);
    // A command on this machine itself.
    assert_eq!(list(&[]).await.status, 200);
    let message =
        list(&[client, ("X-Forwarded-Proto", "http")]).await.assert_fault(Kind::Forbidden);
    assert!(message.contains("https:// address of the proxy"), "{message}");
    let message = list(&[client]).await.assert_fault(Kind::Forbidden);
    assert!(message.contains("has to say in X-Forwarded-Proto"), "{message}");

    let mut grpc = server.client().await;
    let stat = |proto: &str| {
        let mut request = crate::credentials::with(&admin, StatRequest::default());
        request.metadata_mut().insert("x-forwarded-proto", proto.parse().expect("a value"));
        request
    };
    grpc.stat(stat("https")).await.expect("over TLS");
    let refused = grpc.stat(stat("http")).await.expect_err("plain");
    assert_eq!(status::kind(&refused), Kind::Forbidden, "{refused}");
    // What needs no right looks at no credential.
    let health = server.http().request("GET", "/health").header("Authorization", &bearer);
    assert_eq!(health.header("X-Forwarded-Proto", "http").send().await.status, 200);
}
