//! TLS of the client: whom it trusts, and who it is.

use tonic::transport::{self, Certificate, ClientTlsConfig, Endpoint};

use super::{
    Identity, Options,
    error::{Error, Result},
};
use crate::tls;

/// TLS that trusts some authorities, in PEM, or those of the system, and shows a certificate if there is one.
///
/// # Errors
/// [`Error::Authorities`] if there is no certificate in the PEM; [`Error::Identity`] for a certificate or a key that is
/// not PEM.
pub(super) fn config(options: &Options) -> Result<ClientTlsConfig> {
    let mut config = ClientTlsConfig::new();
    if let Some(Identity { certificate, key }) = &options.identity {
        let unfit = |what: &str, why: String| Error::Identity(format!("the {what} {why}"));
        tls::certificates(certificate).map_err(|why| unfit("certificate", why))?;
        tls::private_key(key.expose().as_bytes()).map_err(|why| unfit("key", why))?;
        config = config.identity(transport::Identity::from_pem(certificate, key.expose()));
    }
    let Some(pem) = &options.authorities else { return Ok(config.with_native_roots()) };
    tls::certificates(pem).map_err(|why| Error::Authorities(format!("it {why}")))?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}

/// An endpoint without TLS.
///
/// # Errors
/// [`Error::Authorities`] or [`Error::Identity`] for options that only TLS has.
pub(super) fn without(endpoint: Endpoint, options: &Options) -> Result<Endpoint> {
    let why = || format!("{} is without TLS; write https://HOST:PORT", endpoint.uri());
    if options.authorities.is_some() {
        return Err(Error::Authorities(why()));
    }
    if options.identity.is_some() {
        return Err(Error::Identity(why()));
    }
    Ok(endpoint)
}
