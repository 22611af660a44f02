//! The flags of a port: where it listens, its TLS, its names, and the proxies before it. A server and a gateway have them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::is_loopback;
use crate::{
    limits,
    server::{Error, identity::TlsFiles},
};

/// The flags of a port.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::server) struct Port {
    /// IP address and port to listen on; port 0 selects a free port
    #[arg(long, env = "IMAGESTORE_LISTEN", default_value = "127.0.0.1:19080")]
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub(in crate::server) listen: SocketAddr,

    /// Certificate chain for TLS in PEM, that of the server first; read again when it changes
    #[arg(long, env = "IMAGESTORE_TLS_CERT", value_name = "FILE")]
    pub(in crate::server) tls_cert: Option<PathBuf>,

    /// Private key of the certificate in PEM, not encrypted; read again when it changes
    #[arg(long, env = "IMAGESTORE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    #[arg(long, env = "IMAGESTORE_ALLOWED_HOST", value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = host_name)]
    #[arg(
        help = "A host name under which requests are taken, beside IP addresses, localhost and the \
                  names of this machine; * is every name; may be repeated"
    )]
    pub(in crate::server) allowed_host: Vec<String>,

    #[arg(long, env = "IMAGESTORE_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    #[arg(value_parser = network)]
    #[arg(
        help = "Network or address of proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are taken; \
                  may be repeated"
    )]
    pub(in crate::server) trusted_proxy: Vec<IpNet>,
}

impl Port {
    /// How others than this machine reach the port; `None`: they do not. What a trusted proxy passes on comes from
    /// its clients, wherever the port listens.
    pub(in crate::server) fn reach(&self) -> Option<String> {
        if !is_loopback(self.listen.ip()) {
            return Some(format!("other machines reach --listen {}", self.listen));
        }
        let has_proxy = !self.trusted_proxy.is_empty();
        has_proxy.then(|| "the clients of --trusted-proxy reach this server".to_owned())
    }

    /// Whether credentials cross no network in plain text: the port has TLS, or a proxy before it.
    pub(in crate::server) fn is_protected(&self) -> bool {
        self.tls_cert.is_some() || !self.trusted_proxy.is_empty()
    }

    /// Checks that there are not too many proxies.
    ///
    /// # Errors
    /// More than [`TRUSTED_PROXIES_MAX`](limits::TRUSTED_PROXIES_MAX).
    pub(in crate::server) fn check_proxies(&self) -> Result<(), Error> {
        let most = limits::TRUSTED_PROXIES_MAX;
        if self.trusted_proxy.len() > most {
            return Err(Error::new(format!("--trusted-proxy takes at most {most} networks")));
        }
        Ok(())
    }

    /// The files of TLS; `None` for a port without it.
    ///
    /// # Errors
    /// A certificate without a key, or a key without a certificate.
    pub(in crate::server) fn tls(&self, asks_clients: bool) -> Result<Option<TlsFiles>, Error> {
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, asks_clients })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::new("--tls-cert needs --tls-key, its key")),
            (None, Some(_)) => Err(Error::new("--tls-key needs --tls-cert, its certificate")),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address and a port, such as 127.0.0.1:19080".to_owned())
}

/// Validates a host name without a port, or `*` for every name.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_label = |label: &str| !label.is_empty() && label.chars().all(is_part);
    let name = text.strip_suffix('.').unwrap_or(text);
    if text == "*" || name.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("not a host name without a port, such as store.example; * is every name".to_owned())
}

/// Validates a network of proxies, such as `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().into(),
        Err(_) => text.parse().map_err(|_| {
            "not a network or an address, such as 10.0.0.0/8, 192.0.2.1 or fd00::/8".to_owned()
        })?,
    };
    if network.prefix_len() == 0 {
        return Err("everyone would be a proxy, and could name any address as its own".to_owned());
    }
    if matches!(network.addr(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err("write an IPv4 network as such, without ::ffff:".to_owned());
    }
    Ok(network)
}
