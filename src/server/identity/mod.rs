//! TLS: the certificate of the server, and the handshake of a connection.

mod certificate;
mod tls;
#[cfg(test)]
mod tls_tests;

pub use tls::TlsFiles;
pub(super) use tls::{Reloader, Tls, is_handshake};
