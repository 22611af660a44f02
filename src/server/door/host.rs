//! A host that a request names, and the forms in which it is compared.

use std::{fmt, net::IpAddr, num::NonZeroU16};

use http::uri::Authority;

use crate::error::{Error, Kind, Result};

/// A host name or an IP address, with an optional port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// The name, in the form of [`canonical`].
    pub(super) name: String,
    /// The port, if it is given.
    pub(super) port: Option<NonZeroU16>,
}

impl Host {
    /// Parses the authority of a URI or the value of a `Host` header.
    ///
    /// # Errors
    /// `InvalidArgument` for user information, an invalid port, and an empty name.
    pub(super) fn parse(text: &str) -> Result<Self> {
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
    pub(super) fn is_address(&self) -> bool {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        // A link-local address may have a zone, after `%`.
        let address = bare.unwrap_or(&self.name).split('%').next().unwrap_or_default();
        address.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name in the form in which names are compared: lowercase, without a final dot.
pub(super) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
