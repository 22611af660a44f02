//! The times of a stop.

use std::time::Duration;

/// How long a server with PostgreSQL serves on by default once it says that it is not ready, so that a balancer finds
/// another one.
pub const DRAIN_TIME_DEFAULT: Duration = Duration::from_secs(5);
/// The longest time for that.
pub const DRAIN_TIME_MAX: Duration = Duration::from_hours(1);
/// How long a stop waits for the end of the operations that it cancels. The next start marks the others as
/// failed.
pub const CANCEL_TIME: Duration = Duration::from_secs(5);
/// The first phase of a stop: how long connections may take to end.
pub const END_TIME: Duration = Duration::from_secs(6);
/// How long a stop waits until a client closes its connection after the last response.
pub const STOP_LINGER_TIME: Duration = Duration::from_secs(1);
/// The second phase of a stop: how long the store may take to close.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// The third phase of a stop: how long the remaining tasks of the process may take; none has durable work left.
pub const RUNTIME_STOP_TIME: Duration = Duration::from_secs(1);
/// How long a stop may take in all after it has drained, whether the database and the disk answer or not.
pub const STOP_TIME: Duration = Duration::from_secs(8);

/// The pause before a server that was expelled from its store tries again to start over.
pub const START_OVER_PAUSE: Duration = Duration::from_millis(500);

const _: () = assert!(CANCEL_TIME.as_secs() + STOP_LINGER_TIME.as_secs() <= END_TIME.as_secs());
const _: () = assert!(
    END_TIME.as_secs() + CLOSE_TIME.as_secs() + RUNTIME_STOP_TIME.as_secs() <= STOP_TIME.as_secs()
);
