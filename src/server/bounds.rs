//! What bounds connections and calls.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::limits;

/// What bounds connections and calls; the defaults are those of [`limits`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections that are served at once.
    pub connections: usize,
    /// Connections that are refused at once; further ones wait in the kernel's backlog.
    pub refused: usize,
    /// Calls of all connections at once.
    pub calls: usize,
    /// How long the head of a request may take, and the first request of a connection to begin.
    pub header_time: Duration,
    /// How long a client may let the server wait with a body or an answer.
    pub stall: Duration,
    /// How long a connection that had calls of HTTP/2 may last without one.
    pub idle_time: Duration,
    /// How long connections may take to end in a stop.
    pub stop_time: Duration,
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
        }
    }
}

/// How many files the process may open: connections are some of them, and must leave others for
/// the store.
fn files() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX)
}
