//! What is taken of the headers of proxies, and from whom.

use axum::body::Body;
use http::Request as HttpRequest;

use super::*;

const PROXY: &str = "10.0.0.1";

fn proxies() -> Proxies {
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network"));
    Proxies { networks: networks.into(), has_tls: false, refuses_plaintext: true }
}

/// A request of a peer, after the layer.
fn applied(
    proxies: &Proxies,
    peer: &str,
    headers: &[(&str, &str)],
) -> Result<HttpRequest<Body>, String> {
    let mut request = HttpRequest::get("/ImageStore/a");
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        request = request.header(*name, value);
    }
    let mut request = request.body(Body::empty()).expect("a request");
    let peer: IpAddr = peer.parse().expect("an address");
    request.extensions_mut().insert(ClientAddress(peer));
    request.extensions_mut().insert(Peer::from(peer));
    match proxies.apply(&mut request) {
        Ok(()) => Ok(request),
        Err(error) => {
            assert_eq!(error.kind(), Kind::InvalidArgument);
            Err(error.message().to_owned())
        }
    }
}

/// The address that a request of a peer has after the layer; its peer is the same one.
fn client(peer: &str, lines: &[&str]) -> Result<String, String> {
    let headers: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
    let request = applied(&proxies(), peer, &headers)?;
    let ClientAddress(address) = *request.extensions().get().expect("an address");
    assert_eq!(request.extensions().get(), Some(&Peer::from(address)));
    assert!(!request.headers().contains_key("x-forwarded-for"));
    Ok(address.to_string())
}

#[test]
fn the_client_is_the_rightmost_that_is_no_proxy() {
    for (lines, expected) in [
        (&["192.0.2.1"][..], "192.0.2.1"),
        (&["192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        (&["198.51.100.7, 192.0.2.1, 10.9.9.9,10.0.0.2"], "192.0.2.1"),
        (&["198.51.100.7", "192.0.2.1", "10.9.9.9"], "192.0.2.1"),
        (&["what a client says, 192.0.2.1"], "192.0.2.1"),
        (&["\u{e9}", "192.0.2.1"], "192.0.2.1"),
        (&["\u{e9}, 192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.1:4711"], "192.0.2.1"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["[2001:db8::1]:80, fd00::1"], "2001:db8::1"),
        (&["::ffff:192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.1, ::ffff:10.1.1.1"], "192.0.2.1"),
        // All are proxies: the one that is the farthest away.
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (&[" , 192.0.2.1,\t, "], "192.0.2.1"),
        (&[""], PROXY),
        (&[], PROXY),
    ] {
        assert_eq!(client(PROXY, lines), Ok(expected.to_owned()), "{lines:?}");
        assert!(client("::ffff:10.0.0.1", lines).is_ok(), "{lines:?}");
    }
}

#[test]
fn another_peer_is_not_listened_to() {
    let headers = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "a b"),
        ("x-forwarded-prefix", "//evil.example"),
    ];
    for peer in ["192.0.2.9", "127.0.0.1", "::1", "11.0.0.1"] {
        let request = applied(&proxies(), peer, &headers).expect("dropped");
        assert_eq!(request.headers().len(), 0, "{peer}");
        assert_eq!(request.extensions().get::<Forwarded>(), None);
        let ClientAddress(address) = *request.extensions().get().expect("an address");
        assert_eq!(address.to_string(), peer);
    }
    let nobody = Proxies::default();
    let request = applied(&nobody, PROXY, &headers).expect("dropped");
    assert_eq!((request.headers().len(), client("192.0.2.9", &["x"]).is_ok()), (0, true));
}

#[test]
fn a_malformed_header_of_a_proxy_is_refused() {
    let hosts = "a,".repeat(9);
    let long = format!("{}.example", "a".repeat(262));
    let path = format!("/{}", "a".repeat(256));
    let many = "10.0.0.2,".repeat(33);
    for (name, value, says) in [
        ("x-forwarded-for", "unknown", "'unknown' is not an IP address"),
        ("x-forwarded-for", "192.0.2.1, _hidden", "'_hidden' is not an IP address"),
        ("x-forwarded-for", "192.0.2.1.", "is not an IP address"),
        ("x-forwarded-for", "[192.0.2.1]", "is not an IP address"),
        ("x-forwarded-for", "192.0.2.1:", "is not an IP address"),
        ("x-forwarded-for", "fe80::1%eth0", "is not an IP address"),
        ("x-forwarded-for", "\u{e9}", "it is not ASCII"),
        ("x-forwarded-for", &many, "more than 32 proxies are in it"),
        ("x-forwarded-proto", "gopher", "'gopher' is neither http nor https"),
        ("x-forwarded-proto", "https, \u{e9}", "it is not ASCII"),
        ("x-forwarded-proto", &hosts, "it has more than 8 values"),
        ("x-forwarded-host", "a b", "the host 'a b' is not a name"),
        ("x-forwarded-host", "me@there", "is not a name"),
        ("x-forwarded-host", &hosts, "it has more than 8 values"),
        ("x-forwarded-host", &long, "a host has at most 262 bytes"),
        ("x-forwarded-prefix", "store", "it is not a path such as /store"),
        ("x-forwarded-prefix", "//evil.example", "it is not a path"),
        ("x-forwarded-prefix", "https://evil.example", "it is not a path"),
        ("x-forwarded-prefix", "/a/../b", "it is not a path"),
        ("x-forwarded-prefix", "/a\\b", "it is not a path"),
        ("x-forwarded-prefix", "/a?b", "it is not a path"),
        ("x-forwarded-prefix", "/a, /b", "it is not a path"),
        ("x-forwarded-prefix", "/\u{e9}", "it is not a path"),
        ("x-forwarded-prefix", &path, "it has more than 256 bytes"),
    ] {
        let said = applied(&proxies(), PROXY, &[(name, value)]).expect_err(value);
        let start = format!("the proxy sends a malformed {name}: ");
        assert!(said.starts_with(&start) && said.contains(says), "{said}");
    }
    let twice = [("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/a")];
    let said = applied(&proxies(), PROXY, &twice).expect_err("twice");
    assert!(said.ends_with("the request has more than one"), "{said}");
    // The bounds themselves are taken.
    let most = format!("192.0.2.1, {}", "10.0.0.2,".repeat(31));
    assert_eq!(client(PROXY, &[&most]), Ok("192.0.2.1".to_owned()));
    let path = format!("/{}", "a".repeat(255));
    applied(&proxies(), PROXY, &[("x-forwarded-prefix", &path)]).expect("the longest");
}

#[test]
fn a_prefix_is_a_path_without_a_slash_at_its_end() {
    for (value, expected) in [
        ("/store", Some("/store")),
        ("/store/", Some("/store")),
        ("/a/b%20c~", Some("/a/b%20c~")),
        ("/", None),
        ("", None),
    ] {
        let request = applied(&proxies(), PROXY, &[("x-forwarded-prefix", value)]).expect("a path");
        let found =
            request.headers().get(FORWARDED_PREFIX).map(|value| value.to_str().expect("text"));
        assert_eq!(found, expected, "{value}");
    }
    // gRPC has none.
    let mut request = HttpRequest::post("/imagestore.v1.ImageStore/Stat")
        .header("x-forwarded-prefix", "//evil.example")
        .body(Body::empty())
        .expect("a request");
    let grpc = Class { protocol: Protocol::Grpc(None), asks_health: false, cancels: false };
    request.extensions_mut().insert(grpc);
    request.extensions_mut().insert(ClientAddress(PROXY.parse().expect("an address")));
    proxies().apply(&mut request).expect("dropped");
    assert!(request.headers().is_empty());
}

#[test]
fn all_of_a_chain_of_proxies_must_have_tls() {
    for (lines, expected) in [
        (&["https"][..], Some(true)),
        (&["HTTPS"], Some(true)),
        (&["http"], Some(false)),
        (&["https, http"], Some(false)),
        (&["http", "https"], Some(false)),
        (&["https", "https"], Some(true)),
        (&[], None),
        (&[""], None),
    ] {
        let lines = lines.iter().map(|line| ("x-forwarded-proto", *line));
        let headers: Vec<_> = lines.chain([("x-forwarded-for", "192.0.2.1")]).collect();
        let request = applied(&proxies(), PROXY, &headers).expect("taken");
        let forwarded: &Forwarded = request.extensions().get().expect("what the proxy says");
        assert_eq!(forwarded.is_https, expected, "{headers:?}");
    }
}

#[test]
fn a_credential_is_exposed_where_a_network_has_no_tls() {
    let exposed = |proxies: &Proxies, peer, headers: &[_]| {
        let request = applied(proxies, peer, headers).expect("taken");
        request.extensions().get::<Exposed>().copied()
    };
    let https = ("x-forwarded-proto", "https");
    let http = ("x-forwarded-proto", "http");
    let address = ("x-forwarded-for", "192.0.2.1");
    let local =
        Proxies { networks: ["127.0.0.1/32".parse().expect("a network")].into(), ..proxies() };
    let with_tls = Proxies { has_tls: true, ..proxies() };
    let taken = Proxies { refuses_plaintext: false, ..proxies() };
    for (proxies, peer, headers, expected) in [
        (&proxies(), PROXY, &[https, address][..], None),
        (&proxies(), PROXY, &[http, address], Some(Exposed::BeforeProxy)),
        (&proxies(), PROXY, &[address], Some(Exposed::Unknown)),
        (&proxies(), PROXY, &[], Some(Exposed::Silent)),
        (&proxies(), "192.0.2.9", &[], Some(Exposed::Direct)),
        (&proxies(), "192.0.2.9", &[https, address], Some(Exposed::Direct)),
        (&proxies(), "127.0.0.1", &[], None),
        (&proxies(), "::ffff:127.0.0.1", &[], None),
        (&local, "127.0.0.1", &[], None),
        (&local, "127.0.0.1", &[address], Some(Exposed::Unknown)),
        (&local, "127.0.0.1", &[http], Some(Exposed::BeforeProxy)),
        (&with_tls, "192.0.2.9", &[http], None),
        (&with_tls, "192.0.2.9", &[], None),
        (&with_tls, PROXY, &[], Some(Exposed::Silent)),
        (&with_tls, PROXY, &[http], Some(Exposed::BeforeProxy)),
        (&taken, PROXY, &[http], None),
        (&taken, "192.0.2.9", &[], None),
    ] {
        assert_eq!(exposed(proxies, peer, headers), expected, "{peer} {headers:?}");
    }
    for (exposed, says) in [
        (Exposed::BeforeProxy, "https:// address of the proxy"),
        (Exposed::Unknown, "X-Forwarded-Proto"),
        (Exposed::Silent, "has to send X-Forwarded-For and X-Forwarded-Proto"),
        (Exposed::Direct, "--trusted-proxy names the proxies"),
    ] {
        let error = exposed.refusal();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.message().contains(says), "{error}");
    }
}
