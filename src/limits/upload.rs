//! The bounds of the parts of an upload, and of their buffers.

use std::time::Duration;

use super::{KIB, MIB};

/// The buffer that every upload has, in bytes, whatever the others do.
pub const UPLOAD_BUFFER_BYTES_MIN: usize = 128 * KIB;
/// The memory budget for the buffers of all uploads above that.
pub const UPLOAD_BUFFER_POOL_BYTES: usize = 64 * MIB;
/// How long an upload waits for the buffer of a whole part; then it cuts smaller parts. Longer than other uploads
/// keep such a buffer.
pub const UPLOAD_POOL_WAIT: Duration = Duration::from_secs(5);
/// While others need its buffer: how long the sender of an upload may take for [`UPLOAD_HOLD_BYTES`] of a part.
/// Then the bytes that have arrived become a part.
pub const UPLOAD_HOLD: Duration = Duration::from_millis(500);
/// With [`UPLOAD_HOLD`] two MiB a second, so that no part keeps its buffer for longer than some seconds.
pub const UPLOAD_HOLD_BYTES: usize = MIB;
/// The most parts of one upload or chunk: a file of 2 TiB in full parts, as
/// [`SESSION_PARTS_MAX`](super::SESSION_PARTS_MAX).
pub const UPLOAD_PARTS_MAX: usize = 1 << 18;
/// An upload with fewer parts waits for the buffer of a whole part for [`UPLOAD_POOL_WAIT`] only; one with at
/// least this many waits until it gets one.
pub const UPLOAD_PARTS_EARLY: usize = 1 << 12;
/// Parts of one upload that are written concurrently.
pub const UPLOAD_PARTS_IN_FLIGHT: usize = 3;
