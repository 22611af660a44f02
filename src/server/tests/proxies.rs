//! Clients of a trusted proxy, and those that come without it.

use axum::{Extension, response::Response};
use http::header;
use tower::ServiceExt as _;

use super::{
    shares::{BUSY, SERVED, crowd, reads, until},
    *,
};
use crate::{access::Identity, server::door::ClientAddress};

/// The response to a request of another machine.
async fn answer(refuses_plaintext: bool, request: http::request::Builder) -> Response {
    let networks = ["10.0.0.0/8".parse().expect("a network")].into();
    let proxies = Proxies { networks, has_tls: false, refuses_plaintext };
    let rest = routing::get(async |Extension(identity): Extension<Identity>| match identity {
        Ok(_) => StatusCode::OK.into_response(),
        Err(error) => (StatusCode::FORBIDDEN, error.message().to_owned()).into_response(),
    });
    let rest = Router::new().fallback(rest);
    let grpc = Router::new().fallback(async || StatusCode::OK);
    let guards = Guards { proxies, ..guards(Hosts::new(&[], false)) };
    let app = door(grpc, rest, guards, Bounds::default()).expect("a door");
    let mut request = request.body(Body::empty()).expect("a request");
    request.extensions_mut().insert(ClientAddress([192, 0, 2, 9].into()));
    app.oneshot(request).await.expect("a response")
}

#[tokio::test]
async fn a_credential_from_another_machine_needs_the_proxy() {
    let rest = || http::Request::get("/ImageStore").header(header::AUTHORIZATION, "Bearer x");
    let spoofed =
        || rest().header("x-forwarded-proto", "https").header("x-forwarded-for", "127.0.0.1");
    for request in [rest(), spoofed()] {
        assert_eq!(answer(true, request).await.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(answer(false, rest()).await.status(), StatusCode::OK);
    let anonymous = http::Request::get("/ImageStore");
    assert_eq!(answer(true, anonymous).await.status(), StatusCode::OK);

    let grpc = || {
        http::Request::post("/imagestore.v1.ImageStore/Stat")
            .version(http::Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
    };
    let refused = answer(true, grpc().header(header::AUTHORIZATION, "Bearer x")).await;
    let status = tonic::Status::from_header_map(refused.headers()).expect("a status");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("--trusted-proxy names the proxies"), "{status}");
    let passed = answer(true, grpc()).await;
    assert!(tonic::Status::from_header_map(passed.headers()).is_none());
}

#[tokio::test]
async fn clients_of_a_proxy_have_shares_of_their_own() {
    let bounds = Bounds { calls: 8, ..Bounds::default() };
    let networks = ["127.0.0.1/32".parse().expect("a network")].into();
    let proxies = Proxies { networks, ..Proxies::default() };
    let guards = Guards { proxies, ..guards(Hosts::new(&["h".to_owned()], false)) };
    let app = door(Router::new(), reads(), guards, bounds).expect("a door");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
    let ended = tokio::spawn(listen::serve(listener, None, app, stop.clone(), bounds));
    let fixture = Fixture { address, stop, ended };
    let request = |line: &str, client: &str, rest: &str| {
        format!("{line} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n{rest}")
    };
    let half = request("PUT /", "192.0.2.1", "Content-Length: 9\r\n\r\nabc");
    let get = |client| request("GET /", client, "\r\n");
    // One client of the proxy holds all calls except the reserve.
    let greedy = crowd(&fixture, 1, 7, &half).await;
    until(&fixture, 1, &get("192.0.2.1"), BUSY).await;
    until(&fixture, 1, &get("192.0.2.2"), SERVED).await;
    drop(greedy);
    fixture.stop().await;
}
