//! The accept loop: HTTP/1.1 and HTTP/2 on one port, and graceful shutdown.
//!
//! A connection beyond the limit is accepted and answered with a refusal, since a client in the backlog of the
//! kernel cannot tell a full server from a dead one. Open connections are kept. When there are too many refusals at
//! once, further ones wait.
//!
//! A shutdown takes at most [`Bounds::stop_time`]. No connection is accepted any more. One without a request is
//! closed at once; an idle one is closed after GOAWAY or `Connection: close`; one with a request ends with its
//! response. Responses without an end, such as those of watchers, end because their handlers watch the same token.
//! What is left then is aborted.

use std::{io, pin::pin};

use axum::{Router, extract::Request};
use http::Extensions;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
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

use super::{
    Bounds,
    door::Refused,
    flow::{self, ClientStream, StallExecutor},
};
use crate::{
    budget::{Budget, Hold, Peer, Permit},
    limits,
};

/// Serves until `stop` is cancelled and the connections have ended.
///
/// # Cancel safety
///
/// When dropped, all connections are cut.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken, bounds: Bounds) {
    let budget = Budget::new("connections", bounds.connections);
    let mut connections = JoinSet::new();
    let mut refused = JoinSet::new();
    loop {
        let has_room = budget.free() > 0 || refused.len() < bounds.refused;
        select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            Some(ended) = refused.join_next() => report(ended),
            accepted = listener.accept(), if has_room => {
                let (stream, address) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        failed(error).await;
                        continue;
                    }
                };
                let peer = Peer::from(address.ip());
                let (app, stop) = (app.clone(), stop.clone());
                let mut carried = Extensions::new();
                carried.insert(peer);
                let connection = Connection { app, stop, bounds, carried };
                match budget.try_acquire(peer, 1) {
                    Ok(permit) => {
                        connections.spawn(flow::scope(connection.serve(stream, permit)));
                    }
                    Err(_) if refused.len() < bounds.refused => {
                        debug!("a connection is refused");
                        refused.spawn(flow::scope(connection.refuse(stream)));
                    }
                    // There is room for others only, and too many were refused.
                    Err(_) => debug!("a connection is dropped"),
                }
            }
        }
    }
    drop(refused);
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

/// Reads the version of a connection and applies the bounds of both.
fn builder(bounds: Bounds, calls: StallExecutor) -> Builder<StallExecutor> {
    let mut builder = Builder::new(calls);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HEADER_BYTES_READ)
        .keep_alive_interval(limits::PING_EVERY)
        .keep_alive_timeout(limits::PING_TIME);
    builder
}

/// Waits where accepting fails for a reason that lasts, such as too many open files.
async fn failed(error: io::Error) {
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

/// Waits until a connection that stands still has to give way to others.
async fn gives_way(hold: Option<Hold>) {
    match hold {
        Some(mut hold) => {
            let error = hold.revoked().await;
            debug!(%error, "a connection gives way");
        }
        None => std::future::pending().await,
    }
}

/// What a connection serves.
struct Connection {
    app: Router,
    stop: CancellationToken,
    bounds: Bounds,
    /// What each of its requests carries.
    carried: Extensions,
}

impl Connection {
    /// Serves until the client leaves, says nothing for too long or has to give way, or the server stops.
    async fn serve(self, stream: TcpStream, permit: Permit) {
        let idle_time = self.bounds.idle_time;
        self.until(stream, Some(permit), async |_, calls| calls.idle(idle_time).await).await;
    }

    /// Answers one request, which is told that there is no room.
    async fn refuse(mut self, stream: TcpStream) {
        self.carried.insert(Refused);
        let served = self.until(stream, None, async |begun, _| begun.cancelled().await);
        if timeout(limits::CONNECTION_REFUSED_TIME, served).await.is_err() {
            debug!("a refused connection is cut");
        }
    }

    /// Serves until `last` has resolved and what goes on then has ended. It is given what is
    /// cancelled when the first request has come, and the calls of HTTP/2.
    async fn until(
        self,
        stream: TcpStream,
        permit: Option<Permit>,
        last: impl AsyncFnOnce(&CancellationToken, &StallExecutor),
    ) {
        let Self { app, stop, bounds, carried } = self;
        let hold = permit.as_ref().map(|permit| permit.hold().clone());
        let stream = match ClientStream::new(stream, bounds.stall, stop.clone(), permit) {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "a connection ended before it began");
                return;
            }
        };
        let (begun, calls) = (CancellationToken::new(), StallExecutor::new(bounds.stall));
        let begins = begun.clone();
        let (found, unread) = (stream.found(), stream.unread());
        let service =
            TowerToHyperService::new(app.map_request(move |mut request: Request<Incoming>| {
                begins.cancel();
                found.mark(&mut request);
                request.extensions_mut().extend(carried.clone());
                unread.count(request)
            }));
        let builder = builder(bounds, calls.clone());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let silent = async {
            if timeout(bounds.header_time, begun.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let ended = select! {
            ended = connection.as_mut() => ended,
            () = silent => return,
            () = gives_way(hold) => return,
            () = stop.cancelled() => {
                if !begun.is_cancelled() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = last(&begun, &calls) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(error, "a connection broke");
        }
    }
}
