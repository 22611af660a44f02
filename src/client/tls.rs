//! TLS of the client: whom it trusts.

use tonic::transport::{Certificate, ClientTlsConfig};

use super::error::{Error, Result};

/// The marker of a certificate in PEM.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// TLS that trusts some authorities, in PEM, or those of the system.
///
/// # Errors
/// [`Error::Authorities`] if there is no certificate in the PEM.
pub(super) fn config(authorities: Option<&[u8]>) -> Result<ClientTlsConfig> {
    let config = ClientTlsConfig::new();
    let Some(pem) = authorities else { return Ok(config.with_native_roots()) };
    if !pem.windows(BEGIN.len()).any(|text| text == BEGIN) {
        return Err(Error::Authorities("it has no certificate in PEM".to_owned()));
    }
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}
