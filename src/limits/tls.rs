//! The bounds of TLS.

use std::time::Duration;

use super::{KIB, MIB};

/// How often the files of the certificate and the key are looked at.
pub const TLS_FILES_EVERY: Duration = Duration::from_secs(1);
/// The largest such file.
pub const TLS_FILE_BYTES_MAX: u64 = MIB as u64;
/// The bytes of responses that a connection encrypts ahead of a slow client.
pub const TLS_WRITE_BUFFER_BYTES: usize = 32 * KIB;
