//! The cryptography of TLS: one provider, ring, for the whole process.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// The algorithms of TLS that the server and its clients use.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
