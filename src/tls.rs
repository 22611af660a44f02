//! What all ends of TLS share: the cryptography, and certificates and keys in PEM.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The algorithms of TLS: one provider, ring, for the whole process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Makes the provider that of the process, for libraries that ask the process for it.
pub fn install_provider() {
    // An error means that it is there already.
    ring::default_provider().install_default().ok();
}

/// The certificate authorities of the system; none if it has none. Blocks on reading their files.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The certificates in a file of PEM, at least one.
///
/// # Errors
/// Says why there is none; the text follows the name of the file.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("has no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

/// The private key in a file of PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted.
///
/// # Errors
/// Says why there is none; the text follows the name of the file.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if String::from_utf8_lossy(pem).contains("ENCRYPTED") {
            "is encrypted; 'openssl pkey -in FILE' prints it decrypted".to_owned()
        } else {
            format!("has no private key in PEM: {error}")
        }
    })
}
