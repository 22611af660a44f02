//! Host and origin policy: the layer that protects the store from pages in a browser.
//!
//! A page of another origin can send writes without permission (CSRF). A page whose own name is rebound to the
//! address of the store has the same origin as the store for the browser, and can read as well (DNS rebinding). So
//! requests are accepted only under hosts that nobody else can bind: IP addresses, `localhost`, the names of the
//! machine, and those that the operator allows. Browsers send `Origin` or `Sec-Fetch-Site` with writes; tools send
//! neither and pass. Over TLS every name is accepted unless the operator allows some: the browser has compared the
//! name with the certificate. A page without TLS is then a page of another origin.
//!
//! A proxy that rewrites `Host` hides the name that the page has requested. A write through such a proxy is accepted
//! if the proxy sends that name in `X-Forwarded-Host`, which no page can set without a preflight, or if the browser
//! sends `Sec-Fetch-Site: same-origin` and the host of `Origin` is an accepted name.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderName, Method, Uri, header,
    uri::{Authority, Scheme},
};

use super::{Class, refusal};
use crate::error::{Error, Kind, Result};

/// The wildcard for every name.
const ANY: &str = "*";
/// The header in which proxies send the hosts that their clients have requested.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

pub(super) async fn layer(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(Class::of(&request), error),
    }
}

/// The host names under which requests are accepted. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Hosts {
    /// The accepted names; `None`: every name.
    names: Option<Arc<[String]>>,
    /// Whether the port has TLS, so that its pages have an origin of `https`.
    has_tls: bool,
}

impl Hosts {
    /// The names for a port with TLS: those in `added`; every name if there are none.
    pub(in crate::server) fn with_tls(added: &[String]) -> Self {
        let names = if added.is_empty() { None } else { Self::with(added).names };
        Self { names, has_tls: true }
    }

    /// IP addresses, `localhost`, the names of this machine, and the names in `added`, where `*` means every
    /// name.
    pub(in crate::server) fn with(added: &[String]) -> Self {
        if added.iter().any(|name| name == ANY) {
            return Self { names: None, has_tls: false };
        }
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_str().unwrap_or_default();
        let label = machine.split('.').next().unwrap_or_default();
        let own = ["localhost", machine, label].into_iter().filter(|name| !name.is_empty());
        let names = own.chain(added.iter().map(String::as_str)).map(canonical);
        Self { names: Some(names.collect()), has_tls: false }
    }

    /// Whether every name is accepted.
    pub(in crate::server) fn is_any(&self) -> bool {
        self.names.is_none()
    }

    fn take(&self, host: &Host) -> bool {
        let Some(names) = &self.names else { return true };
        host.is_address() || names.contains(&host.name)
    }

    /// Refuses a request under a name that is not accepted, and a write by a page of another origin.
    ///
    /// # Errors
    /// `Forbidden`; `InvalidArgument` for a malformed host or more than one `Host` header.
    fn check(&self, request: &Request) -> Result<()> {
        let (method, headers) = (request.method(), request.headers());
        // The authority of the URI has precedence over `Host`: HTTP/2 requests have it, and so have requests to
        // a proxy.
        let address = request.uri().authority().map(|address| Host::parse(address.as_str()));
        let asked = [address.transpose()?, host_header(headers)?];
        let forwarded = forwarded(headers)?;
        if let Some(host) = asked.iter().flatten().chain(&forwarded).find(|host| !self.take(host)) {
            let message = format!(
                "the host '{host}' is not known as this server; if it is, start it with \
                 --allowed-host {}",
                host.name
            );
            return Err(Error::new(Kind::Forbidden, message));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
        if site == Some("cross-site") {
            let message = "a write from a page of another site (Sec-Fetch-Site) is refused";
            return Err(Error::new(Kind::Forbidden, message));
        }
        if !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let asked = asked.into_iter().flatten().next();
        let origin = text(headers, &header::ORIGIN).unwrap_or_default();
        let page = Origin::parse(origin).filter(|page| page.is_https || !self.has_tls);
        let is_own = page.is_some_and(|page| {
            let is_asked = asked.iter().chain(&forwarded).any(|host| page.is_of(host));
            is_asked || (site == Some("same-origin") && self.take(&page.host))
        });
        if is_own {
            return Ok(());
        }
        let host = asked.map(|host| host.to_string()).unwrap_or_default();
        let message = format!(
            "a write from the origin '{origin}' to '{host}' is refused; a proxy between them keeps \
             Host, or tells it in X-Forwarded-Host"
        );
        Err(Error::new(Kind::Forbidden, message))
    }
}

/// A name in the form in which names are compared: lowercase, without a final dot.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// A host name or an IP address, with an optional port.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<NonZeroU16>,
}

impl Host {
    /// Parses the authority of a URI or the value of a `Host` header.
    ///
    /// # Errors
    /// `InvalidArgument` for user information, an invalid port, and an empty name.
    fn parse(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("the host '{text}' is not a name or an address, with a port or without");
            Error::new(Kind::InvalidArgument, message)
        };
        let authority: Authority = text.parse().map_err(|_| bad())?;
        // Text before the host is user information.
        let port = text.strip_prefix(authority.host()).ok_or_else(bad)?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| bad())?)
            }
            None | Some(_) => return Err(bad()),
        };
        let name = canonical(authority.host());
        if name.is_empty() { Err(bad()) } else { Ok(Self { name, port }) }
    }

    /// Whether the host is an IP address, which DNS cannot rebind.
    fn is_address(&self) -> bool {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        // A link-local address may have a zone, after `%`.
        let address = bare.unwrap_or(&self.name).split('%').next().unwrap_or_default();
        address.parse::<IpAddr>().is_ok()
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The origin of a page.
struct Origin {
    host: Host,
    is_https: bool,
}

impl Origin {
    /// Parses an origin with the scheme `http` or `https`; `None` for any other.
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme()?;
        let is_https = *scheme == Scheme::HTTPS;
        if !is_https && *scheme != Scheme::HTTP {
            return None;
        }
        let host = Host::parse(uri.authority()?.as_str()).ok()?;
        Some(Self { host, is_https })
    }

    /// Whether the origin has this host and port. A missing port is the default port of the origin's scheme.
    fn is_of(&self, host: &Host) -> bool {
        let default = if self.is_https { 443 } else { 80 };
        let port = |host: &Host| host.port.map_or(default, NonZeroU16::get);
        self.host.name == host.name && port(&self.host) == port(host)
    }
}

/// The `Host` header, of which there is at most one. A request without it is not from a browser.
fn host_header(headers: &HeaderMap) -> Result<Option<Host>> {
    let mut values = headers.get_all(header::HOST).into_iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => {
            let message = "the request has more than one Host header; send one";
            Err(Error::new(Kind::InvalidArgument, message))
        }
        (host, None) => {
            host.map(|host| Host::parse(&String::from_utf8_lossy(host.as_bytes()))).transpose()
        }
    }
}

/// The hosts in all `X-Forwarded-Host` headers.
fn forwarded(headers: &HeaderMap) -> Result<Vec<Host>> {
    let lines = headers.get_all(FORWARDED_HOST).into_iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    lines.iter().flat_map(|line| line.split(',')).map(|host| Host::parse(host.trim())).collect()
}

/// The value of a header, if it is visible ASCII text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
