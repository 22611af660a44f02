//! The bounds of an HTTP/2 connection.

use std::time::Duration;

use super::{CALLS_MAX, KIB, MIB, URGENT_CALLS_MAX};

/// Streams (calls) of one HTTP/2 connection at once; the client delays further ones.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// The flow-control window of a stream: the bytes that a client may send before the handler reads them.
pub const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The most unread bytes of all admitted calls: 272 MiB. A refused call keeps none. The overhead of small frames
/// is bounded by [`UNREAD_POOL_BYTES`].
pub const WINDOWS_BYTES: usize = (CALLS_MAX + URGENT_CALLS_MAX) * STREAM_WINDOW_BYTES as usize;
/// The flow-control window of a connection: the sum of the windows of its streams, so that calls which wait for
/// a permit cannot starve those that run.
pub const CONNECTION_WINDOW_BYTES: u32 = STREAMS_PER_CONNECTION_MAX * STREAM_WINDOW_BYTES;
/// A DATA frame with fewer bytes is small, and small frames are counted. A window of larger frames takes at most a
/// quarter more than its bytes.
pub const SMALL_FRAME_BYTES: usize = KIB;
/// What the library of HTTP/2 keeps for an unread frame beside its payload: at most 256 bytes, in a list of the
/// connection that doubles when it is full, and that never shrinks.
pub const FRAME_OVERHEAD_BYTES: usize = 512;
/// The largest buffer into which the library reads frames of 16 KiB. An unread payload keeps its buffer.
pub const FRAME_BUFFER_BYTES: usize = 32 * KIB;
/// What a received byte takes of such buffers, at most: a buffer with too little space for the next frame is left.
pub const BUFFER_PER_RECEIVED: usize = 2;
/// What the small frames of every connection may take: 128 MiB for all.
pub const UNREAD_FREE_BYTES: usize = 32 * KIB;
/// What those of all connections may take together beyond that.
pub const UNREAD_POOL_BYTES: usize = 32 * MIB;
/// The steps in which a connection takes of it.
pub const UNREAD_STEP_BYTES: usize = 64 * KIB;
/// How long after its last body and its last small frame the unread small frames of a connection are no longer
/// counted: nobody reads a frame whose body was dropped before the frame arrived.
pub const SMALL_FRAME_FORGET: Duration = Duration::from_secs(1);
/// The trailers of a request, as they are sent. The connection of a client that sends more ends.
pub const TRAILER_BYTES_MAX: usize = 256;

const _: () = assert!(WINDOWS_BYTES == 272 * MIB);
