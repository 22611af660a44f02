//! The TLS of the port: the certificate of the server, its key, and the handshake.
//!
//! A change of the files makes a new configuration, for the connections from then on; it has new keys for session
//! tickets, so that sessions of the old certificate are not resumed. Files that do not fit together leave the old
//! configuration in use.
//!
//! Handshakes have no bound beside that of connections, which has a share for each peer and gives way: a smaller one
//! is full of the stalled handshakes of a few addresses, and then nobody else gets in.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring::Ticketer, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    certificate::check_validity,
    watched::{Source, Watched, read},
};
use crate::{
    limits::{TLS_FILE_BYTES_MAX, TLS_WRITE_BUFFER_BYTES},
    server::Error,
    tls,
};

/// The first byte of a TLS connection: the record type of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// The protocols that a client may select by ALPN, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of the certificate and the key of the server, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, that of the server first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
    /// Whether clients are asked for a certificate, which they need not show.
    pub asks_clients: bool,
}

/// Takes any client certificate: the handshake proves the possession of its key, and each call judges the rest.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None, so that clients also show certificates that no authority has signed.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The contents of both files.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::server) struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl TlsFiles {
    async fn read(&self) -> Result<Pair, Error> {
        let certificate = read("certificate", &self.certificate, TLS_FILE_BYTES_MAX).await?;
        Ok(Pair { certificate, key: read("key", &self.key, TLS_FILE_BYTES_MAX).await? })
    }

    /// The configuration of TLS with a pair that was read from these files, if it is valid `now`.
    fn config(&self, pair: &Pair, now: UnixTime) -> Result<Arc<ServerConfig>, Error> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let wrong_certificate = |why| Error::new(format!("the certificate {certificate} {why}"));
        let chain = tls::certificates(&pair.certificate).map_err(wrong_certificate)?;
        if let Some(own) = chain.first() {
            check_validity(own, now).map_err(wrong_certificate)?;
        }
        let parsed = tls::private_key(&pair.key)
            .map_err(|why| Error::new(format!("the key {key} {why}")))?;
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new("the provider of TLS is broken").because(error))?;
        let config = if self.asks_clients {
            config.with_client_cert_verifier(Arc::new(AnyCertificate(tls::provider())))
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_single_cert(chain, parsed).map_err(|error| {
            let is_other = matches!(error, rustls::Error::InconsistentKeys(_));
            let why = if is_other { "is not that of" } else { "cannot be used with" };
            Error::new(format!("the key {key} {why} the certificate {certificate}")).because(error)
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.ticketer = Ticketer::new()
            .map_err(|error| Error::new("cannot make a key for session tickets").because(error))?;
        Ok(Arc::new(config))
    }
}

/// Puts a new certificate and key in use.
pub(in crate::server) struct TlsSource {
    files: TlsFiles,
    sender: watch::Sender<Arc<ServerConfig>>,
}

impl Source for TlsSource {
    const NAME: &str = "the TLS certificate";
    type Content = Pair;

    async fn read(&self) -> Result<Pair, Error> {
        self.files.read().await
    }

    fn apply(&self, pair: &Pair, now: UnixTime) -> Result<(), Error> {
        self.sender.send_replace(self.files.config(pair, now)?);
        Ok(())
    }
}

/// The TLS of the port.
#[derive(Clone, Debug)]
pub(in crate::server) struct Tls {
    pub(super) config: watch::Receiver<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else; a certificate that is not valid now; a key that is not
    /// that of the certificate.
    pub(in crate::server) async fn open(
        files: TlsFiles,
    ) -> Result<(Self, Watched<TlsSource>), Error> {
        let pair = files.read().await?;
        let (sender, config) = watch::channel(files.config(&pair, UnixTime::now())?);
        Ok((Self { config }, Watched::new(TlsSource { files, sender }, pair)))
    }

    /// Makes the handshake of a connection. The caller bounds its time.
    ///
    /// # Errors
    /// A handshake that fails.
    pub(in crate::server) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.borrow());
        TlsAcceptor::from(config)
            .accept_with(stream, |connection| {
                connection.set_buffer_limit(Some(TLS_WRITE_BUFFER_BYTES));
            })
            .await
    }
}

/// Whether a client begins with TLS. Reads nothing; waits for the first byte.
///
/// # Errors
/// A connection that is broken, or that the client has closed.
pub(in crate::server) async fn is_handshake(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [HANDSHAKE]),
    }
}
