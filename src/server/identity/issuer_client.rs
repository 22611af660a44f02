//! Fetches the keys of an issuer: its metadata (`OpenID` Connect Discovery), then the set of keys that they name.
//!
//! Both answers are small, come in bounded time, and from the address itself: a redirect is an error. The connection is
//! made directly, not through a proxy.

use std::{io, sync::Arc};

use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    jwks::{self, Key},
    watched::read_owned,
};
use crate::{
    access::{Issuer, key_address, shown},
    error::chain,
    limits::{
        ISSUER_ANSWER_BYTES_MAX, ISSUER_CONNECT_TIME, ISSUER_HEAD_BYTES_MAX, ISSUER_TIME,
        TLS_FILE_BYTES_MAX,
    },
    tls,
};

/// The path of the metadata below the address of an issuer.
const METADATA: &str = "/.well-known/openid-configuration";

/// The metadata of an issuer, of which the rest is for clients.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys of an issuer, in at most [`ISSUER_TIME`]. A key that is in `before` too is the same one.
///
/// # Errors
/// Says why they cannot be fetched, for the log.
///
/// # Cancel safety
/// The connection is closed.
pub(super) async fn fetch(issuer: &Issuer, before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, String> {
    let fetching = async {
        let connector = connector(issuer).await?;
        let address = format!("{}{METADATA}", issuer.url.trim_end_matches('/'));
        let metadata: Metadata = serde_json::from_slice(&get(&connector, &address).await?)
            .map_err(|error| format!("the answer of {address} is no metadata: {error}"))?;
        if metadata.issuer != issuer.url {
            return Err(format!("{address} is that of the issuer '{}'", shown(&metadata.issuer)));
        }
        let keys = &metadata.jwks_uri;
        let wrong = |why: String| format!("{address} has keys at {}, which {why}", shown(keys));
        // An issuer with https does not lead to this machine.
        if key_address(keys).map_err(wrong)?.scheme() != key_address(&issuer.url)?.scheme() {
            return Err(wrong("is another scheme than that of the issuer".to_owned()));
        }
        jwks::read(&get(&connector, keys).await?, before)
    };
    let late = |_| format!("no answer in {} seconds", ISSUER_TIME.as_secs());
    timeout(ISSUER_TIME, fetching).await.map_err(late)?
}

/// What makes TLS connections to an issuer. The authorities are read each time, so that renewed ones are taken.
async fn connector(issuer: &Issuer) -> Result<TlsConnector, String> {
    let roots = match &issuer.authorities {
        Some(file) => {
            let what = "certificate authorities of an issuer";
            let pem = read_owned(what, file, TLS_FILE_BYTES_MAX)
                .await
                .map_err(|error| error.explain())?;
            let mut roots = RootCertStore::empty();
            let wrong = |why| format!("the file of {what} {} {why}", file.display());
            for authority in tls::certificates(&pem).map_err(wrong)? {
                roots.add(authority).map_err(|error| wrong(error.to_string()))?;
            }
            roots
        }
        None => spawn_blocking(tls::system_roots).await.map_err(|error| error.to_string())?,
    };
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The body of the answer to a GET.
async fn get(connector: &TlsConnector, url: &str) -> Result<Vec<u8>, String> {
    let shown_url = shown(url);
    let address = key_address(url).map_err(|why| format!("{shown_url} {why}"))?;
    let failed = |error: io::Error| format!("cannot connect to {shown_url}: {error}");
    let is_tls = address.scheme_str() == Some("https");
    let host = address.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = address.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = connect(host, port, is_tls).await.map_err(failed)?;
    let body = if is_tls {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        exchange(stream, &address).await
    } else {
        exchange(stream, &address).await
    };
    body.map_err(|why| format!("{shown_url} {why}"))
}

/// Connects to the first address of a host that answers. One that has no TLS has to be on this machine.
async fn connect(host: &str, port: u16, is_tls: bool) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address here");
    for address in lookup_host((host, port)).await? {
        if !is_tls && !address.ip().is_loopback() {
            continue;
        }
        match timeout(ISSUER_CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Sends a GET over a connection, and returns the body of the answer.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    address: &Uri,
) -> Result<Vec<u8>, String> {
    let failed = |error: hyper::Error| format!("does not answer: {}", chain(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(ISSUER_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let target = address.path_and_query().map_or("/", |target| target.as_str());
    let host = address.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let request = Request::get(target)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("imagestore/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let mut exchange = Box::pin(async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("answers {status}; a redirect is not followed"));
        }
        if status != http::StatusCode::OK {
            return Err(format!("answers {status}"));
        }
        let body = Limited::new(answer.into_body(), ISSUER_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                format!("answers more than {ISSUER_ANSWER_BYTES_MAX} bytes")
            } else {
                format!("does not answer: {error}")
            }
        });
        Ok(body?.to_bytes().to_vec())
    });
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The connection may have ended after the answer.
        _ = connection => exchange.await,
    }
}
