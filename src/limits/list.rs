//! The bounds of listings.

use std::time::Duration;

use super::{CALLS_MAX, KIB, MIB, READERS};

/// Pages of folders, operations and sessions that are read at once: one reader is left for short questions.
pub const LISTINGS_MAX: usize = READERS - 1;
/// Further ones that wait: one of each call. Those of an address that reads none go first.
pub const LISTINGS_WAITING_MAX: usize = CALLS_MAX;
/// How long a page waits at most.
pub const LISTING_WAIT: Duration = Duration::from_secs(30);
/// Entries that a listing without pages reads at once: a client that stands still costs the server
/// one such piece, and some of the folders that were found so far.
pub const LIST_STREAM_PAGE: usize = 256;
/// Bytes of such folders from which on the pages of further ones are read once more.
pub const LIST_FOLDERS_BYTES: usize = 64 * KIB;
/// Bytes on a page of a listing: upstream's figure (reference, section 4.4).
pub const LIST_PAGE_BYTES: usize = 3 * MIB;
