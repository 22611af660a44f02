//! The bounds of the client and the command line.

use std::time::Duration;

/// How long a client waits for a connection.
pub const CLIENT_CONNECT_TIME: Duration = Duration::from_secs(10);
/// How often a client asks a silent server whether it lives, and how long it waits for the answer.
pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a connection to a server in the same process keeps each way, until the other end takes it.
pub const IN_PROCESS_BUFFER_BYTES: usize = 256 << 10;
/// What a client lets a server send ahead on one stream.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// What a client lets a server send ahead on one connection.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// When a client takes a connection for lost on which nothing comes.
pub const CLIENT_DEAD: Duration = CLIENT_KEEP_ALIVE.saturating_mul(2);
/// How long a client waits for the answer to a call, repeats included, unless it is told.
pub const CALL_TIME: Duration = Duration::from_mins(1);
/// How long a client waits while nothing of a file or a backup moves: longer than the server waits for its
/// blob store, so that the server can say what is wrong.
pub const TRANSFER_SILENCE: Duration = Duration::from_secs(150);
/// The silence of a server after which it is asked whether it is there.
pub const ASK_AFTER: Duration = Duration::from_secs(20);
/// How long it may take to say so.
pub const ASK_TIME: Duration = Duration::from_secs(40);
/// How long a client waits for the end of a copy that the server stops because its time is over.
pub const VERDICT_GRACE: Duration = Duration::from_secs(1);
/// How long a command may go on after its time, to tell how it ended.
pub const COMMAND_GRACE: Duration = Duration::from_secs(2);
/// How often in a row a client repeats a call whose connection was lost or that was refused as busy.
pub const RETRIES: u32 = 8;
/// The pause before the first repeat is at most so long; the longest one is twice as long each time. Of a
/// pause a part is left that is drawn by lot, so that many clients do not come at once: 16 s in all in the
/// mean.
pub const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long a client waits for the digest of a file that it fetched, where that is not computed yet.
pub const DIGEST_TIME: Duration = Duration::from_mins(1);
/// The pause before it asks again; each further one is twice as long.
pub const DIGEST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause before it asks again.
pub const DIGEST_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Messages of a transfer that wait between the disk and the connection.
pub const TRANSFER_MESSAGES_IN_FLIGHT: usize = 4;
/// Files of a folder that a client moves at once, unless the command line says otherwise.
pub const TRANSFER_JOBS_DEFAULT: u8 = 8;
/// Files of a folder that a client moves at once: as many as the server takes.
pub const TRANSFER_JOBS_MAX: u8 = 64;
/// Where progress is told in lines, one comes at most so often.
pub const PROGRESS_LINE_EVERY: Duration = Duration::from_secs(2);
/// How long a command that is interrupted waits for the server to confirm.
pub const INTERRUPT_TIME: Duration = Duration::from_secs(10);
