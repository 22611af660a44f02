//! Which requests are accepted, by their headers.

use axum::body::Body;
use http::Version;

use super::*;

const OWN: (&str, &str) = ("host", "localhost:19080");

/// What a trusted proxy says that sends these headers.
fn told(headers: &[(&str, &str)], is_https: Option<bool>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    let hosts = headers.iter().filter(|(name, _)| *name == "x-forwarded-host");
    let hosts = hosts.flat_map(|(_, hosts)| hosts.split(", "));
    let hosts: Vec<_> = hosts.map(|host| Host::parse(host).expect("a host")).collect();
    if is_https.is_some() || !hosts.is_empty() {
        extensions.insert(Forwarded { hosts, is_https });
    }
    extensions
}

/// The verdict on a request.
fn checked(
    added: &str,
    (method, uri, version): (&str, &str, Version),
    headers: &[(&str, &str)],
) -> Result<(), Kind> {
    let mut request = Request::builder().method(method).uri(uri).version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).expect("a request");
    request.extensions_mut().extend(told(headers, None));
    let added: Vec<_> = added.split_whitespace().map(str::to_owned).collect();
    Hosts::new(&added, false).check(&request).map_err(|error| error.kind())
}

fn over_http1(added: &str, method: &str, headers: &[(&str, &str)]) -> Result<(), Kind> {
    checked(added, (method, "/ImageStore/a", Version::HTTP_11), headers)
}

#[track_caller]
fn check(method: &str, headers: &[(&str, &str)], expected: Result<(), Kind>) {
    assert_eq!(over_http1("", method, headers), expected, "{method} {headers:?}");
}

#[test]
fn a_request_is_taken_under_names_that_nobody_else_can_bind() {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_str().expect("text").to_owned();
    let label = machine.split('.').next().expect("a label").to_uppercase();
    for host in [
        "localhost",
        "LOCALHOST:19080",
        "localhost.",
        "localhost:",
        "127.0.0.1:19080",
        "192.0.2.1",
        "[::1]:19080",
        "[2001:db8::1]",
        &machine,
        &format!("{label}:80"),
    ] {
        check("GET", &[("host", host)], Ok(()));
    }
    for host in [
        "evil.example",
        "localhost.evil.example:19080",
        "127.0.0.1.evil.example",
        "evil.example.",
        "::1.evil.example",
    ] {
        let expected = if host.starts_with(':') { Kind::InvalidArgument } else { Kind::Forbidden };
        check("GET", &[("host", host)], Err(expected));
        check("OPTIONS", &[("host", host)], Err(expected));
    }
}

#[test]
fn a_name_that_is_added_is_taken_and_any_are_with_a_star() {
    let get = |added, host| over_http1(added, "GET", &[("host", host)]);
    assert_eq!(get("store.example", "Store.Example:80"), Ok(()));
    assert_eq!(get("store.example", "a.store.example"), Err(Kind::Forbidden));
    assert_eq!(get("store.example other", "other"), Ok(()));
    assert_eq!(get("store.example", "localhost"), Ok(()));
    assert_eq!(get("*", "evil.example"), Ok(()));
    assert_eq!(get("*", "a@evil.example"), Err(Kind::InvalidArgument));
    assert!(Hosts::new(&["a".to_owned(), ANY.to_owned()], false).is_any());
    assert!(!Hosts::new(&["a".to_owned()], false).is_any());
}

#[test]
fn a_refusal_says_how_a_name_is_added() {
    let request = Request::get("http://store.example:80/").body(Body::empty());
    let error = Hosts::new(&[], false).check(&request.expect("a request")).expect_err("foreign");
    let message = error.message();
    assert!(message.starts_with("the host 'store.example:80' is not known"), "{message}");
    assert!(message.ends_with("--allowed-host store.example"), "{message}");
}

#[test]
fn what_is_no_host_is_bad() {
    for host in [
        "",
        "a b",
        ":80",
        "user@localhost",
        "user:pw@localhost",
        "localhost:99999",
        "localhost:0",
        "localhost:+1",
        "localhost:1a",
        "localhost:80:80",
        "::1",
        "[::1",
    ] {
        check("GET", &[("host", host)], Err(Kind::InvalidArgument));
        assert!(Host::parse(host).is_err(), "{host}");
    }
    let user = ("GET", "http://user@localhost/a", Version::HTTP_11);
    assert_eq!(checked("", user, &[OWN]), Err(Kind::InvalidArgument));
}

#[test]
fn the_address_counts_before_the_header() {
    let (here, there) = (("host", "localhost"), ("host", "evil.example"));
    let (own, foreign) = ("http://127.0.0.1:1/a", "http://evil.example/a");
    let check = |uri, version, headers: &[(&str, &str)], expected| {
        for method in ["GET", "PUT"] {
            assert_eq!(checked("", (method, uri, version), headers), expected, "{method} {uri}");
        }
    };
    for version in [Version::HTTP_11, Version::HTTP_2] {
        check(own, version, &[here], Ok(()));
        check(own, version, &[there], Err(Kind::Forbidden));
        check(foreign, version, &[here], Err(Kind::Forbidden));
    }
    check(own, Version::HTTP_2, &[], Ok(()));
    check(foreign, Version::HTTP_2, &[], Err(Kind::Forbidden));
    let put = ("PUT", "http://a:1/a", Version::HTTP_2);
    let origin = |origin| checked("a b", put, &[("host", "b"), ("origin", origin)]);
    assert_eq!(origin("http://a:1"), Ok(()));
    assert_eq!(origin("http://b"), Err(Kind::Forbidden));
}

#[test]
fn a_request_has_no_two_host_headers() {
    for added in ["", "*"] {
        let get = |version, headers: &[_]| checked(added, ("GET", "/a", version), headers);
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(get(version, &[]), Ok(()));
            assert_eq!(get(version, &[OWN]), Ok(()));
            assert_eq!(get(version, &[OWN, OWN]), Err(Kind::InvalidArgument));
        }
    }
}

#[test]
fn a_write_from_another_origin_is_refused() {
    for (origin, expected) in [
        ("http://localhost:19080", true),
        ("http://LocalHost:19080", true),
        ("http://localhost", false),
        ("http://localhost:19081", false),
        ("http://evil.example:19080", false),
        ("http://user@localhost:19080", false),
        ("ws://localhost:19080", false),
        ("file://", false),
        ("null", false),
        ("", false),
    ] {
        let expected = if expected { Ok(()) } else { Err(Kind::Forbidden) };
        check("PUT", &[OWN, ("origin", origin)], expected);
        check("GET", &[OWN, ("origin", origin)], Ok(()));
    }
    let post =
        |added, host, origin| over_http1(added, "POST", &[("host", host), ("origin", origin)]);
    assert_eq!(post("a", "a", "https://a:443"), Ok(()));
    assert_eq!(post("a", "a:80", "http://a"), Ok(()));
    assert_eq!(post("*", "a", "http://b"), Err(Kind::Forbidden));
    let nowhere = ("POST", "/a", Version::HTTP_10);
    assert_eq!(checked("", nowhere, &[("origin", "http://a")]), Err(Kind::Forbidden));
}

#[test]
fn a_write_from_another_site_is_refused() {
    for (site, expected) in [
        ("cross-site", Err(Kind::Forbidden)),
        ("same-origin", Ok(())),
        ("same-site", Ok(())),
        ("none", Ok(())),
    ] {
        check("DELETE", &[OWN, ("sec-fetch-site", site)], expected);
        check("GET", &[OWN, ("sec-fetch-site", site)], Ok(()));
    }
}

#[test]
fn a_proxy_may_put_another_host() {
    let put = |added, headers: &[(&str, &str)]| {
        let headers = [&[("host", "127.0.0.1:19080")], headers].concat();
        over_http1(added, "PUT", &headers)
    };
    let origin = ("origin", "https://store.example");
    let forwarded = ("x-forwarded-host", "store.example");
    // The proxy sends the requested name in `X-Forwarded-Host`.
    assert_eq!(put("store.example", &[origin, forwarded]), Ok(()));
    assert_eq!(
        put("store.example", &[origin, ("x-forwarded-host", "store.example, [::1]:1")]),
        Ok(())
    );
    assert_eq!(put("", &[origin, forwarded]), Err(Kind::Forbidden));
    assert_eq!(put("", &[forwarded]), Err(Kind::Forbidden));
    let get = [("host", "127.0.0.1"), ("x-forwarded-host", "evil.example")];
    assert_eq!(over_http1("", "GET", &get), Err(Kind::Forbidden));
    // The proxy does not send the name, and the browser says that the page has the origin of the proxy.
    let site = ("sec-fetch-site", "same-origin");
    assert_eq!(put("store.example", &[origin, site]), Ok(()));
    assert_eq!(put("", &[("origin", "http://127.0.0.1:8080"), site]), Ok(()));
    assert_eq!(put("", &[origin, site]), Err(Kind::Forbidden));
    // A page of another port of the same machine, and an accepted origin without `Sec-Fetch-Site`.
    let page = ("origin", "http://127.0.0.1:8080");
    assert_eq!(put("", &[page, ("sec-fetch-site", "same-site")]), Err(Kind::Forbidden));
    assert_eq!(put("store.example", &[origin]), Err(Kind::Forbidden));
}

#[test]
fn over_tls_every_name_is_taken_and_pages_have_tls() {
    let over_tls = |added: &[String], headers: &[(&str, &str)]| {
        let mut request = Request::put("/ImageStore/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        Hosts::new(added, true).check(&request).map_err(|error| error.kind())
    };
    let host = ("host", "store.example");
    assert_eq!(over_tls(&[], &[host]), Ok(()));
    assert_eq!(over_tls(&[], &[host, ("origin", "https://store.example")]), Ok(()));
    assert_eq!(
        over_tls(&[], &[host, ("origin", "http://store.example:443")]),
        Err(Kind::Forbidden)
    );
    assert_eq!(over_tls(&[], &[host, ("origin", "https://evil.example")]), Err(Kind::Forbidden));
    assert_eq!(over_tls(&["other.example".to_owned()], &[host]), Err(Kind::Forbidden));
    assert_eq!(over_tls(&["store.example".to_owned()], &[host]), Ok(()));
}

#[test]
fn a_proxy_that_has_tls_has_pages_of_https_and_only_known_names() {
    let through = |has_tls, added: &[&str], is_https, headers: &[(&str, &str)]| {
        let mut request = Request::put("/ImageStore/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().extend(told(headers, Some(is_https)));
        let added: Vec<_> = added.iter().map(|&name| name.to_owned()).collect();
        Hosts::new(&added, has_tls).check(&request).map_err(|error| error.kind())
    };
    let behind = |added: &[&str], is_https, headers: &[_]| through(false, added, is_https, headers);
    let (inner, host) = (("host", "store.internal"), ("x-forwarded-host", "store.example:8443"));
    let (own, plain) =
        (("origin", "https://store.example:8443"), ("origin", "http://store.example:8443"));
    let forbidden = Err(Kind::Forbidden);
    let both = ["store.example", "store.internal"];
    assert_eq!(behind(&both, true, &[inner]), Ok(()));
    assert_eq!(behind(&both, true, &[inner, host, own]), Ok(()));
    assert_eq!(behind(&["*"], true, &[inner, host, own]), Ok(()));
    let address = ("host", "127.0.0.1:19080");
    assert_eq!(behind(&["store.example"], true, &[address, host, own]), Ok(()));
    assert_eq!(behind(&["other.example"], true, &[address, host]), forbidden);
    assert_eq!(behind(&both, true, &[inner, host, plain]), forbidden);
    for foreign in ["https://store.internal", "https://evil.example"] {
        assert_eq!(behind(&both, true, &[inner, host, ("origin", foreign)]), forbidden);
    }
    // A page of another name, bound to this machine, that sends the headers of a proxy itself.
    let (evil, here) = (("host", "evil.example:19080"), ("x-forwarded-host", "localhost:19080"));
    for headers in [&[evil][..], &[evil, here], &[evil, ("x-forwarded-host", "evil.example:19080")]]
    {
        assert_eq!(behind(&[], true, headers), forbidden);
        assert_eq!(behind(&both, true, headers), forbidden);
    }
    // Where the server itself has TLS, the browser has compared the name with a certificate.
    assert_eq!(through(true, &[], true, &[inner, host, own]), Ok(()));
    assert_eq!(through(true, &["other.example"], true, &[inner, host, own]), forbidden);
    // A client of the proxy without TLS: every name has to be known, and the page has no TLS either.
    assert_eq!(behind(&[], false, &[inner, host]), forbidden);
    assert_eq!(behind(&["store.example"], false, &[inner, host]), forbidden);
    assert_eq!(behind(&both, false, &[inner, host, plain]), Ok(()));
    assert_eq!(behind(&both, false, &[inner, host, own]), forbidden);
}
