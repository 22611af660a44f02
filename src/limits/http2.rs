//! The bounds of an HTTP/2 connection.

use std::time::Duration;

use super::{CALLS_MAX, KIB, MIB, URGENT_CALLS_MAX};

/// Streams (calls) of one HTTP/2 connection at once; the client delays further ones.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// The flow-control window of a stream: the bytes that a client may send before the handler reads them.
pub const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The most unread bytes of all admitted calls: 272 MiB. A refused call keeps none. The overhead of small frames
/// is bounded by [`SMALL_FRAMES_PER_CONNECTION`].
pub const WINDOWS_BYTES: usize = (CALLS_MAX + URGENT_CALLS_MAX) * STREAM_WINDOW_BYTES as usize;
/// The flow-control window of a connection: the sum of the windows of its streams, so that calls which wait for
/// a permit cannot starve those that run.
pub const CONNECTION_WINDOW_BYTES: u32 = STREAMS_PER_CONNECTION_MAX * STREAM_WINDOW_BYTES;
/// A DATA frame with fewer bytes is small, and small frames are counted: each takes some 250 bytes beside its data.
/// A window of larger frames takes at most a quarter more than its bytes. Where a client sends other frames between
/// them, each keeps the buffer of 8 KiB that it came in.
pub const SMALL_FRAME_BYTES: usize = KIB;
/// Unread small frames that a connection may have: 32 KiB of memory if they follow one another.
pub const SMALL_FRAMES_PER_CONNECTION: usize = 128;
/// Further ones for each unfinished body, so that calls which wait rarely block those that run: 68 MiB for all calls.
pub const SMALL_FRAMES_PER_BODY: usize = 64;
/// The interval at which one unread small frame of a connection is no longer counted: nobody reads a frame whose body
/// was dropped before the frame arrived.
pub const SMALL_FRAME_FORGET: Duration = Duration::from_secs(1);
/// The trailers of a request, as they are sent. The connection of a client that sends more ends.
pub const TRAILER_BYTES_MAX: usize = 256;

const _: () = assert!(WINDOWS_BYTES == 272 * MIB);
