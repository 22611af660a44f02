//! Every bound of the system in one place.

mod client;
mod database;
mod http2;
mod list;
mod sqlite;
mod upload;

use std::time::Duration;

pub use client::*;
pub use database::*;
pub use http2::*;
pub use list::*;
pub use sqlite::*;
pub use upload::*;

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// The longest path, in bytes of UTF-8.
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest name in a path, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 1024;
/// The deepest path, in names.
pub const PATH_DEPTH_MAX: usize = 128;

/// The files of a folder up to which it is looked for its farthest path before a copy is refused that
/// would make paths too deep or too long: some 20 ms.
pub const REACH_FILES_MAX: i64 = 10_000;

/// The most files or bytes below a folder: what a double holds exactly, so that JSON readers do.
pub const TOTAL_MAX: i64 = 1 << 53;

/// The largest part of a file.
pub const PART_BYTES_MAX: usize = 8 * MIB;
/// Parts up to this size are kept in the database, in the transaction of their entry. Files of 32 KiB
/// take as long either way; larger ones are faster as objects, since the one writer copies all bytes.
pub const INLINE_BYTES_MAX: usize = 16 * KIB;
/// The bytes of a part that are gathered in the heap; more of them have pages of their own.
pub const BUFFER_HEAP_BYTES: usize = 64 * KIB;
/// Uploads and chunks at once; further ones wait.
pub const UPLOADS_MAX: usize = 1024;
/// Uploads and chunks that wait; further ones are refused.
pub const UPLOADS_WAITING_MAX: usize = 1024;
/// How long an upload waits for its turn.
pub const UPLOAD_WAIT: Duration = Duration::from_secs(30);
/// Downloads at once; further ones wait.
pub const DOWNLOADS_MAX: usize = 512;
/// Downloads that wait; further ones are refused.
pub const DOWNLOADS_WAITING_MAX: usize = 512;
/// How long a download waits for its turn.
pub const DOWNLOAD_WAIT: Duration = Duration::from_secs(30);
/// Parts of a download whose rows are read at once; the bytes of small ones come with them.
pub const DOWNLOAD_PARTS_PAGE: usize = 64;
/// How often a range is asked for of a file that was replaced since the gateway looked at it.
pub const RANGE_TRIES: usize = 8;
/// What the parts that all downloads send from may take.
pub const DOWNLOAD_POOL_BYTES: usize = 32 * MIB;
/// How long a download keeps a part for a client that takes nothing, where others wait for theirs.
pub const DOWNLOAD_PIECE_WAIT: Duration = Duration::from_millis(50);
/// How long it keeps one for a client that takes it slowly. Either has the part read again.
pub const DOWNLOAD_HOLD: Duration = Duration::from_secs(1);
/// How long a client may let the server wait while it moves less than [`PACE_BYTES`], either way.
pub const BODY_STALL: Duration = Duration::from_mins(1);
/// What a client moves at least in the time of [`BODY_STALL`]: 273 bytes a second.
pub const PACE_BYTES: usize = 16 * KIB;

/// How long the blob store may take for one call: to put, read, look at or delete a part of at most
/// [`PART_BYTES_MAX`], or to tell some more of its listing.
pub const BLOB_TIME: Duration = Duration::from_mins(2);
/// Calls of the blob store at once; further ones wait. Half of the threads that the runtime has for
/// calls which block, so that a disk which never answers leaves the others to those who hash.
pub const BLOB_CALLS_MAX: usize = 256;

/// The bytes of one message of an upload, as a client sends it.
pub const STREAM_MESSAGE_BYTES: usize = 256 * KIB;
/// The bytes of one message of a download. A client that stands still costs the server some of them.
pub const DOWNLOAD_MESSAGE_BYTES: usize = 64 * KIB;
/// The largest gRPC message that is accepted or sent, before it is compressed: every client's default.
pub const MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// An answer from which on it is compressed, where its caller takes that.
pub const COMPRESSED_BYTES_MIN: usize = KIB;
/// How many times as long it takes to compress bytes as it takes to hash them.
pub const COMPRESSION_WORK: usize = 16;
/// The largest question after health, and to reflection.
pub const QUESTION_BYTES_MAX: usize = KIB;

/// What the messages of all streams may take together, until they are used.
pub const MESSAGE_POOL_BYTES: usize = 64 * MIB;
/// The largest message of a call in which client and server take turns.
pub const DIALOGUE_BYTES_MAX: usize = 64 * KIB;
/// How long the sender of a message waits for room.
pub const ROOM_WAIT: Duration = Duration::from_secs(30);

/// The share of a peer in a [`budget`](crate::budget): one part in so many.
pub const BUDGET_SHARE: usize = 4;
/// What of it is left to peers below their share: one part in so many.
pub const BUDGET_RESERVE: usize = 8;
/// How long a client above its share may let the server wait before it has to give way to others.
pub const BUDGET_STALL: Duration = Duration::from_secs(1);

/// The longest id that a request may bring.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// What an error over gRPC takes of the trailers of its call, encoded: clients refuse more than 8 KiB.
pub const STATUS_BYTES_MAX: usize = 6 * KIB;
/// The message of an error over gRPC. It is there three times: in percent-encoding, where a byte can take
/// three, and twice in base64. A longer one loses its middle.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 640;
/// What an error repeats of one part of a request. A longer one loses its middle.
pub const ECHO_BYTES_MAX: usize = 200;
/// All the values of an error over gRPC, once in base64. Longer ones lose their middle.
pub const STATUS_VALUES_BYTES_MAX: usize = 1280;
/// What the names and types of such an error take, before base64.
const STATUS_NAMES_BYTES: usize = 512;

/// Work on so many bytes leaves the threads of the runtime: JSON of them takes half a millisecond.
pub const OFFLOAD_BYTES_MIN: usize = 64 * KIB;
/// Such work that goes on at once; further work waits.
pub const OFFLOADS_MAX: usize = 8;
/// A message that is decoded while another thread serves the other tasks. It is more than a piece of a file.
pub const IN_PLACE_BYTES_MIN: usize = 2 * STREAM_MESSAGE_BYTES;

/// Names in a skip list.
pub const SKIP_FILES_MAX: usize = 10_000;
/// Bytes of these names.
pub const SKIP_FILES_BYTES_MAX: usize = MIB;
/// What the skip lists of all copies that run may take.
pub const SKIP_POOL_BYTES: usize = 16 * MIB;
/// Entity tags in a condition of a write: more than the head of a request has of those that files have.
pub const CONDITION_TAGS_MAX: usize = 1_024;
/// Names of a skip list without a match that an operation tells.
pub const SKIP_UNMATCHED_MAX: usize = 100;
/// Bytes of these names.
pub const SKIP_UNMATCHED_BYTES: usize = 8 * KIB;
/// Entries on a page of a listing when the caller does not say.
pub const LIST_PAGE_DEFAULT: usize = 1_000;
/// Entries on a page of a listing.
pub const LIST_PAGE_MAX: usize = 20_000;
/// Operations or sessions on a page when the caller does not say.
pub const RECORDS_PAGE_DEFAULT: usize = 100;
/// Operations or sessions on a page.
pub const RECORDS_PAGE_MAX: usize = 1_000;
/// Missing ranges that a session reports.
pub const SESSION_RANGES_MAX: usize = 10_000;
/// Sessions and pieces of them that one step of reading them looks at: some milliseconds.
pub const SESSION_STEP_ROWS: i64 = 10_000;
/// The pieces of one upload session: a file of 2 TiB in full parts. Its list is built, and its pieces are dropped,
/// in steps.
pub const SESSION_PARTS_MAX: i64 = 1 << 18;

/// Write jobs that wait for the writer: one of each call, so that a call which was let in has a place, and
/// each peer a share.
pub const WRITE_QUEUE_MAX: usize = CALLS_MAX;
/// Write jobs in one transaction.
pub const WRITE_BATCH_MAX: usize = 256;
/// Threads that read the database.
pub const READERS: usize = 4;
/// Read jobs that wait for a reader: one of each call.
pub const READ_QUEUE_MAX: usize = CALLS_MAX;
/// The page cache of one database connection.
pub const DATABASE_CACHE_KIB: i64 = 8 * 1024;

/// How long one step of background work may hold the writer.
pub const STEP: Duration = Duration::from_millis(5);
/// Rows that one step of a filtered copy touches at most.
pub const FILTER_STEP_ROWS: usize = 2_000;
/// Entries that a filtered copy reads at once.
pub const FILTER_PAGE_ROWS: usize = 64;
/// Entries of a folder that a copy which checks its files reads at once.
pub const VERIFY_PAGE_ROWS: usize = 512;
/// Filtered copies that look for what to leave out, or build, at once: each remembers the folders that
/// change. Further ones wait, and can be cancelled. One peer has all but one, until each is done.
pub const FILTERS_MAX: usize = 4;
/// How long one step of reclamation works, unless callers wait or it owes more; whatever it owes, no longer
/// than [`STEP`].
pub const RECLAIM_STEP: Duration = Duration::from_millis(1);
/// Rows that it looks at before it looks at the clock.
pub const RECLAIM_CHUNK_ROWS: usize = 8;
/// How often the time of a step it rests after it. `cargo bench --bench reclaim` tells what uploads feel
/// of it: without a rest their 99th percentile is ten times the idle one.
pub const RECLAIM_REST: u32 = 4;
/// How long after a write of somebody else it does so.
pub const RECLAIM_QUIET: Duration = Duration::from_secs(10);
/// What reclamation owes for each write of somebody else, whoever waits: a file that was overwritten is a
/// content and a part. What one step does not pay is owed by the next, without a rest before it.
pub const RECLAIM_OWED: u64 = 2;
/// What it owes at most: what is released beyond that waits until callers let it.
pub const RECLAIM_OWED_MAX: u64 = 256;
/// How long reclamation sleeps when nothing is due.
pub const RECLAIM_IDLE: Duration = Duration::from_millis(500);
/// Objects that are deleted in one round.
pub const RECLAIM_OBJECTS: usize = 256;
/// Objects that are deleted at once.
pub const RECLAIM_OBJECTS_IN_FLIGHT: usize = 8;
/// How long released content stays readable, unless the command line says otherwise.
pub const RECLAIM_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// The age from which a check tells of an object without a row; younger ones are left to the sweep.
pub const SWEEP_AGE: Duration = Duration::from_hours(1);
/// The age from which an object without a row is taken for a leftover where its key does not name the run
/// of the server that put it.
pub const SWEEP_AGE_UNNAMED: Duration = Duration::from_hours(24);
/// How long after a start leftovers are looked for.
pub const SWEEP_FIRST: Duration = Duration::from_mins(5);
/// How often they are looked for after that.
pub const SWEEP_EVERY: Duration = Duration::from_hours(6);

/// Rows that a check reads before it looks at the clock.
pub const CHECK_PAGE_ROWS: i64 = 256;
/// Findings in one report of a check, and parts or objects that it takes up at once.
pub const CHECK_FINDINGS_MAX: usize = 16;
/// Parts that a check reads at once.
pub const CHECK_IN_FLIGHT: usize = 4;
/// Paths that a finding names.
pub const CHECK_PATHS_MAX: usize = 16;
/// Entries that are followed upward for the paths of one finding.
pub const CHECK_CLIMB_MAX: usize = 10_000;
/// Rows that one repair removes at most.
pub const CHECK_REPAIR_ROWS: i64 = 500;

/// The format of backups that this program writes, and the newest that it reads.
pub const BACKUP_FORMAT: u32 = 1;
/// Backups that run at once.
pub const BACKUPS_MAX: usize = 4;
/// Rows of one page of a backup, so parts in one offer and entries in one record.
pub const BACKUP_PAGE_ROWS: usize = 256;
/// Parts of a backup that are read, written or put at once.
pub const BACKUP_PARTS_IN_FLIGHT: usize = 4;
/// Pages of a backup that wait for its caller.
pub const BACKUP_PIECES_WAITING: usize = 4;
/// Rows that one step of a restore writes at most.
pub const RESTORE_STEP_ROWS: usize = 1_000;
/// Bytes of small parts that one step of a restore writes, but for the last one's.
pub const RESTORE_STEP_BYTES: usize = MIB;
/// Bytes of records that wait behind a part of a restore that is being put.
pub const RESTORE_WAITING_BYTES: usize = 4 * MIB;

/// Parts of a file that one transaction lists; the list of a longer file is written in steps.
pub const LIST_STEP_ROWS: usize = 500;
/// Pins that are dropped in one transaction.
pub const UNPIN_ROWS: usize = 500;
/// How long it waits where they cannot be dropped, until it tries again.
pub const UNPIN_PAUSE: Duration = Duration::from_secs(1);
/// How often pins are looked for that an earlier run of the server has left behind.
pub const UNPIN_EVERY: Duration = Duration::from_mins(1);

/// How long an upload session lives after its last chunk: upstream's figure.
pub const SESSION_LIFE: Duration = Duration::from_mins(30);
/// How often expired sessions and operations are looked for.
pub const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Rows of expired sessions or operations that are dropped in one transaction.
pub const EXPIRE_ROWS: usize = 500;
/// How long finished operations are kept, unless the command line says otherwise.
pub const OPERATION_LIFE_DEFAULT: Duration = Duration::from_hours(168);

/// Progress is reported at most so often.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Copies that read and check their parts at once; further ones wait, and can be cancelled. Those of a peer
/// above its share pause where others wait.
pub const VERIFIES_MAX: usize = 8;
/// How long the end of an operation waits before it is tried again, where the database fails; each time
/// twice as long, up to the second.
pub const VERDICT_RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait.
pub const VERDICT_RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits until the operations that it cancels have ended. The next start fails those that
/// have not.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Copies that take more than one transaction at once; further ones are refused.
pub const OPERATIONS_RUNNING_MAX: usize = 1024;
/// Those who watch operations at once, one or all; further ones are refused. A watch costs the
/// same whatever it follows, so no operation has a bound of its own.
pub const WATCHERS_MAX: usize = CALLS_MAX / 2;
/// Changes that a watcher of all operations may lag behind before it is given them from the database.
pub const WATCH_LAG: usize = 1024;
/// Changes that such a watcher is given from the database at once.
pub const CHANGES_PAGE: usize = 256;

/// The body of a POST or DELETE: upstream's figure (reference, section 1.7).
pub const REST_BODY_BYTES_MAX: usize = 4 * MIB;
/// What all requests that are read whole may take together.
pub const BODY_POOL_BYTES: usize = 32 * MIB;
/// What those of questions after the health and of cancellations may take together, whatever the others do.
pub const URGENT_POOL_BYTES: usize = 4 * MIB;
/// How much of a refused upload is read on, so that its client receives the answer.
pub const REFUSED_BODY_BYTES: usize = 32 * MIB;
/// How long a refused upload is read on.
pub const REFUSED_BODY_TIME: Duration = Duration::from_secs(5);
/// The time that a REST call has when it does not say: upstream's figure.
pub const REST_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// The newest api-version, as in reference 1.4.
pub const API_VERSION_MAX: f64 = 11.4;
/// The oldest api-version.
pub const API_VERSION_MIN: f64 = 1.0;
/// The version that `GET /$/GetClusterVersion` answers: `sfctl` 11.2.1 warns of others than 8 and 9.
pub const CLUSTER_VERSION: &str = "9.1.0.0";
/// The body of a request that takes none, up to which it is read on so that its connection lives on.
pub const UNUSED_BODY_BYTES: usize = 64 * KIB;
/// How often a stream of events says that it lives.
pub const EVENTS_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Connections that are served at once, where the process may open twice as many files.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections beyond those that are answered at once, each with a refusal; further ones wait for that.
/// They have no shares, since each is over in [`CONNECTION_REFUSED_TIME`].
pub const CONNECTIONS_REFUSED_MAX: usize = 256;
/// How long a connection lasts that is refused.
pub const CONNECTION_REFUSED_TIME: Duration = Duration::from_secs(5);
/// Calls of all connections at once; further ones are refused.
pub const CALLS_MAX: usize = 4096;
/// Questions after the health and cancellations at once, beyond those.
pub const URGENT_CALLS_MAX: usize = 256;
/// What the large answers that are there as a whole, as pages of a listing are, may take together.
pub const ANSWER_POOL_BYTES: usize = 32 * MIB;
/// An answer up to this size needs no room there: a message of a download is one.
pub const ANSWER_FREE_BYTES: usize = DOWNLOAD_MESSAGE_BYTES + KIB;
/// What an answer hands to its HTTP/2 connection at once, and so what waits there for a client.
pub const ANSWER_PIECE_BYTES: usize = PACE_BYTES;
/// What an HTTP/1 connection reads ahead, the longest head of a request, and what it writes behind.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * KIB;
/// The head of a request: the longest path, percent-encoded, and room for headers.
pub const HEADER_BYTES_MAX: usize = 64 * KIB;
/// The head of an HTTP/2 request up to which it is read, so that its call alone is refused. A longer one
/// costs the connection in the end: its compression has a state that all calls share.
pub const HEADER_BYTES_READ: u32 = 384 << 10;
/// How often an HTTP/2 client is asked whether it is there.
pub const PING_EVERY: Duration = Duration::from_mins(1);
/// How long an HTTP/2 client may take to say so.
pub const PING_TIME: Duration = Duration::from_secs(20);
/// The silence of a connection after which the kernel asks its client whether it is there.
pub const PROBE_AFTER: Duration = Duration::from_mins(1);
/// How often it asks after that.
pub const PROBE_EVERY: Duration = Duration::from_secs(20);
/// How often in vain until the connection is over.
pub const PROBES: u32 = 3;
/// How long a client may acknowledge nothing of what it was sent until the connection is over.
pub const SILENCE_TIME: Duration = Duration::from_mins(2);
/// How long an HTTP/2 connection may last without a call. One of HTTP/1 has [`HEADER_TIME`].
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// How long the server waits when it cannot accept a connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the head of a request may take, and the first request of a connection to begin.
pub const HEADER_TIME: Duration = Duration::from_secs(30);
/// How often the server asks its database whether it answers, for those who ask after its health.
pub const READY_EVERY: Duration = Duration::from_secs(1);
/// How long that may take.
pub const READY_TIME: Duration = Duration::from_secs(1);
/// How long connections may take to end in a stop.
pub const END_TIME: Duration = Duration::from_secs(6);
/// How long the store may take to close after that.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long the tasks and calls of the process that are left may take then; they hold nothing that matters.
pub const RUNTIME_STOP_TIME: Duration = Duration::from_secs(1);
/// How long a stop may take, all of it, whether the database and the disk answer or not.
pub const STOP_TIME: Duration = Duration::from_secs(8);

/// What the server leaves free on the disk, unless the command line says otherwise.
pub const RESERVE_BYTES_DEFAULT: u64 = 16 * MIB as u64;
/// The longest time that the command line may set.
pub const SETTING_TIME_MAX: Duration = Duration::from_hours(24 * 3650);

/// A time span as the microseconds that the tables hold; more than 64 bits hold is for ever.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

const _: () = assert!(DRAIN_TIME.as_secs() <= END_TIME.as_secs());
const _: () = assert!(
    END_TIME.as_secs() + CLOSE_TIME.as_secs() + RUNTIME_STOP_TIME.as_secs() <= STOP_TIME.as_secs()
);
const _: () = assert!(INLINE_BYTES_MAX < PART_BYTES_MAX);
const _: () = assert!(BACKUP_PAGE_ROWS * (NAME_BYTES_MAX + 64) < MESSAGE_BYTES_MAX);
const _: () = assert!(LIST_PAGE_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(
    3 * STATUS_MESSAGE_BYTES_MAX
        + (2 * STATUS_MESSAGE_BYTES_MAX + STATUS_VALUES_BYTES_MAX + STATUS_NAMES_BYTES) * 4 / 3
        <= STATUS_BYTES_MAX
);
const _: () =
    assert!(2 * CHECK_FINDINGS_MAX * (CHECK_PATHS_MAX + 1) * PATH_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(TRANSFER_SILENCE.as_secs() > BLOB_TIME.as_secs());
const _: () = assert!(TRANSFER_JOBS_MAX as usize <= UPLOADS_MAX);
