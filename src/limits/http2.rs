//! The bounds of a connection of HTTP/2.

use std::time::Duration;

use super::{CALLS_MAX, KIB, MIB, URGENT_CALLS_MAX};

/// Calls of one HTTP/2 connection at once; its client keeps further ones back.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// What a call of an HTTP/2 connection may send before its handler reads it.
pub const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What all of them may, where nobody reads: 272 MiB. One that is refused keeps nothing. What small frames
/// take beside their bytes has [`SMALL_FRAMES_PER_CONNECTION`].
pub const WINDOWS_BYTES: usize = (CALLS_MAX + URGENT_CALLS_MAX) * STREAM_WINDOW_BYTES as usize;
/// What all calls of an HTTP/2 connection may send: the windows of all, so that calls which wait
/// for their turn cannot starve those that run.
pub const CONNECTION_WINDOW_BYTES: u32 = STREAMS_PER_CONNECTION_MAX * STREAM_WINDOW_BYTES;
/// A DATA frame with fewer bytes is a small one: what is kept of it beside its bytes, some 250 more, counts. A
/// window of larger ones takes a quarter more than its bytes.
pub const SMALL_FRAME_BYTES: usize = KIB;
/// Small frames of a connection that may be unread: 32 KiB of memory.
pub const SMALL_FRAMES_PER_CONNECTION: usize = 128;
/// Further ones for each body that is not at its end, so that calls which wait do not hold up those that run.
pub const SMALL_FRAMES_PER_BODY: usize = 8;
/// After which time one counts no more that was not read: the one of a body that was dropped before it came.
pub const SMALL_FRAME_FORGET: Duration = Duration::from_secs(1);

const _: () = assert!(WINDOWS_BYTES == 272 * MIB);
