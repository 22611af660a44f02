//! The bounds of connections and calls.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::limits;

/// The bounds of connections and calls. The defaults are those of [`limits`], with fewer connections where the
/// process may open too few files.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Concurrent connections that are served.
    pub connections: usize,
    /// Concurrent connections that are being refused; further ones wait in the kernel's backlog.
    pub refused: usize,
    /// Concurrent calls of all connections.
    pub calls: usize,
    /// The timeout for the head of a request, and for the first request of a new connection.
    pub header_time: Duration,
    /// How long a client may stall while it sends a request body or receives a response.
    pub stall: Duration,
    /// How long an HTTP/2 connection stays open after its last call.
    pub idle_time: Duration,
    /// How long connections may take to end at shutdown.
    pub stop_time: Duration,
    /// How long a shutdown waits until a client closes its connection after the last response.
    pub stop_linger: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX.min(files() / 2),
            refused: limits::CONNECTIONS_REFUSED_MAX.min(files() / 8),
            calls: limits::CALLS_MAX,
            header_time: limits::HEADER_TIME,
            stall: limits::BODY_STALL,
            idle_time: limits::IDLE_TIME,
            stop_time: limits::END_TIME,
            stop_linger: limits::STOP_LINGER_TIME,
        }
    }
}

/// How many files the process may open. Connections use some of them and must leave the others to the store.
fn files() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX)
}
