//! TLS to the database, with the parameters of libpq in the URL: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
//!
//! Without `sslmode` it is `verify-full`, and `disable` where all hosts are this machine. `prefer` and `allow` are
//! refused: whoever can change the traffic can make them speak without TLS. The files are read for each connection,
//! so that renewed ones are taken.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use tokio_postgres::config::{Config, Host};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::{Error, Result},
    tls,
};

/// The protocol of PostgreSQL in ALPN, which `sslnegotiation=direct` needs.
const PROTOCOL: &[u8] = b"postgresql";
/// The value of `sslrootcert` for the authorities of the system.
const SYSTEM: &str = "system";
/// The permissions of others than the owner and the group.
const OTHERS: u32 = 0o007;

/// What is checked of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    /// TLS; the certificate is checked as with `VerifyCa` where `sslrootcert` is given, else not at all.
    Require,
    /// The certificate is signed by a trusted authority.
    VerifyCa,
    /// The same, and it is that of the host.
    VerifyFull,
}

/// How to make the TLS of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsSettings {
    mode: Option<Mode>,
    /// The authorities in PEM; `None` or `system`: those of the system.
    roots: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsSettings {
    /// Takes the parameters of TLS out of a URL. Returns the URL without them.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown `sslmode`, and for `sslcert` or `sslkey` without the other.
    pub(super) fn split(url: &str) -> Result<(Self, String)> {
        let mut found = Self { mode: None, roots: None, certificate: None, key: None };
        // As the driver, which takes all before the first `@` as user and password.
        let host = url.find('@').map_or(0, |at| at + 1);
        let Some(query) = url.get(host..).and_then(|rest| rest.find('?')).map(|at| host + at + 1)
        else {
            return Ok((found, url.to_owned()));
        };
        let (base, query) = url.split_at(query);
        let mut others = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = || {
                let decoded = percent_decode_str(value).decode_utf8();
                decoded.map_err(|_| refused(&format!("{name} is not UTF-8")))
            };
            let path = || text().map(|text| Some(PathBuf::from(text.as_ref())));
            match name {
                "sslmode" => found.mode = Some(mode(&text()?)?),
                "sslrootcert" => found.roots = path()?,
                "sslcert" => found.certificate = path()?,
                "sslkey" => found.key = path()?,
                _ => others.push(pair),
            }
        }
        found.check()?;
        let rest = format!("{base}{}", others.join("&"));
        Ok((found, rest.strip_suffix('?').unwrap_or(&rest).to_owned()))
    }

    fn check(&self) -> Result<()> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err(refused("sslcert and sslkey need each other"));
        }
        let is_system = self.roots.as_ref().is_none_or(|roots| roots.as_os_str() == SYSTEM);
        let is_weak = match self.mode {
            // Anybody can have a certificate of a public authority, for a name of their own.
            Some(Mode::VerifyCa) => is_system,
            Some(Mode::Require) => is_system && self.roots.is_some(),
            Some(Mode::Disable | Mode::VerifyFull) | None => false,
        };
        if is_weak {
            let why = "the authorities of the system are for sslmode=verify-full; give the file of \
                       an authority as sslrootcert";
            return Err(refused(why));
        }
        Ok(())
    }

    /// Sets the mode where the URL has none.
    pub(super) fn complete(&mut self, config: &Config) {
        let default = if is_local(config) { Mode::Disable } else { Mode::VerifyFull };
        self.mode.get_or_insert(default);
    }

    /// Whether TLS is made.
    pub(super) fn is_enabled(&self) -> bool {
        self.mode != Some(Mode::Disable)
    }

    /// Whether any certificate of the database is accepted.
    pub(super) fn trusts_anyone(&self) -> bool {
        self.mode == Some(Mode::Require) && self.roots.is_none()
    }

    /// Reads the files, and makes a connector. Blocks.
    ///
    /// # Errors
    /// `InvalidArgument` for a file that cannot be read or holds something else, and for a key that others can read.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = tls::provider();
        let algorithms = provider.signature_verification_algorithms;
        let roots = if self.trusts_anyone() { None } else { Some(self.roots()?) };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?;
        let builder = match (self.mode, roots) {
            (Some(Mode::VerifyFull) | None, Some(roots)) => builder.with_root_certificates(roots),
            (_, roots) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainVerifier { roots, algorithms })),
        };
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = parsed("sslcert", certificate, tls::certificates)?;
                let private = parsed("sslkey", key, tls::private_key)?;
                check_private(key)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    refused(&format!("sslkey {} is not that of sslcert: {error}", key.display()))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(path) if path.as_os_str() != SYSTEM => {
                for root in parsed("sslrootcert", path, tls::certificates)? {
                    roots.add(root).map_err(|error| {
                        refused(&format!("sslrootcert {}: {error}", path.display()))
                    })?;
                }
            }
            _ => {
                roots = tls::system_roots();
                if roots.is_empty() {
                    return Err(refused(
                        "the system has no certificate authorities; give sslrootcert",
                    ));
                }
            }
        }
        Ok(roots)
    }
}

fn refused(why: &str) -> Error {
    Error::invalid("database", why)
}

fn mode(text: &str) -> Result<Mode> {
    match text {
        "disable" => Ok(Mode::Disable),
        "require" => Ok(Mode::Require),
        "verify-ca" => Ok(Mode::VerifyCa),
        "verify-full" => Ok(Mode::VerifyFull),
        _ => Err(refused(&format!(
            "sslmode={text} is not supported; use verify-full, verify-ca, require or disable"
        ))),
    }
}

/// Whether all hosts are this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(|address| address.to_canonical().is_loopback());
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
        }
    })
}

/// Reads and parses the file of a parameter.
fn parsed<T>(
    name: &str,
    path: &PathBuf,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T> {
    let text = path.display();
    let bytes = fs::read(path)
        .map_err(|error| refused(&format!("{name} {text} cannot be read: {error}")))?;
    parse(&bytes).map_err(|why| refused(&format!("{name} {text} {why}")))
}

/// Refuses a key that everybody can read.
fn check_private(key: &PathBuf) -> Result<()> {
    let is_open = fs::metadata(key).is_ok_and(|found| found.permissions().mode() & OTHERS != 0);
    if is_open {
        let key = key.display();
        return Err(refused(&format!(
            "sslkey {key} can be read by others; 'chmod o= {key}' ends that"
        )));
    }
    Ok(())
}

/// Verifies the chain of a certificate, if there are authorities, and not its name.
#[derive(Debug)]
struct ChainVerifier {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode of a URL, and the URL that is left.
    fn split(url: &str) -> (Option<Mode>, String) {
        let (mut settings, rest) = TlsSettings::split(url).expect(url);
        settings.complete(&rest.parse().expect(url));
        (settings.mode, rest)
    }

    #[test]
    fn the_mode_is_that_of_the_url_or_follows_from_the_hosts() {
        for (hosts, mode) in [
            ("db.example", Mode::VerifyFull),
            ("192.0.2.1", Mode::VerifyFull),
            ("localhost,db.example", Mode::VerifyFull),
            ("localhost", Mode::Disable),
            ("127.0.0.2:5433", Mode::Disable),
            ("[::1]", Mode::Disable),
            ("%2Fvar%2Frun", Mode::Disable),
        ] {
            let url = format!("postgres://me@{hosts}/db");
            assert_eq!(split(&url), (Some(mode), url));
        }
        let rest = |url: &str| split(url).0;
        assert_eq!(rest("postgres://me@localhost/db?hostaddr=192.0.2.1"), Some(Mode::VerifyFull));
        assert_eq!(rest("postgres://me@db.example/db?hostaddr=127.0.0.1"), Some(Mode::Disable));
        for (text, mode) in [
            ("disable", Mode::Disable),
            ("require", Mode::Require),
            ("verify-ca", Mode::VerifyCa),
            ("verify-full", Mode::VerifyFull),
        ] {
            let url =
                format!("postgres://me@h/db?connect_timeout=3&sslmode={text}&sslrootcert=%2Fa");
            assert_eq!(
                split(&url),
                (Some(mode), "postgres://me@h/db?connect_timeout=3".to_owned())
            );
        }
    }

    #[test]
    fn a_password_is_no_parameter() {
        for (password, parameter) in [("pa?ss", "?sslmode=require"), ("se?sslkey=%ff&&b", "")] {
            let url = format!("postgres://me:{password}@localhost/db");
            let (found, rest) = split(&format!("{url}{parameter}"));
            let expected = if parameter.is_empty() { Mode::Disable } else { Mode::Require };
            assert_eq!((found, rest), (Some(expected), url));
        }
    }

    #[test]
    fn other_modes_and_half_a_pair_are_refused() {
        for (query, why) in [
            ("sslmode=prefer", "sslmode=prefer is not supported; use verify-full"),
            ("sslmode=", "sslmode= is not supported"),
            ("sslcert=a", "sslcert and sslkey need each other"),
            ("sslkey=a", "sslcert and sslkey need each other"),
            ("sslkey=%ff", "sslkey is not UTF-8"),
            ("sslmode=verify-ca", "give the file of an authority"),
            ("sslmode=verify-ca&sslrootcert=system", "give the file of an authority"),
            ("sslmode=require&sslrootcert=system", "give the file of an authority"),
        ] {
            let error = TlsSettings::split(&format!("postgres://h/db?{query}")).expect_err(query);
            assert!(error.message().contains(why), "{error:?}");
        }
    }
}
