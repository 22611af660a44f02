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

/// Archives that are unpacked concurrently. Each keeps its directory and one part in memory.
pub const UNPACKS_MAX: usize = 2;
/// Archives that may wait for their turn. They have arrived as a whole, so they wait without a bound of their own.
pub const UNPACKS_WAITING_MAX: usize = 64;
/// The most entries of an archive that is unpacked.
pub const UNPACK_ENTRIES_MAX: usize = 100_000;
/// The most bytes that are read to find the entries of an archive: its directory, and the search for it.
pub const UNPACK_DIRECTORY_BYTES_MAX: u64 = 32 * MIB as u64;
/// The most bytes of extra fields and comments in the directory of an archive. In memory they take ten times as much.
pub const UNPACK_EXTRA_BYTES_MAX: u64 = 8 * MIB as u64;
/// How many times its size an archive may become, above [`UNPACK_BYTES_FREE`]. Deflate makes up to 1,032 bytes of one.
pub const UNPACK_RATIO_MAX: u64 = 100;
/// The unpacked bytes for which the ratio of an archive does not count.
pub const UNPACK_BYTES_FREE: u64 = 64 * MIB as u64;
/// The bytes of one piece of an unpacked file.
pub const UNPACK_PIECE_BYTES: usize = 256 * KIB;
/// The pieces of unpacked files that wait to be stored.
pub const UNPACK_PIECES_WAITING: usize = 4;
/// Unpacked files that are stored concurrently.
pub const UNPACK_FILES_IN_FLIGHT: usize = 4;
/// Unpacking begins a transaction when this many rows are ready; the last file may exceed it.
pub const UNPACK_STEP_ROWS: usize = 500;
/// Unpacking begins a transaction when this many bytes of inline parts are ready; the last file may exceed it.
pub const UNPACK_STEP_BYTES: usize = MIB;
