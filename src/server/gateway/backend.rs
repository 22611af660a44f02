//! A backend as the command line names it, and the connections to its addresses.
//!
//! The name of a backend can have several addresses. A connection to any of them has the name in its requests, and the
//! certificate of the backend must be for the name.

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::service_fn;

use crate::{
    limits::{
        BACKEND_CONNECT_TIME, BACKEND_CONNECTION_WINDOW_BYTES, BACKEND_HEAD_BYTES_MAX,
        BACKEND_KEEP_ALIVE, BACKEND_STREAM_WINDOW_BYTES, TLS_FILE_BYTES_MAX,
    },
    server::{Error, config::is_loopback, identity::read_owned},
    tls,
};

/// The address of a backend: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendUrl {
    uri: Uri,
    host: String,
    port: u16,
    has_tls: bool,
}

impl BackendUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// Says what is accepted. The text is not repeated, because it may have a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not https://HOST:PORT or http://HOST:PORT".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let has_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let has_more = uri.path_and_query().is_some_and(|rest| rest.as_str() != "/");
        if has_more || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => Some(if has_tls { 443 } else { 80 }),
            // Also `None` for a number that is no port.
            Some(_) | None => authority.port_u16(),
        };
        let (host, port) = (bare.unwrap_or(host).to_owned(), port.ok_or_else(wrong)?);
        Ok(Self { uri, host, port, has_tls })
    }

    /// Whether the connections have TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// Whether the host is this machine, as far as its name says.
    pub(super) fn is_local(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }

    /// The addresses of the host at this moment.
    pub(super) async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.collect())
    }
}

impl std::fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.has_tls { "https" } else { "http" };
        let authority = self.uri.authority().map_or(self.host.as_str(), |name| name.as_str());
        write!(f, "{scheme}://{authority}")
    }
}

/// How connections to a backend are made.
#[derive(Clone, Debug)]
pub(super) struct Connector(Endpoint);

impl Connector {
    /// Connections that trust the authorities in some PEM, or without it those of the system.
    ///
    /// # Errors
    /// A name that no certificate can be for.
    pub(super) fn new(url: &BackendUrl, authorities: Option<&[u8]>) -> Result<Self, Error> {
        let failed = |error: tonic::transport::Error| {
            Error::new(format!("--backend {url} cannot be used")).because(error)
        };
        let endpoint = Endpoint::from(url.uri.clone())
            .connect_timeout(BACKEND_CONNECT_TIME)
            .http2_keep_alive_interval(BACKEND_KEEP_ALIVE)
            .keep_alive_timeout(BACKEND_KEEP_ALIVE)
            .initial_stream_window_size(BACKEND_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(BACKEND_CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(BACKEND_HEAD_BYTES_MAX);
        if !url.has_tls {
            return Ok(Self(endpoint));
        }
        let config = ClientTlsConfig::new().domain_name(&url.host);
        let config = match authorities {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        endpoint.tls_config(config).map(Self).map_err(failed)
    }

    /// A connection to an address, which is made at its first call, and again after it is lost. `connected` is called
    /// each time.
    pub(super) fn channel(
        &self,
        address: SocketAddr,
        connected: impl Fn() + Send + Sync + 'static,
    ) -> Channel {
        let connected = Arc::new(connected);
        self.0.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let connected = Arc::clone(&connected);
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connected();
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
    }
}

/// Reads the authorities of backends.
///
/// # Errors
/// A file that cannot be read, that others may write, or that has no certificate.
pub(super) async fn authorities(file: &Path) -> Result<Vec<u8>, Error> {
    let pem = read_owned("authorities", file, TLS_FILE_BYTES_MAX).await?;
    let wrong = |why| Error::new(format!("the authorities {} {why}", file.display()));
    tls::certificates(&pem).map_err(wrong)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_a_scheme_and_a_host() {
        for (text, host, port, has_tls) in [
            ("http://there:1", "there", 1, false),
            ("https://there", "there", 443, true),
            ("http://there/", "there", 80, false),
            ("https://[::1]:5", "::1", 5, true),
            ("https://127.0.0.1:5", "127.0.0.1", 5, true),
        ] {
            let url = BackendUrl::parse(text).expect(text);
            assert_eq!((url.host.as_str(), url.port, url.has_tls), (host, port, has_tls));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "",
            "there:1",
            "there",
            "ftp://there",
            "https://",
            "https://me:secret@there",
            "https://there/store",
            "https://there/?a=b",
            "https://there:99999",
        ] {
            let why = BackendUrl::parse(text).expect_err(text);
            assert_eq!(why, "not https://HOST:PORT or http://HOST:PORT");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (text, is_local) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9:1", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]:1", true),
            ("http://192.0.2.1:1", false),
            ("http://localhost.example:1", false),
        ] {
            assert_eq!(BackendUrl::parse(text).expect(text).is_local(), is_local, "{text}");
        }
    }
}
