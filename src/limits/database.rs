//! The bounds of a database server (PostgreSQL).

use std::time::Duration;

/// The most names of folders whose ids the writer keeps, to read the rows of a path together.
pub const NAME_CACHE_MAX: usize = 4096;
/// The timeout of a connection to the database server, and of the login.
pub const DATABASE_CONNECT_TIME: Duration = Duration::from_secs(5);
/// The timeout of one statement.
pub const DATABASE_STATEMENT_TIME: Duration = Duration::from_secs(8);
/// The timeout of each statement that upgrades a store when it is opened.
pub const DATABASE_START_TIME: Duration = Duration::from_mins(10);
/// How long after the timeout of a statement the connection is given up, if the server has not responded.
pub const DATABASE_GRACE: Duration = Duration::from_secs(2);
/// How long a statement waits for a lock that another session has.
pub const DATABASE_LOCK_TIME: Duration = Duration::from_secs(5);
/// How long a transaction may be idle before the database ends it: a server that is stopped in a transaction keeps the
/// write lock from the others for that long.
pub const DATABASE_IDLE_TIME: Duration = Duration::from_secs(5);
/// The first pause of the circuit breaker for a database that does not answer: calls are refused until the next
/// try. Each further pause is twice as long, up to [`DATABASE_PAUSE_MAX`].
pub const DATABASE_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const DATABASE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The interval of TCP keep-alive probes to the database server.
pub const DATABASE_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the proof of the write lock waits for another connection to be seen waiting; an engine that does not tell
/// has it held off for that long.
pub const LOCK_PROOF_TIME: Duration = Duration::from_millis(300);
/// How often that is looked at.
pub const LOCK_PROOF_EVERY: Duration = Duration::from_millis(5);
/// How long a second session may take to answer while the first one is in a transaction. A pooler with one session does
/// not answer.
pub const POOLER_PROOF_TIME: Duration = Duration::from_secs(5);
/// The most jobs in one transaction, each in a savepoint: PostgreSQL caches 64 subtransactions of a session, and
/// readers slow down while one has more.
pub const DATABASE_SAVEPOINTS_MAX: usize = 60;
/// How long the writer looks for the verdict of a commit whose response is lost; it does nothing else meanwhile.
pub const VERDICT_TIME: Duration = Duration::from_secs(10);
/// The first pause between two tries; each further one is twice as long, up to [`VERDICT_PAUSE_MAX`]. Up to half of a
/// pause is left out at random.
pub const VERDICT_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest such pause.
pub const VERDICT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the row of a dead server is kept.
pub const SERVER_ROW_LIFE: Duration = Duration::from_hours(168);
/// How long the commits of a server may stand still before another one declares it dead, unless told otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest lease: a database that is slow for a moment is no death.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_hours(1);
/// The number of heartbeats in a lease.
pub const HEARTBEATS_IN_LEASE: u32 = 6;
/// The objects of other servers that one transaction judges or forgets.
pub const SUSPECTS_STEP: usize = 500;
/// How often a server reads what other servers have changed, while an operation runs on it or is watched through it.
pub const POLL_EVERY: Duration = Duration::from_millis(250);
/// How often it does so otherwise: a token that is revoked on one server ends on the others within that time.
pub const POLL_IDLE: Duration = Duration::from_millis(500);
/// How often the progress of operations is kept for watchers on other servers, and read there.
pub const PROGRESS_KEPT_EVERY: Duration = Duration::from_secs(1);
/// How long a deleted object waits by default for its deletion where several servers may share the store: longer than a
/// failover of the database loses, which brings the row back that names it.
pub const OBJECT_HOLD_DEFAULT: Duration = Duration::from_hours(1);
/// The longest time for that.
pub const OBJECT_HOLD_MAX: Duration = Duration::from_hours(30 * 24);
/// The objects that a sweep looks up at once.
pub const SWEEP_STEP: usize = 1_000;
/// The shortest time between two sweeps of the blob store.
pub const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);
/// The longest such time.
pub const SWEEP_EVERY_MAX: Duration = Duration::from_hours(30 * 24);
/// How long ago a server may have read the changes of tokens on other servers to rely on those in its memory; else it reads
/// each token from the database.
pub const ACCESS_AGE_MAX: Duration = Duration::from_secs(1);
