//! The bounds of a database that is a server.

use std::time::Duration;

/// How long a database server may take to accept a connection, and the login.
pub const DATABASE_CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long it may take for one statement.
pub const DATABASE_STATEMENT_TIME: Duration = Duration::from_secs(8);
/// How long it may take for each of those that bring a store up to date when it is opened.
pub const DATABASE_START_TIME: Duration = Duration::from_mins(10);
/// How long after that it is left, if it has said nothing.
pub const DATABASE_GRACE: Duration = Duration::from_secs(2);
/// How long a statement waits for a lock that a session of somebody else has.
pub const DATABASE_LOCK_TIME: Duration = Duration::from_secs(5);
/// How long a transaction may stand still before the database ends it.
pub const DATABASE_IDLE_TIME: Duration = Duration::from_mins(1);
/// How long a database that does not answer is left alone, while calls are refused; each time twice as
/// long, up to the second.
pub const DATABASE_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const DATABASE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a silent database server is asked whether it is there.
pub const DATABASE_KEEP_ALIVE: Duration = Duration::from_secs(10);
