//! The accept loop: HTTP/1.1 and HTTP/2 on one port, and the stop of both.
//!
//! A stop takes at most [`Bounds::stop_time`]. No connection is accepted any more; one that has
//! brought no request yet is closed at once; an idle one is closed after telling its client; one
//! with a request ends with its answer. Answers that would never end by themselves, those of
//! watchers, end because their handlers see the same token. What is left then is cut.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::linger::Linger;
use crate::limits;

/// What bounds the connections; the defaults are those of [`limits`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; further ones wait in the kernel's backlog.
    pub connections: usize,
    /// How long the head of a request may take, and the first request of a connection to begin.
    pub header_time: Duration,
    /// How long a stop may take.
    pub stop_time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            header_time: limits::HEADER_TIME,
            stop_time: limits::STOP_TIME,
        }
    }
}

/// Serves until `stop` is cancelled and the connections have ended.
///
/// # Cancel safety
///
/// When dropped, all connections are cut.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken, bounds: Bounds) {
    let builder = Arc::new(builder(bounds));
    let mut connections = JoinSet::new();
    loop {
        select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept(), if connections.len() < bounds.connections => {
                match accepted {
                    Ok((stream, _)) => {
                        let connection = Connection { app: app.clone(), stop: stop.clone() };
                        let builder = Arc::clone(&builder);
                        connections.spawn(connection.serve(stream, builder, bounds.header_time));
                    }
                    Err(error) => refused(error).await,
                }
            }
        }
    }
    drop(listener);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(bounds.stop_time, ended).await.is_err() {
        warn!(connections = connections.len(), "cutting connections that have not ended");
        connections.shutdown().await;
    }
}

/// Reads the version of each connection and applies the bounds of both.
fn builder(bounds: Bounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.header_time);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HEADER_BYTES_MAX)
        .keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PING_TIME);
    builder
}

/// Waits where accepting fails for a reason that lasts, such as too many open files.
async fn refused(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        warn!(%error, "cannot accept connections");
        sleep(limits::ACCEPT_PAUSE).await;
    }
}

/// Logs a connection that did not end by itself.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection ended by a panic");
    }
}

/// What every connection serves.
struct Connection {
    app: Router,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(
        self,
        stream: TcpStream,
        builder: Arc<Builder<TokioExecutor>>,
        header_time: Duration,
    ) {
        let Self { app, stop } = self;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection ended before it began");
            return;
        }
        let begun = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&begun);
        let service =
            TowerToHyperService::new(app.map_request(move |request: Request<Incoming>| {
                flag.store(true, Relaxed);
                request
            }));
        let io = TokioIo::new(Linger::new(stream, stop.clone()));
        let mut connection = pin!(builder.serve_connection(io, service));
        let silent = async {
            sleep(header_time).await;
            if begun.load(Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let ended = select! {
            ended = connection.as_mut() => ended,
            () = silent => return,
            () = stop.cancelled() => {
                if !begun.load(Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(error, "a connection broke");
        }
    }
}
