//! The bounds of listings.

use std::time::Duration;

use super::{CALLS_MAX, KIB, MIB, READERS};

/// Pages of folders, operations and sessions that are read at once: one reader is left for short reads.
pub const LISTINGS_MAX: usize = READERS - 1;
/// Pages that wait: one for each admitted call. Pages of a peer that reads none go first.
pub const LISTINGS_WAITING_MAX: usize = CALLS_MAX;
/// How long a page waits; then its call is refused as busy.
pub const LISTING_WAIT: Duration = Duration::from_secs(30);
/// Entries that a REST listing without pages reads at once. A stalled client costs the server one such page, and
/// up to [`LIST_FOLDERS_BYTES`] of folders that are sent after all files.
pub const LIST_STREAM_PAGE: usize = 256;
/// Bytes of folders that such a listing keeps while it sends the files; the pages of further folders are read
/// a second time.
pub const LIST_FOLDERS_BYTES: usize = 64 * KIB;
/// The most bytes on a page of a listing: the value of upstream (reference, section 4.4).
pub const LIST_PAGE_BYTES: usize = 3 * MIB;
