//! TLS of the client: whom it trusts.

use tonic::transport::{Certificate, ClientTlsConfig};

use super::error::{Error, Result};
use crate::tls;

/// TLS that trusts some authorities, in PEM, or those of the system.
///
/// # Errors
/// [`Error::Authorities`] if there is no certificate in the PEM.
pub(super) fn config(authorities: Option<&[u8]>) -> Result<ClientTlsConfig> {
    let config = ClientTlsConfig::new();
    let Some(pem) = authorities else { return Ok(config.with_native_roots()) };
    tls::certificates(pem).map_err(|why| Error::Authorities(format!("it {why}")))?;
    Ok(config.ca_certificate(Certificate::from_pem(pem)))
}
