//! What is read from X.509 certificates.

use rustls::pki_types::UnixTime;
use x509_cert::{Certificate, der::Decode};

/// Checks that a certificate, in DER, is valid at a time.
///
/// # Errors
/// Says why it is not; the text follows the name of the certificate.
pub(super) fn check_validity(certificate: &[u8], now: UnixTime) -> Result<(), String> {
    let certificate = Certificate::from_der(certificate)
        .map_err(|error| format!("is not an X.509 certificate: {error}"))?;
    let validity = certificate.tbs_certificate.validity;
    let (first, last) = (validity.not_before, validity.not_after);
    if now.as_secs() < first.to_unix_duration().as_secs() {
        return Err(format!("is not valid before {first}"));
    }
    if now.as_secs() > last.to_unix_duration().as_secs() {
        return Err(format!("expired at {last}"));
    }
    Ok(())
}
