//! Keeps a browser from becoming a weapon against a store on the same machine.
//!
//! A page of another origin can send writes without asking, and by rebinding its own name to
//! 127.0.0.1 it can also read. Browsers say where a request comes from; tools say nothing and pass.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header, request::Parts, uri::Authority};

use super::answer::Failure;
use crate::error::Kind;

/// Which names a `Host` header may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any: the listener is reachable from other machines, under names that it does not know.
    Any,
    /// Only names of this machine: the listener is on a loopback address.
    Loopback,
}

/// Refuses what a page of another origin asked for.
///
/// # Errors
/// `Kind::Forbidden`; `Kind::InvalidArgument` where the request does not say for whom it is.
pub(super) fn check(hosts: Hosts, request: &Parts) -> Result<(), Failure> {
    // The address counts before the header. HTTP/2 has it there, and so have requests to a proxy.
    let names = [request.uri.authority().map(Authority::as_str), host_header(request)?];
    let is_foreign =
        |host: &&str| !host.parse().is_ok_and(|host: Authority| is_loopback(host.host()));
    if hosts == Hosts::Loopback
        && let Some(host) = names.into_iter().flatten().find(is_foreign)
    {
        let message = format!("the host '{host}' is not this machine; use 'localhost'");
        return Err(Failure::new(Kind::Forbidden, message));
    }
    if matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if text(&request.headers, "sec-fetch-site") == Some("cross-site") {
        let message = "a write from a page of another site (Sec-Fetch-Site) is refused";
        return Err(Failure::new(Kind::Forbidden, message));
    }
    if request.headers.contains_key(header::ORIGIN) {
        let origin = text(&request.headers, "origin").unwrap_or_default();
        let host = names.into_iter().flatten().next().unwrap_or_default();
        if !is_origin_of(origin, host) {
            let message = format!("a write from the origin '{origin}' to '{host}' is refused");
            return Err(Failure::new(Kind::Forbidden, message));
        }
    }
    Ok(())
}

/// The `Host` header, of which there is at most one. Without any it is no browser that asks.
fn host_header(request: &Parts) -> Result<Option<&str>, Failure> {
    let refused = |message| Err(Failure::new(Kind::InvalidArgument, message));
    let mut values = request.headers.get_all(header::HOST).into_iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => refused("the request has more than one Host header; send one"),
        (host, None) => Ok(host.map(|host| host.to_str().unwrap_or_default())),
    }
}

/// The text of a header.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a name can only be this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether an origin and a host name the same place.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let (Ok(origin), Ok(host)) = (origin.parse::<Uri>(), host.parse::<Authority>()) else {
        return false;
    };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        Some(_) | None => return false,
    };
    origin.host().is_some_and(|name| name.eq_ignore_ascii_case(host.host()))
        && origin.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    /// What becomes of a request.
    fn checked(
        hosts: Hosts,
        line: (&str, &str, Version),
        headers: &[(&str, &str)],
    ) -> Result<(), Kind> {
        let (method, uri, version) = line;
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check(hosts, &parts).map_err(|failure| failure.kind)
    }

    /// Whether a request passes.
    fn passes(hosts: Hosts, method: &str, headers: &[(&str, &str)]) -> bool {
        checked(hosts, (method, "/ImageStore/a", Version::HTTP_11), headers).is_ok()
    }

    #[test]
    fn a_loopback_listener_takes_only_names_of_this_machine() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:19080", true),
            ("127.0.0.1:19080", true),
            ("127.9.9.9", true),
            ("[::1]:19080", true),
            ("evil.example", false),
            ("localhost.evil.example:19080", false),
            ("192.168.1.2", false),
            ("127.0.0.1.evil.example", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(passes(Hosts::Loopback, "GET", &[("host", host)]), expected, "{host}");
            assert!(passes(Hosts::Any, "GET", &[("host", host)]));
        }
    }

    #[test]
    fn the_address_counts_before_the_header() {
        let (here, there) = (("host", "localhost"), ("host", "evil.example"));
        let (own, foreign) = ("http://127.0.0.1:1/a", "http://evil.example/a");
        let check = |uri, version, headers: &[(&str, &str)], expected| {
            let line = |method| (method, uri, version);
            assert_eq!(checked(Hosts::Loopback, line("GET"), headers), expected, "{uri}");
            assert_eq!(checked(Hosts::Loopback, line("PUT"), headers), expected, "{uri}");
        };
        for version in [Version::HTTP_11, Version::HTTP_2] {
            check(own, version, &[here], Ok(()));
            check(own, version, &[there], Err(Kind::Forbidden));
            check(foreign, version, &[here], Err(Kind::Forbidden));
        }
        check(own, Version::HTTP_2, &[], Ok(()));
        check(foreign, Version::HTTP_2, &[], Err(Kind::Forbidden));
        let put = ("PUT", "http://a:1/a", Version::HTTP_2);
        let origin = |origin| checked(Hosts::Any, put, &[("host", "b"), ("origin", origin)]);
        assert_eq!(origin("http://a:1"), Ok(()));
        assert_eq!(origin("http://b"), Err(Kind::Forbidden));
    }

    #[test]
    fn a_request_has_no_two_host_headers() {
        for hosts in [Hosts::Any, Hosts::Loopback] {
            let get = |version, headers: &[_]| checked(hosts, ("GET", "/a", version), headers);
            let host = ("host", "localhost");
            assert_eq!(get(Version::HTTP_11, &[host]), Ok(()));
            for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
                assert_eq!(get(version, &[]), Ok(()));
                assert_eq!(get(version, &[host, host]), Err(Kind::InvalidArgument));
            }
        }
    }

    #[test]
    fn a_write_from_another_origin_is_refused() {
        let host = ("host", "localhost:19080");
        for (origin, expected) in [
            ("http://localhost:19080", true),
            ("http://LocalHost:19080", true),
            ("http://localhost", false),
            ("http://localhost:19081", false),
            ("http://evil.example:19080", false),
            ("file://", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(
                passes(Hosts::Any, "PUT", &[host, ("origin", origin)]),
                expected,
                "{origin}"
            );
            assert!(passes(Hosts::Any, "GET", &[host, ("origin", origin)]));
        }
        assert!(passes(Hosts::Any, "POST", &[("host", "a"), ("origin", "https://a:443")]));
        assert!(passes(Hosts::Any, "POST", &[("host", "a:80"), ("origin", "http://a")]));
        let nowhere = ("POST", "/a", Version::HTTP_10);
        assert!(checked(Hosts::Any, nowhere, &[("origin", "http://a")]).is_err());
    }

    #[test]
    fn a_write_from_another_site_is_refused() {
        let host = ("host", "localhost:19080");
        for (site, expected) in
            [("cross-site", false), ("same-origin", true), ("same-site", true), ("none", true)]
        {
            assert_eq!(
                passes(Hosts::Any, "DELETE", &[host, ("sec-fetch-site", site)]),
                expected,
                "{site}"
            );
            assert!(passes(Hosts::Any, "GET", &[host, ("sec-fetch-site", site)]));
        }
    }
}
