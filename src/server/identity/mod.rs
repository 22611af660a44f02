//! Who is it: the certificate of the server, the handshake of a connection, and the caller of a request.

mod authenticator;
mod certificate;
mod clients;
#[cfg(test)]
mod clients_tests;
mod failures;
mod grants;
#[cfg(test)]
mod grants_tests;
mod issuer_client;
mod issuers;
mod jwks;
mod jwt;
#[cfg(test)]
mod jwt_tests;
mod key_ring;
pub(super) mod links;
mod tls;
#[cfg(test)]
mod tls_tests;
mod watched;

pub(super) use authenticator::{Authenticator, CERTIFICATE_REQUIRED};
pub use clients::ClientFiles;
pub(super) use clients::{ClientSource, Clients, Presented};
pub(super) use grants::GrantsSource;
pub(super) use issuers::Issuers;
pub use tls::TlsFiles;
pub(super) use tls::{Tls, TlsSource, is_handshake};
pub(super) use watched::{Source, Watched, read_owned};
