//! Who is it: the certificate of the server, the handshake of a connection, and the caller of a request.

mod authenticator;
mod certificate;
mod failures;
mod grants;
#[cfg(test)]
mod grants_tests;
mod tls;
#[cfg(test)]
mod tls_tests;
mod watched;

pub(super) use authenticator::Authenticator;
pub(super) use grants::GrantsSource;
pub use tls::TlsFiles;
pub(super) use tls::{Tls, TlsSource, is_handshake};
pub(super) use watched::Watched;
