//! Every size, count, queue and time bound of the system in one place.

mod access;
mod client;
mod database;
mod gateway;
mod http2;
mod list;
mod migrate;
mod package;
mod sqlite;
mod stop;
mod tls;
mod upload;

use std::time::Duration;

pub use access::*;
pub use client::*;
pub use database::*;
pub use gateway::*;
pub use http2::*;
pub use list::*;
pub use migrate::*;
pub use package::*;
pub use sqlite::*;
pub use stop::*;
pub use tls::*;
pub use upload::*;

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;

/// The longest path, in bytes of UTF-8, with its separators.
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest name in a path, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 1024;
/// The deepest path, in names.
pub const PATH_DEPTH_MAX: usize = 128;

/// Folders of up to this many files have their reach recounted before a copy is refused because its paths
/// would be too deep or too long. A recount takes some 20 ms.
pub const REACH_FILES_MAX: i64 = 10_000;

/// The most files or bytes below a folder: a double holds every integer up to it, so JSON readers do, too.
pub const TOTAL_MAX: i64 = 1 << 53;

/// The largest part of a file, in bytes.
pub const PART_BYTES_MAX: usize = 8 * MIB;
/// Parts up to this size are stored inline in the database, in the transaction of their entry. Files of 32 KiB
/// take as long either way; larger ones are faster as objects, since the one writer copies all inline bytes.
pub const INLINE_BYTES_MAX: usize = 16 * KIB;
/// The buffer of a part is in the heap up to this size; a larger one has memory pages of its own.
pub const BUFFER_HEAP_BYTES: usize = 64 * KIB;
/// Uploads and chunks that run at once; further ones wait.
pub const UPLOADS_MAX: usize = 1024;
/// Uploads and chunks that wait; further ones are refused.
pub const UPLOADS_WAITING_MAX: usize = 1024;
/// How long an upload waits for a permit among [`UPLOADS_MAX`]; then it is refused as busy.
pub const UPLOAD_WAIT: Duration = Duration::from_secs(30);
/// Downloads that run at once; further ones wait.
pub const DOWNLOADS_MAX: usize = 512;
/// Downloads that wait; further ones are refused.
pub const DOWNLOADS_WAITING_MAX: usize = 512;
/// How long a download waits for a permit among [`DOWNLOADS_MAX`]; then it is refused as busy.
pub const DOWNLOAD_WAIT: Duration = Duration::from_secs(30);
/// Rows of parts that a download reads at once; the rows of inline parts contain their bytes.
pub const DOWNLOAD_PARTS_PAGE: usize = 64;
/// How often the gateway reads a file anew that was replaced between its validators and its range; then it
/// answers with the whole file.
pub const RANGE_TRIES: usize = 8;
/// The memory budget for the parts that all downloads send from.
pub const DOWNLOAD_POOL_BYTES: usize = 32 * MIB;
/// While the budget is used up: how long a download keeps its part for a client that requests no piece. The
/// part is read again when the client continues.
pub const DOWNLOAD_PIECE_WAIT: Duration = Duration::from_millis(50);
/// While the budget is used up: how long a download keeps its part for a client that requests pieces slowly.
pub const DOWNLOAD_HOLD: Duration = Duration::from_secs(1);
/// How long a client may let the server wait while it transfers less than [`THROUGHPUT_BYTES_MIN`], in either direction.
pub const BODY_STALL: Duration = Duration::from_mins(1);
/// The bytes that a client transfers at least in [`BODY_STALL`]: 273 a second.
pub const THROUGHPUT_BYTES_MIN: usize = 16 * KIB;

/// The timeout of one call of the blob store: to put, read, look at or delete an object of at most
/// [`PART_BYTES_MAX`], or to return the next part of a listing.
pub const BLOB_TIME: Duration = Duration::from_mins(2);
/// The timeout of one request to a bucket.
pub const BLOB_REQUEST_TIME: Duration = Duration::from_mins(1);
/// The timeout of a connection to a bucket.
pub const BLOB_CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often a request to a bucket is repeated that failed.
pub const BLOB_RETRIES_MAX: usize = 3;
/// Calls of the blob store at once; further ones wait. Half of the threads of the blocking pool, so that a
/// disk which never answers leaves the other half to hashing.
pub const BLOB_CALLS_MAX: usize = 256;

/// The file bytes in one message of an upload, as our client sends them.
pub const STREAM_MESSAGE_BYTES: usize = 256 * KIB;
/// The file bytes in one message of a download. A stalled client costs the server some such messages of memory.
pub const DOWNLOAD_MESSAGE_BYTES: usize = 64 * KIB;
/// The largest gRPC message that is accepted or sent, uncompressed: the default of every gRPC client.
pub const MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// The size from which on a response is compressed, where the client accepts compression.
pub const COMPRESSED_BYTES_MIN: usize = KIB;
/// The time to compress bytes, as a multiple of the time to hash them.
pub const COMPRESSION_WORK: usize = 16;
/// The largest request message of the health and reflection services.
pub const QUESTION_BYTES_MAX: usize = KIB;

/// The memory budget for the request messages of all streams, from their arrival until they are processed.
pub const MESSAGE_POOL_BYTES: usize = 64 * MIB;
/// The largest request message of a call in which client and server send alternately.
pub const DIALOGUE_BYTES_MAX: usize = 64 * KIB;
/// How long a message waits for memory of [`MESSAGE_POOL_BYTES`]; then its call is refused as busy.
pub const ROOM_WAIT: Duration = Duration::from_secs(30);

/// The share of a peer is this fraction (1/4) of a [`budget`](crate::budget).
pub const BUDGET_SHARE: usize = 4;
/// The reserve for peers below their share is this fraction (1/8) of a budget.
pub const BUDGET_RESERVE: usize = 8;
/// How long the client of a peer above its share may stall before its permit can be revoked for others.
pub const BUDGET_STALL: Duration = Duration::from_secs(1);

/// The longest request id that a client may send.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// The most encoded bytes of an error in the trailers of a gRPC call: clients refuse more than 8 KiB of trailers.
pub const STATUS_BYTES_MAX: usize = 6 * KIB;
/// The longest message of a gRPC error. The trailers have it three times: once percent-encoded, where a byte
/// can take three, and twice in base64. A longer message loses its middle.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 640;
/// The longest value of a request that an error quotes. A longer value loses its middle.
pub const ECHO_BYTES_MAX: usize = 200;
/// The metadata values of a gRPC error together; the trailers have them once, in base64. Longer values lose
/// their middle.
pub const STATUS_VALUES_BYTES_MAX: usize = 1280;
/// The names and types in the details of a gRPC error, before base64.
const STATUS_NAMES_BYTES: usize = 512;

/// Work on at least this many bytes leaves the threads of the runtime: JSON of this size takes half a millisecond.
pub const OFFLOAD_BYTES_MIN: usize = 64 * KIB;
/// Offloaded work that runs at once; further work waits.
pub const OFFLOADS_MAX: usize = 8;
/// Messages of at least this size are decoded with [`in_place`](crate::offload::in_place). A message with a
/// piece of a file is smaller.
pub const IN_PLACE_BYTES_MIN: usize = 2 * STREAM_MESSAGE_BYTES;

/// The most names in a skip list.
pub const SKIP_FILES_MAX: usize = 10_000;
/// The most bytes of the names of a skip list.
pub const SKIP_FILES_BYTES_MAX: usize = MIB;
/// The memory budget for the skip lists of all running copies.
pub const SKIP_POOL_BYTES: usize = 16 * MIB;
/// The most entity tags in a condition of a write: more valid tags than fit into the headers of a request.
pub const CONDITION_TAGS_MAX: usize = 1_024;
/// The most skip-list names without a match that an operation reports.
pub const SKIP_UNMATCHED_MAX: usize = 100;
/// The most bytes of these names.
pub const SKIP_UNMATCHED_BYTES: usize = 8 * KIB;
/// Entries on a page of a listing, unless the caller sets a page size.
pub const LIST_PAGE_DEFAULT: usize = 1_000;
/// The most entries on a page of a listing.
pub const LIST_PAGE_MAX: usize = 20_000;
/// Operations or sessions on a page, unless the caller sets a page size.
pub const RECORDS_PAGE_DEFAULT: usize = 100;
/// The most operations or sessions on a page.
pub const RECORDS_PAGE_MAX: usize = 1_000;
/// The most missing ranges that a session reports.
pub const SESSION_RANGES_MAX: usize = 10_000;
/// Rows of sessions and their pieces that one step of a read visits: some milliseconds.
pub const SESSION_STEP_ROWS: i64 = 10_000;
/// The most pieces of one upload session: a file of 2 TiB in full parts. The list of the file is built, and the
/// pieces are dropped, in steps.
pub const SESSION_PARTS_MAX: i64 = 1 << 18;

/// Write jobs that wait for the writer: one for each admitted call, so that every such call has a place and
/// peers share the queue as they share the calls.
pub const WRITE_QUEUE_MAX: usize = CALLS_MAX;
/// The most write jobs in one transaction.
pub const WRITE_BATCH_MAX: usize = 256;
/// Threads that read the database.
pub const READERS: usize = 4;
/// Read jobs that wait for a reader: one for each admitted call.
pub const READ_QUEUE_MAX: usize = CALLS_MAX;
/// The page cache of one database connection.
pub const DATABASE_CACHE_KIB: i64 = 8 * 1024;

/// How long one step of background work may hold the writer.
pub const STEP: Duration = Duration::from_millis(5);
/// The most rows that one step of a filtered copy touches.
pub const FILTER_STEP_ROWS: usize = 2_000;
/// The least bytes of a row of an entry in the database, for the check of the free space.
pub const ENTRY_ROW_BYTES: u64 = 256;
/// Entries that a filtered copy reads at once.
pub const FILTER_PAGE_ROWS: usize = 64;
/// Entries of a folder that a verifying copy reads at once.
pub const VERIFY_PAGE_ROWS: usize = 512;
/// Filtered copies that search or build at once: each remembers the folders that change. Further ones wait, and
/// can be cancelled. One peer may have all but one; their permits are not revoked.
pub const FILTERS_MAX: usize = 4;
/// The duration of one step of reclamation. A step ends earlier if writers wait, and later if it still owes
/// work ([`RECLAIM_OWED`]), after [`STEP`] at the latest.
pub const RECLAIM_STEP: Duration = Duration::from_millis(1);
/// Rows that a step of reclamation handles between two looks at the clock.
pub const RECLAIM_CHUNK_ROWS: usize = 8;
/// The rest of reclamation after a step, as a multiple of the time of the step. `cargo bench --bench reclaim`
/// measures its effect on uploads: without a rest their 99th percentile is ten times the idle one.
pub const RECLAIM_REST: u32 = 4;
/// Reclamation rests only while the last write of another caller is younger than this.
pub const RECLAIM_QUIET: Duration = Duration::from_secs(10);
/// Items that reclamation must take apart for each write of another caller, even if writers wait: an
/// overwritten file is two, a content and a part. The next step owes what one step does not do, and follows
/// without a rest.
pub const RECLAIM_OWED: u64 = 2;
/// The most items that reclamation owes: anything above waits until no writers wait.
pub const RECLAIM_OWED_MAX: u64 = 256;
/// How long reclamation sleeps when nothing is due.
pub const RECLAIM_IDLE: Duration = Duration::from_millis(500);
/// Dead objects that reclamation reads, claims and forgets together.
pub const RECLAIM_OBJECTS: usize = 256;
/// Objects that are deleted concurrently.
pub const RECLAIM_OBJECTS_IN_FLIGHT: usize = 8;
/// The grace: how long released content stays readable, unless the command line sets it.
pub const RECLAIM_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// The age from which a check reports an object without a row; younger ones are left to the sweep.
pub const SWEEP_AGE: Duration = Duration::from_hours(1);
/// The age from which the sweep deletes an object without a row whose key does not name the run of the server
/// that put it.
pub const SWEEP_AGE_UNNAMED: Duration = Duration::from_hours(24);
/// How long after a start the first sweep begins.
pub const SWEEP_FIRST: Duration = Duration::from_mins(5);
/// The pause between two sweeps.
pub const SWEEP_EVERY: Duration = Duration::from_hours(6);

/// Rows that a check reads between two looks at the clock.
pub const CHECK_PAGE_ROWS: i64 = 256;
/// Findings in one report of a check, and the parts or objects that it takes at once.
pub const CHECK_FINDINGS_MAX: usize = 16;
/// Parts that a check reads concurrently.
pub const CHECK_IN_FLIGHT: usize = 4;
/// The most paths that a finding names.
pub const CHECK_PATHS_MAX: usize = 16;
/// The most entries that are followed upward to find the paths of one finding.
pub const CHECK_CLIMB_MAX: usize = 10_000;
/// The most rows that one step of a repair removes.
pub const CHECK_REPAIR_ROWS: i64 = 500;

/// The format of backups that this program writes, and the newest one that it reads.
pub const BACKUP_FORMAT: u32 = 1;
/// Backups that run at once.
pub const BACKUPS_MAX: usize = 4;
/// Rows of one page of a backup, so parts in one offer and entries in one record.
pub const BACKUP_PAGE_ROWS: usize = 256;
/// Parts of a backup or restore that are read, written or put concurrently.
pub const BACKUP_PARTS_IN_FLIGHT: usize = 4;
/// Pieces of a backup (offers, records, data) that are queued for its caller.
pub const BACKUP_PIECES_WAITING: usize = 4;
/// A restore begins a transaction when this many rows are ready; the last record may exceed it.
pub const RESTORE_STEP_ROWS: usize = 1_000;
/// A restore begins a transaction when this many bytes of inline parts are ready; the last part may exceed it.
pub const RESTORE_STEP_BYTES: usize = MIB;
/// Bytes of records and inline parts that may wait behind a part of a restore that is being put.
pub const RESTORE_WAITING_BYTES: usize = 4 * MIB;

/// Parts of a file whose list one transaction writes; the list of a longer file is written in steps.
pub const LIST_STEP_ROWS: usize = 500;
/// Pins that are dropped in one transaction.
pub const UNPIN_ROWS: usize = 500;
/// The pause before pins that could not be dropped are tried again.
pub const UNPIN_PAUSE: Duration = Duration::from_secs(1);
/// The pause between two looks for what dead servers have left.
pub const CLEAR_EVERY: Duration = Duration::from_secs(5);

/// How long an upload session lives after its last chunk: the value of upstream.
pub const SESSION_LIFE: Duration = Duration::from_mins(30);
/// The pause between two looks for expired sessions and operations.
pub const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Rows of expired sessions or operations that are dropped in one transaction.
pub const EXPIRE_ROWS: usize = 500;
/// How long finished operations are kept, unless the command line sets it.
pub const OPERATION_LIFE_DEFAULT: Duration = Duration::from_hours(168);

/// The shortest time between two progress reports.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Verifying copies that read their parts at once; further ones wait, and can be cancelled. Copies of a peer
/// above its share pause while others wait.
pub const VERIFIES_MAX: usize = 8;
/// The first pause before the last transaction of an operation is repeated because the database failed; each
/// further one is twice as long, up to [`VERDICT_RETRY_MAX`].
pub const VERDICT_RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const VERDICT_RETRY_MAX: Duration = Duration::from_secs(5);
/// Copies that take more than one transaction at once; further ones are refused.
pub const OPERATIONS_RUNNING_MAX: usize = 1024;
/// Watchers at once, of one operation or all; further ones are refused. Every watch costs the same, so no
/// operation has a bound of its own.
pub const WATCHERS_MAX: usize = CALLS_MAX / 2;
/// Changes that a watcher of all operations may lag behind before it reads them from the database.
pub const WATCH_LAG: usize = 1024;
/// Changes that such a watcher reads from the database at once.
pub const CHANGES_PAGE: usize = 256;

/// The largest body of a POST or DELETE: the value of upstream (reference, section 1.7).
pub const REST_BODY_BYTES_MAX: usize = 4 * MIB;
/// The memory budget for all requests that are buffered whole.
pub const BODY_POOL_BYTES: usize = 32 * MIB;
/// A memory budget of their own for the requests of health checks and cancellations.
pub const URGENT_POOL_BYTES: usize = 4 * MIB;
/// The bytes of a refused upload that are read and dropped, so that its client receives the response.
pub const REFUSED_BODY_BYTES: usize = 32 * MIB;
/// How long a refused upload is read and dropped.
pub const REFUSED_BODY_TIME: Duration = Duration::from_secs(5);
/// The timeout of a REST call that sets none: the value of upstream.
pub const REST_TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// The newest api-version (reference, section 1.4).
pub const API_VERSION_MAX: f64 = 11.4;
/// The oldest api-version.
pub const API_VERSION_MIN: f64 = 1.0;
/// The version that `GET /$/GetClusterVersion` answers: `sfctl` 11.2.1 warns of others than 8 and 9.
pub const CLUSTER_VERSION: &str = "9.1.0.0";
/// The bytes of an unused request body that are read and dropped, so that its connection can be used again.
pub const UNUSED_BODY_BYTES: usize = 64 * KIB;
/// The silence of a stream of events after which the server sends a keep-alive comment.
pub const EVENTS_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Connections that are served at once; fewer where the process may not open twice as many files.
pub const CONNECTIONS_MAX: usize = 4096;
/// Further connections that are refused at once, each with a response; the next ones wait for that. They have
/// no shares among peers, since each ends within [`CONNECTION_REFUSED_TIME`].
pub const CONNECTIONS_REFUSED_MAX: usize = 256;
/// How long a refused connection lasts.
pub const CONNECTION_REFUSED_TIME: Duration = Duration::from_secs(5);
/// Calls of all connections at once; further ones are refused.
pub const CALLS_MAX: usize = 4096;
/// Health checks and cancellations at once, beside [`CALLS_MAX`].
pub const URGENT_CALLS_MAX: usize = 256;
/// The memory budget for large responses that are in memory as a whole, such as pages of listings.
pub const ANSWER_POOL_BYTES: usize = 32 * MIB;
/// Responses up to this size take nothing of that budget: a message of a download is one.
pub const ANSWER_FREE_BYTES: usize = DOWNLOAD_MESSAGE_BYTES + KIB;
/// The piece of a response that is handed to its HTTP/2 connection at once, and waits there for the client.
pub const ANSWER_PIECE_BYTES: usize = THROUGHPUT_BYTES_MIN;
/// The read buffer (and so the longest request head) and the write buffer of an HTTP/1 connection.
pub const CONNECTION_BUFFER_BYTES: usize = 64 * KIB;
/// The largest head of a request: the longest path, percent-encoded, and headers.
pub const HEADER_BYTES_MAX: usize = 64 * KIB;
/// The largest head of an HTTP/2 request that is read, so that only its call is refused. A longer one costs
/// the connection in the end, since all calls share the state of header compression.
pub const HEADER_BYTES_READ: u32 = 384 << 10;
/// The interval of HTTP/2 pings to a client.
pub const PING_EVERY: Duration = Duration::from_mins(1);
/// How long an HTTP/2 client may take to acknowledge a ping.
pub const PING_TIME: Duration = Duration::from_secs(20);
/// The idle time of a connection after which the kernel sends TCP keep-alive probes.
pub const PROBE_AFTER: Duration = Duration::from_mins(1);
/// The interval of these probes.
pub const PROBE_EVERY: Duration = Duration::from_secs(20);
/// Unanswered probes after which the connection is closed.
pub const PROBES: u32 = 3;
/// How long sent bytes may stay unacknowledged until the kernel closes the connection (TCP user timeout).
pub const SILENCE_TIME: Duration = Duration::from_mins(2);
/// How long an HTTP/2 connection may last without a call. One of HTTP/1 has [`HEADER_TIME`].
pub const IDLE_TIME: Duration = Duration::from_mins(5);
/// The pause after a connection could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the head of a request may take to arrive, and the first request of a connection to begin.
pub const HEADER_TIME: Duration = Duration::from_secs(30);
/// The interval of the probe of the database that health checks report.
pub const READY_EVERY: Duration = Duration::from_secs(1);
/// The timeout of this probe.
pub const READY_TIME: Duration = Duration::from_secs(1);

/// The bytes that the server leaves free on the disk, unless the command line sets them.
pub const RESERVE_BYTES_DEFAULT: u64 = 16 * MIB as u64;
/// The longest time that the command line may set.
pub const SETTING_TIME_MAX: Duration = Duration::from_hours(24 * 3650);

/// A duration in microseconds, as the tables store it; `i64::MAX` where that overflows.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

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
