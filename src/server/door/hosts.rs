//! Host and origin policy: the layer that protects the store from pages in a browser.
//!
//! A page of another origin can send writes without permission (CSRF). A page whose own name is rebound to the
//! address of the store has the same origin as the store for the browser, and can read as well (DNS rebinding). So
//! requests are accepted only under hosts that nobody else can bind: IP addresses, `localhost`, the names of the
//! machine, and those that the operator allows. Browsers send `Origin` or `Sec-Fetch-Site` with writes; tools send
//! neither and pass.
//!
//! A proxy that rewrites `Host` hides the name which a page has asked for. It tells the name in
//! `X-Forwarded-Host`, which no page can set without a preflight, or the browser says that the page has the origin
//! which it asks.

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

/// What stands for every name.
const ANY: &str = "*";
/// The header in which a proxy tells the hosts that it was asked for.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

pub(super) async fn layer(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(Class::of(&request), error),
    }
}

/// The names under which requests are taken. Clones are cheap.
#[derive(Clone, Debug)]
pub(in crate::server) struct Hosts {
    /// None where every name is taken.
    names: Option<Arc<[String]>>,
}

impl Hosts {
    /// IP addresses, `localhost`, the names of this machine, and those that are added, of which `*` is
    /// every name.
    pub(in crate::server) fn with(added: &[String]) -> Self {
        if added.iter().any(|name| name == ANY) {
            return Self { names: None };
        }
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_str().unwrap_or_default();
        let label = machine.split('.').next().unwrap_or_default();
        let own = ["localhost", machine, label].into_iter().filter(|name| !name.is_empty());
        let names = own.chain(added.iter().map(String::as_str)).map(canonical);
        Self { names: Some(names.collect()) }
    }

    /// Whether every name is taken.
    pub(in crate::server) fn is_any(&self) -> bool {
        self.names.is_none()
    }

    fn take(&self, host: &Host) -> bool {
        let Some(names) = &self.names else { return true };
        host.is_address() || names.contains(&host.name)
    }

    /// Refuses a request under a foreign name, and one that a page of another origin writes with.
    ///
    /// # Errors
    /// `Forbidden`; `InvalidArgument` where the request does not say for whom it is.
    fn check(&self, request: &Request) -> Result<()> {
        let (method, headers) = (request.method(), request.headers());
        // The address counts before the header. HTTP/2 has it there, and so have requests to a proxy.
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
        let is_own = Origin::parse(origin).is_some_and(|page| {
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

/// A name in the form in which names are compared.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// A name or an address, and a port where one is said.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<NonZeroU16>,
}

impl Host {
    /// Reads what follows a scheme or stands in a header.
    ///
    /// # Errors
    /// `InvalidArgument` for user information, for a port that is none, and where no name is.
    fn parse(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("the host '{text}' is not a name or an address, with a port or without");
            Error::new(Kind::InvalidArgument, message)
        };
        let authority: Authority = text.parse().map_err(|_| bad())?;
        // What is before the host is user information.
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

    /// Whether it is an address, which nobody can bind anew.
    fn is_address(&self) -> bool {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        // A zone may follow, by which an address of the link is meant.
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

/// Where a page is from.
struct Origin {
    host: Host,
    default_port: u16,
}

impl Origin {
    /// Reads an origin of HTTP; others have no pages that ask.
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme()?;
        let default_port = if *scheme == Scheme::HTTP {
            80
        } else if *scheme == Scheme::HTTPS {
            443
        } else {
            return None;
        };
        let host = Host::parse(uri.authority()?.as_str()).ok()?;
        Some(Self { host, default_port })
    }

    /// Whether it is the place that was asked.
    fn is_of(&self, host: &Host) -> bool {
        let port = |host: &Host| host.port.map_or(self.default_port, NonZeroU16::get);
        self.host.name == host.name && port(&self.host) == port(host)
    }
}

/// The `Host` header, of which there is at most one. Without any it is no browser that asks.
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

/// The hosts that proxies were asked for.
fn forwarded(headers: &HeaderMap) -> Result<Vec<Host>> {
    let lines = headers.get_all(FORWARDED_HOST).into_iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    lines.iter().flat_map(|line| line.split(',')).map(|host| Host::parse(host.trim())).collect()
}

/// The text of a header.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
