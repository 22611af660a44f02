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
//! if the proxy is trusted and sends that name in `X-Forwarded-Host`, or if the browser sends
//! `Sec-Fetch-Site: same-origin` and the host of `Origin` is an accepted name. Where a trusted proxy says that its client
//! uses TLS, its pages have an origin of `https`, and every name still has to be known: a browser on the machine of the
//! proxy reaches this port directly, and a page there can send the same headers.

use std::{num::NonZeroU16, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, Method, Uri, header, uri::Scheme};

use super::{
    Class,
    forwarded::Forwarded,
    host::{Host, canonical},
    refusal,
};
use crate::error::{Error, Kind, Result};

/// The wildcard for every name.
const ANY: &str = "*";

pub(super) async fn layer(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(Class::of(&request), error),
    }
}

/// The host names under which requests are accepted. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Hosts {
    /// The names that are accepted without TLS; `None`: every name.
    plain: Option<Arc<[String]>>,
    /// The names that are accepted over TLS.
    over_tls: Option<Arc<[String]>>,
    /// Whether the port has TLS, so that its pages have an origin of `https`.
    has_tls: bool,
}

impl Hosts {
    /// IP addresses, `localhost`, the names of this machine, and the names in `added`, where `*` means every
    /// name. Over TLS every name, unless some are added.
    pub(in crate::server) fn new(added: &[String], has_tls: bool) -> Self {
        if added.iter().any(|name| name == ANY) {
            return Self { plain: None, over_tls: None, has_tls };
        }
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_str().unwrap_or_default();
        let label = machine.split('.').next().unwrap_or_default();
        let own = ["localhost", machine, label].into_iter().filter(|name| !name.is_empty());
        let names = own.chain(added.iter().map(String::as_str)).map(canonical);
        let plain: Option<Arc<[String]>> = Some(names.collect());
        let over_tls = plain.clone().filter(|_| !added.is_empty());
        Self { plain, over_tls, has_tls }
    }

    /// Whether every name is accepted, also without TLS.
    pub(in crate::server) fn is_any(&self) -> bool {
        self.plain.is_none()
    }

    fn take(&self, host: &Host, is_https: bool) -> bool {
        // A page can send what a proxy says of TLS, but it cannot do a handshake under a name that is not its own.
        let names = if is_https && self.has_tls { &self.over_tls } else { &self.plain };
        let Some(names) = names else { return true };
        host.is_address() || names.contains(&host.name)
    }

    /// Refuses a request under a name that is not accepted, and a write by a page of another origin.
    ///
    /// # Errors
    /// `Forbidden`; `InvalidArgument` for a malformed host or more than one `Host` header.
    fn check(&self, request: &Request) -> Result<()> {
        let (method, headers) = (request.method(), request.headers());
        let forwarded = request.extensions().get::<Forwarded>();
        let told = forwarded.and_then(|forwarded| forwarded.is_https);
        let is_https = told.unwrap_or(self.has_tls);
        let hosts = Requested::of(request, forwarded, self.has_tls)?;
        if let Some(host) = hosts.all.iter().find(|host| !self.take(host, is_https)) {
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
        let origin = text(headers, &header::ORIGIN).unwrap_or_default();
        // Who is not told may have a proxy with TLS before it.
        let page = Origin::parse(origin);
        let page = page.filter(|page| page.is_https == is_https || (told.is_none() && !is_https));
        let is_own = page.is_some_and(|page| {
            let is_requested = hosts.own.iter().any(|host| page.is_of(host));
            is_requested || (site == Some("same-origin") && self.take(&page.host, is_https))
        });
        if is_own {
            return Ok(());
        }
        let host = hosts.own.first().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "a write from the origin '{origin}' to '{host}' is refused; a proxy between them keeps \
             Host, or is a --trusted-proxy and tells it in X-Forwarded-Host"
        );
        Err(Error::new(Kind::Forbidden, message))
    }
}

/// The hosts that a request names.
struct Requested {
    /// Each of them has to be known.
    all: Vec<Host>,
    /// A page of one of these is of the same origin.
    own: Vec<Host>,
}

impl Requested {
    /// # Errors
    /// `InvalidArgument` for a malformed host or more than one `Host` header.
    fn of(request: &Request, forwarded: Option<&Forwarded>, has_tls: bool) -> Result<Self> {
        let host = host_header(request.headers())?;
        let address = request.uri().authority().map(|address| Host::parse(address.as_str()));
        let asked: Vec<_> = address.transpose()?.into_iter().chain(host).collect();
        let (told, is_https) = match forwarded {
            Some(forwarded) => (forwarded.hosts.clone(), forwarded.is_https == Some(true)),
            None => (Vec::new(), false),
        };
        if is_https && !told.is_empty() {
            // The client has compared this name with a certificate; the proxy may choose any other for itself. Without
            // TLS here, a page could have sent all of this, and its browser tells its real name in `Host`.
            let all = if has_tls { told.clone() } else { [asked, told.clone()].concat() };
            return Ok(Self { all, own: told });
        }
        // The authority of the URI has precedence over `Host`: HTTP/2 requests have it, and so have requests to
        // a proxy.
        let own = asked.first().into_iter().chain(&told).cloned().collect();
        Ok(Self { all: [asked, told].concat(), own })
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

/// The value of a header, if it is visible ASCII text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
