//! The bounds of TLS.

use std::time::Duration;

use super::{KIB, MIB};

/// The largest file of a certificate or a key.
pub const TLS_FILE_BYTES_MAX: u64 = MIB as u64;
/// How long a client certificate that is refused is not looked at again.
pub const CERTIFICATE_REFUSED_TIME: Duration = Duration::from_secs(1);
/// The longest name of a client certificate; a longer one is none.
pub const CERTIFICATE_NAME_BYTES_MAX: usize = KIB;
/// The most names of a client certificate; further ones are none.
pub const CERTIFICATE_NAMES_MAX: usize = 100;
/// The bytes of responses that a connection encrypts ahead of a slow client.
pub const TLS_WRITE_BUFFER_BYTES: usize = 32 * KIB;
