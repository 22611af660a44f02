//! The layer that reads what a trusted proxy says of a request: who sends it, over TLS or not, and to which address.
//!
//! | header | says |
//! |---|---|
//! | `X-Forwarded-For` | the address of the client: the rightmost that is not a trusted proxy |
//! | `X-Forwarded-Proto` | whether the client uses `https` |
//! | `X-Forwarded-Host` | the host that the client has requested |
//! | `X-Forwarded-Prefix` | the path before the one that the server sees; REST only |
//!
//! Proxies append to the first, so its left end is what the client has sent; it is not looked at. From all other peers
//! the headers are dropped. A malformed one of a trusted proxy refuses the request, because there is no safe guess.
//! After this layer a request has none of them, except a valid `X-Forwarded-Prefix`.
//!
//! The address becomes the peer of the request, among which the bounds are shared, and that of the audit log. It also
//! says whether a credential was sent over a network in plain text, see [`Exposed`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::{Class, Protocol, audit::ClientAddress, host::Host, refusal};
use crate::{
    budget::Peer,
    error::{Error, Kind, Result},
    limits::{
        FORWARDED_ADDRESSES_MAX, FORWARDED_HOSTS_MAX, FORWARDED_PREFIX_BYTES_MAX, HOST_BYTES_MAX,
    },
    rest::FORWARDED_PREFIX,
};

pub(super) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The headers that only a trusted proxy sends.
const HEADERS: [HeaderName; 4] = [FOR, PROTO, HOST, FORWARDED_PREFIX];

/// The proxies whose word is taken. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Proxies {
    /// The networks of the trusted proxies.
    pub(in crate::server) networks: Arc<[IpNet]>,
    /// Whether the port has TLS.
    pub(in crate::server) has_tls: bool,
    /// Whether a credential is refused that crossed a network in plain text.
    pub(in crate::server) refuses_plaintext: bool,
}

/// What a trusted proxy says of a request, in the extensions of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// The hosts that its client has requested.
    pub(super) hosts: Vec<Host>,
    /// Whether its client uses TLS; `None`: the proxy does not say so.
    pub(super) is_https: Option<bool>,
}

/// The request crossed a network in plain text. In the extensions of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct InPlaintext;

/// Why a credential of a request is refused: it crossed a network in plain text. In the extensions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    /// The client has no TLS to the proxy.
    BeforeProxy,
    /// The proxy does not say whether it has.
    Unknown,
    /// The client is a trusted proxy, or at the address of one, and sends none of the headers.
    Silent,
    /// The client is not a trusted proxy, and has no TLS to this server.
    Direct,
}

impl Exposed {
    /// The refusal of a credential.
    pub(super) fn refusal(self) -> Error {
        let why = match self {
            Self::BeforeProxy => "use the https:// address of the proxy",
            Self::Unknown => {
                "the proxy has to say in X-Forwarded-Proto whether its client uses https"
            }
            Self::Silent => {
                "the proxy has to send X-Forwarded-For and X-Forwarded-Proto; if no proxy sends this call, name \
                 in --trusted-proxy the addresses of the proxies alone"
            }
            Self::Direct => {
                "use the https:// address of the proxy before this server; --trusted-proxy names the proxies"
            }
        };
        let message = format!("a credential over plain HTTP is refused: {why}");
        Error::new(Kind::Forbidden, message)
    }
}

pub(super) async fn layer(
    State(proxies): State<Proxies>,
    mut request: Request,
    next: Next,
) -> Response {
    match proxies.apply(&mut request) {
        Ok(()) => next.run(request).await,
        Err(error) => refusal(Class::of(&request), error),
    }
}

impl Proxies {
    /// Whether the word of a peer is taken.
    fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Takes the headers off a request, and puts what they say into its extensions.
    ///
    /// # Errors
    /// `InvalidArgument` for a malformed header of a trusted proxy.
    fn apply(&self, request: &mut Request) -> Result<()> {
        let peer = request.extensions().get::<ClientAddress>().map(|address| address.0);
        let says = HEADERS.iter().any(|name| request.headers().contains_key(name));
        let is_trusted = peer.is_some_and(|peer| self.trust(peer));
        let mut forwarded = None;
        if says && is_trusted {
            let is_rest = Class::of(request).protocol == Protocol::Rest;
            let headers = request.headers();
            let client = self.client(headers)?;
            let prefix = if is_rest { prefix(headers)? } else { None };
            forwarded = Some(Forwarded { hosts: hosts(headers)?, is_https: is_https(headers)? });
            if let Some(client) = client {
                request.extensions_mut().insert(Peer::from(client));
                request.extensions_mut().insert(ClientAddress(client));
            }
            drop_headers(request.headers_mut());
            if let Some(prefix) = prefix {
                request.headers_mut().insert(FORWARDED_PREFIX, prefix);
            }
        } else if says {
            drop_headers(request.headers_mut());
        }
        if let Some(exposed) = self.exposed((peer, is_trusted), forwarded.as_ref()) {
            request.extensions_mut().insert(InPlaintext);
            if self.refuses_plaintext {
                request.extensions_mut().insert(exposed);
            }
        }
        if let Some(forwarded) = forwarded {
            request.extensions_mut().insert(forwarded);
        }
        Ok(())
    }

    /// Whether a request came over a network in plain text. What comes from this machine itself did not, unless a proxy
    /// says that it is from another one. A proxy elsewhere has to say what its client uses, also where it uses TLS itself.
    fn exposed(
        &self,
        (peer, is_trusted): (Option<IpAddr>, bool),
        forwarded: Option<&Forwarded>,
    ) -> Option<Exposed> {
        let Some(forwarded) = forwarded else {
            let is_local = peer.is_none_or(|peer| peer.to_canonical().is_loopback());
            return match (is_local, is_trusted) {
                (true, _) => None,
                (false, true) => Some(Exposed::Silent),
                (false, false) => (!self.has_tls).then_some(Exposed::Direct),
            };
        };
        match forwarded.is_https {
            Some(true) => None,
            Some(false) => Some(Exposed::BeforeProxy),
            None => Some(Exposed::Unknown),
        }
    }

    /// The address of the client: the rightmost that is not a trusted proxy, or the leftmost if all are.
    fn client(&self, headers: &HeaderMap) -> Result<Option<IpAddr>> {
        let mut last = None;
        let lines: Vec<_> = headers.get_all(FOR).iter().collect();
        // The last element of the last line was appended last.
        let appended = lines.iter().rev().flat_map(|line| elements(line).rev());
        for (number, element) in appended.enumerate() {
            if number == FORWARDED_ADDRESSES_MAX {
                let why = format!("more than {FORWARDED_ADDRESSES_MAX} proxies are in it");
                return Err(malformed(&FOR, &why));
            }
            let element = text(&FOR, element)?;
            let address = address(element)
                .ok_or_else(|| malformed(&FOR, &format!("'{element}' is not an IP address")))?;
            last = Some(address);
            if !self.trust(address) {
                break;
            }
        }
        Ok(last)
    }
}

fn drop_headers(headers: &mut HeaderMap) {
    for name in &HEADERS {
        headers.remove(name);
    }
}

/// The refusal of a header.
fn malformed(name: &HeaderName, why: &str) -> Error {
    let message = format!("the proxy sends a malformed {name}: {why}");
    Error::new(Kind::InvalidArgument, message)
}

/// The elements of the list in one line of a header, without the empty ones.
fn elements(line: &HeaderValue) -> impl DoubleEndedIterator<Item = &[u8]> {
    let elements = line.as_bytes().split(|byte| *byte == b',');
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The text of an element.
fn text<'a>(name: &HeaderName, element: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(element).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| malformed(name, "it is not ASCII"))
}

/// The elements of the lists in all lines of a header, at most `most`.
fn all<'a>(headers: &'a HeaderMap, name: &HeaderName, most: usize) -> Result<Vec<&'a str>> {
    let lines = headers.get_all(name).into_iter();
    let found: Vec<_> = lines.flat_map(elements).take(most + 1).collect();
    if found.len() > most {
        return Err(malformed(name, &format!("it has more than {most} values")));
    }
    found.into_iter().map(|element| text(name, element)).collect()
}

/// An address with or without a port, and an IPv6 address with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let found = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => text.parse().ok(),
    };
    let found = found.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    found.map(|address| address.to_canonical())
}

/// Whether the client uses TLS, and each proxy before the last one too.
fn is_https(headers: &HeaderMap) -> Result<Option<bool>> {
    let values = all(headers, &PROTO, FORWARDED_HOSTS_MAX)?;
    let judged = values.iter().map(|value| match value {
        _ if value.eq_ignore_ascii_case("https") => Ok(true),
        _ if value.eq_ignore_ascii_case("http") => Ok(false),
        _ => Err(malformed(&PROTO, &format!("'{value}' is neither http nor https"))),
    });
    let judged = judged.collect::<Result<Vec<_>>>()?;
    Ok((!judged.is_empty()).then(|| judged.iter().all(|is_https| *is_https)))
}

/// The hosts that the client has requested.
fn hosts(headers: &HeaderMap) -> Result<Vec<Host>> {
    let values = all(headers, &HOST, FORWARDED_HOSTS_MAX)?;
    let parse = |value: &&str| {
        if value.len() > HOST_BYTES_MAX {
            let why = format!("a host has at most {HOST_BYTES_MAX} bytes");
            return Err(malformed(&HOST, &why));
        }
        Host::parse(value).map_err(|error| malformed(&HOST, error.message()))
    };
    values.iter().map(parse).collect()
}

/// The path before the one that the server sees, without a `/` at its end; `None` for none.
fn prefix(headers: &HeaderMap) -> Result<Option<HeaderValue>> {
    let mut lines = headers.get_all(FORWARDED_PREFIX).into_iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(malformed(&FORWARDED_PREFIX, "the request has more than one"));
    }
    let text = line.to_str().unwrap_or("\u{fffd}");
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        return Ok(None);
    }
    if path.len() > FORWARDED_PREFIX_BYTES_MAX {
        let why = format!("it has more than {FORWARDED_PREFIX_BYTES_MAX} bytes");
        return Err(malformed(&FORWARDED_PREFIX, &why));
    }
    // What begins with two slashes would be the address of another host.
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(is_of_path);
    let is_path = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_name));
    let value = HeaderValue::from_str(path).ok().filter(|_| is_path);
    value.map(Some).ok_or_else(|| malformed(&FORWARDED_PREFIX, "it is not a path such as /store"))
}

/// Whether a byte may be in a name of a path, as it is or as part of a percent-encoded one.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:@%".contains(&byte)
}

#[cfg(test)]
mod tests;
