//! The bounds of TLS.

use super::{KIB, MIB};

/// The largest file of a certificate or a key.
pub const TLS_FILE_BYTES_MAX: u64 = MIB as u64;
/// The bytes of responses that a connection encrypts ahead of a slow client.
pub const TLS_WRITE_BUFFER_BYTES: usize = 32 * KIB;
