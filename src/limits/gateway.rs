//! The bounds of a gateway before remote servers.

use std::time::Duration;

use super::{CALLS_MAX, MESSAGE_BYTES_MAX, MIB, STREAMS_PER_CONNECTION_MAX, URGENT_CALLS_MAX};

/// The most backends that flags name.
pub const BACKENDS_MAX: usize = 64;
/// The most addresses of one name of a backend; further ones are not used.
pub const BACKEND_ADDRESSES_MAX: usize = 64;
/// How often the name of a backend is resolved again.
pub const BACKEND_RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// How long this may take.
pub const BACKEND_RESOLVE_TIME: Duration = Duration::from_secs(5);
/// The connections to an address of a backend: as many streams as the gateway has calls.
pub const BACKEND_CONNECTIONS: usize = 5;
/// How long a backend may take to accept a connection.
pub const BACKEND_CONNECT_TIME: Duration = Duration::from_secs(5);
/// The interval of HTTP/2 pings to a backend, and the timeout of their acknowledgement.
pub const BACKEND_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The HTTP/2 flow-control window of a call: the bytes that a backend may send before the client of the gateway takes
/// them.
pub const BACKEND_STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// That of a connection: the sum of the windows of its calls, so that clients which stall do not hold up others.
pub const BACKEND_CONNECTION_WINDOW_BYTES: u32 =
    STREAMS_PER_CONNECTION_MAX * BACKEND_STREAM_WINDOW_BYTES;
/// The longest head of an answer of a backend: an error repeats its message three times.
pub const BACKEND_HEAD_BYTES_MAX: u32 = 64 << 10;
/// How often the health of a backend is asked for.
pub const BACKEND_PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the answer may take.
pub const BACKEND_PROBE_TIME: Duration = Duration::from_secs(5);
/// The most tries of a call, the first one included.
pub const BACKEND_TRIES: u32 = 4;
/// The bytes of the messages of all calls that are kept to be sent again, until their answers begin.
pub const BACKEND_KEPT_BYTES: usize = 64 * MIB;
/// After this time no further try of a call begins. It is longer than it takes to notice that a backend is lost.
pub const BACKEND_RETRY_TIME: Duration = Duration::from_secs(15);
/// How long a call waits for a backend that serves.
pub const BACKEND_WAIT_TIME: Duration = Duration::from_secs(2);
/// The bound of the pause before a call goes to the same backend again; it doubles with each further one. The pause is
/// drawn at random below the bound.
pub const BACKEND_RETRY_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(
    BACKEND_CONNECTIONS * STREAMS_PER_CONNECTION_MAX as usize > CALLS_MAX + URGENT_CALLS_MAX
);
const _: () = assert!(BACKEND_KEPT_BYTES > 8 * MESSAGE_BYTES_MAX);
const _: () = assert!(2 * BACKEND_KEEP_ALIVE.as_secs() < BACKEND_RETRY_TIME.as_secs());
