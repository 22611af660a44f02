//! The bounds of access.

use std::time::Duration;

use super::MIB;

/// How often the files that a running server reads again are looked at.
pub const FILES_EVERY: Duration = Duration::from_secs(1);
/// The largest grants file.
pub const GRANTS_BYTES_MAX: usize = MIB;
/// The most grants in a grants file, and the most lines in the stored text of one caller's rights.
pub const GRANTS_MAX: usize = 1000;
/// The most names of one grant.
pub const GRANT_NAMES_MAX: usize = 100;
/// The most paths of one grant.
pub const GRANT_PATHS_MAX: usize = 100;
