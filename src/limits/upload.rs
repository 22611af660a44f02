//! The bounds of the parts of an upload, and of the memory that they are filled in.

use std::time::Duration;

use super::{KIB, MIB};

/// What every upload may buffer whatever the others do.
pub const UPLOAD_BUFFER_BYTES_MIN: usize = 128 * KIB;
/// What all uploads together may buffer beyond that.
pub const UPLOAD_BUFFER_POOL_BYTES: usize = 64 * MIB;
/// How long an upload waits for the room of a whole part, longer than others keep it, before it cuts small.
pub const UPLOAD_POOL_WAIT: Duration = Duration::from_secs(5);
/// How long the sender of an upload may take for [`UPLOAD_HOLD_BYTES`] of a part, where others need the
/// room that the part has; what he has sent becomes a part then.
pub const UPLOAD_HOLD: Duration = Duration::from_millis(500);
/// With [`UPLOAD_HOLD`] two MiB a second, so that no part has its room for longer than some seconds.
pub const UPLOAD_HOLD_BYTES: usize = MIB;
/// The parts of one upload or chunk: a file of 2 TiB in full parts, as [`SESSION_PARTS_MAX`](super::SESSION_PARTS_MAX).
pub const UPLOAD_PARTS_MAX: usize = 1 << 18;
/// The parts of an upload up to which it does not wait for long for the room of a whole one.
pub const UPLOAD_PARTS_EARLY: usize = 1 << 12;
/// Parts of one upload that are written at once.
pub const UPLOAD_PARTS_IN_FLIGHT: usize = 3;
