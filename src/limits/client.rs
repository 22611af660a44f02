//! The bounds of the client and the command line.

use std::time::Duration;

/// How long a client waits until a connection is established.
pub const CLIENT_CONNECT_TIME: Duration = Duration::from_secs(10);
/// The interval of HTTP/2 pings of a client, and the timeout of their acknowledgement.
pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The buffer of a connection to a server in the same process, for each direction.
pub const IN_PROCESS_BUFFER_BYTES: usize = 256 << 10;
/// The HTTP/2 flow-control window of a client for one stream.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The HTTP/2 flow-control window of a client for one connection.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The silence of a connection after which a client considers it lost.
pub const CLIENT_DEAD: Duration = CLIENT_KEEP_ALIVE.saturating_mul(2);
/// How long a client waits for the response of a call, retries included, unless its caller sets a time.
pub const CALL_TIME: Duration = Duration::from_mins(1);
/// How long a client waits while no bytes of a file or backup are transferred: longer than the server waits
/// for its blob store, so that the server can report the error.
pub const TRANSFER_SILENCE: Duration = Duration::from_secs(150);
/// The same for an archive, which the server unpacks after its last byte. The server is probed meanwhile.
pub const UNPACK_SILENCE: Duration = Duration::from_hours(24);
/// The silence of a server after which a client probes it with a short call.
pub const ASK_AFTER: Duration = Duration::from_secs(20);
/// The timeout of this probe.
pub const ASK_TIME: Duration = Duration::from_secs(40);
/// How long after its deadline a client waits for the server to report the end of a copy.
pub const VERDICT_GRACE: Duration = Duration::from_secs(1);
/// How long a command may run after its timeout, to report how it ended.
pub const COMMAND_GRACE: Duration = Duration::from_secs(2);
/// The most retries in a row of a call whose connection was lost or that was refused as busy.
pub const RETRIES: u32 = 8;
/// The bound of the pause before the first retry; it doubles with each further one. The pause is drawn at random
/// below the bound (full jitter), so that many clients do not retry together. All pauses of a call take 16 s
/// on average.
pub const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The largest bound of a pause.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long a client waits for the digest of a file that it fetched, if the server has not computed it yet.
pub const DIGEST_TIME: Duration = Duration::from_mins(1);
/// The first pause between two requests for this digest; each further one is twice as long.
pub const DIGEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
pub const DIGEST_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Messages of a transfer that are queued between the disk and the connection.
pub const TRANSFER_MESSAGES_IN_FLIGHT: usize = 4;
/// Files of a folder that a client transfers at once, unless the command line sets it.
pub const TRANSFER_JOBS_DEFAULT: u8 = 8;
/// The most files of a folder that a client transfers at once: no more than [`UPLOADS_MAX`](super::UPLOADS_MAX).
pub const TRANSFER_JOBS_MAX: u8 = 64;
/// The shortest time between two lines of progress, where progress is printed in lines.
pub const PROGRESS_LINE_EVERY: Duration = Duration::from_secs(2);
/// How long an interrupted command waits for the server to confirm the cancellation.
pub const INTERRUPT_TIME: Duration = Duration::from_secs(10);
/// The largest configuration file of the command line.
pub const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// The most named stores in it.
pub const STORES_MAX: usize = 100;
/// The longest name of a store in it.
pub const STORE_NAME_BYTES_MAX: usize = 64;
