//! The accept loop: HTTP/1.1 and HTTP/2 on one port, with or without TLS, and graceful shutdown.
//!
//! A connection beyond the limit is accepted and answered with a refusal, since a client in the backlog of the
//! kernel cannot tell a full server from a dead one. Open connections are kept. When [`Bounds::refused`] connections
//! are being refused, further ones wait in the backlog; if only the reserve of the budget is free, a connection that
//! may not use the reserve is dropped without an answer.
//!
//! Where the port has TLS, the handshake and the first request head share one time limit. A client that begins without
//! TLS is answered that it must use it, in plain text.
//!
//! A shutdown takes at most [`Bounds::stop_time`]. The server stops accepting. A connection without any request so
//! far is closed at once, and so is an idle one, over HTTP/2 after GOAWAY; a connection with requests ends with
//! their responses. Endless responses, such as those of watchers, end because their handlers watch the same token.
//! Connections that are still open at the end of that time are aborted.

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
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{either::Either, sync::CancellationToken};
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::{
    Bounds,
    door::{ClientAddress, Refused},
    flow::{self, ClientStream, StallExecutor, Transport, UnreadFrames},
    identity::{Presented, Tls, is_handshake},
};
use crate::{
    budget::{Budget, Peer, Permit, PermitHandle},
    limits,
};

/// Serves until `stop` is cancelled and the connections have ended, at most [`Bounds::stop_time`] later.
///
/// # Cancel safety
///
/// When the future is dropped, all connections are aborted.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: Router,
    stop: CancellationToken,
    bounds: Bounds,
) {
    let budget = Budget::new("connections", bounds.connections);
    let unread = Budget::new("bytes of unread frames", limits::UNREAD_POOL_BYTES);
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
                carried.insert(ClientAddress(address.ip()));
                let unread = UnreadFrames::new(unread.clone(), peer);
                let (tls, accepted) = (tls.clone(), Instant::now());
                let connection = Connection { app, stop, bounds, carried, unread, tls, accepted };
                match budget.try_acquire(peer, 1) {
                    Ok(permit) => {
                        connections.spawn(flow::scope(connection.serve(stream, permit)));
                    }
                    Err(_) if refused.len() < bounds.refused => {
                        debug!("a connection is refused");
                        refused.spawn(flow::scope(connection.refuse(stream)));
                    }
                    // The free permits are the reserve for other peers, and too many connections are being refused.
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

/// Configures a connection that detects its HTTP version, with the bounds of both versions.
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

/// Waits after an `accept` error that is likely to repeat at once, such as too many open files.
async fn failed(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        warn!(%error, "cannot accept connections");
        sleep(limits::ACCEPT_PAUSE).await;
    }
}

/// Logs a connection task that has panicked.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a connection ended by a panic");
    }
}

/// Waits until the permit of a stalled connection is revoked in favour of other peers.
async fn gives_way(hold: Option<PermitHandle>) {
    match hold {
        Some(mut hold) => {
            let error = hold.revoked().await;
            debug!(%error, "a connection gives way");
        }
        None => std::future::pending().await,
    }
}

/// The state of one connection.
struct Connection {
    app: Router,
    stop: CancellationToken,
    bounds: Bounds,
    /// The extensions that each request of the connection gets.
    carried: Extensions,
    unread: UnreadFrames,
    tls: Option<Tls>,
    accepted: Instant,
}

impl Connection {
    /// Serves until the client disconnects or is idle for too long, the permit is revoked, or the server stops.
    async fn serve(self, stream: TcpStream, permit: Permit) {
        self.open(stream, Some(permit), None).await;
    }

    /// Refuses the first request as busy and closes the connection.
    async fn refuse(self, stream: TcpStream) {
        let refused = self.open(stream, None, Some(Refused::TooMany));
        if timeout(limits::CONNECTION_REFUSED_TIME, refused).await.is_err() {
            debug!("a refused connection is cut");
        }
    }

    /// Makes the handshake, then serves the connection. If it is refused, or lacks the TLS of the port, answers the
    /// first request with the reason and closes the connection.
    async fn open(mut self, stream: TcpStream, permit: Option<Permit>, refused: Option<Refused>) {
        let hold = permit.as_ref().map(|permit| permit.hold().clone());
        hold.iter().for_each(PermitHandle::stalls);
        let stream = select! {
            stream = self.handshake(stream) => stream,
            () = gives_way(hold) => None,
        };
        let Some(stream) = stream else { return };
        let lacks_tls = self.tls.is_some() && matches!(stream, Either::Left(_));
        if let Either::Right(stream) = &stream
            && let Some(presented) = Presented::new(stream.get_ref().1.peer_certificates())
        {
            self.carried.insert(presented);
        }
        if let Some(why) = if lacks_tls { Some(Refused::NoTls) } else { refused } {
            self.carried.insert(why);
            self.until(stream, permit, async |begun, _| begun.cancelled().await).await;
        } else {
            let idle_time = self.bounds.idle_time;
            self.until(stream, permit, async |_, calls| calls.idle(idle_time).await).await;
        }
    }

    /// Makes the handshake, where the port has TLS and the client begins with it. `None` if that fails, takes too
    /// long, or the server stops.
    async fn handshake(&self, stream: TcpStream) -> Option<Transport> {
        let opened = async {
            flow::set_options(&stream)?;
            match &self.tls {
                Some(tls) if is_handshake(&stream).await? => {
                    tls.accept(stream).await.map(|stream| Either::Right(Box::new(stream)))
                }
                Some(_) | None => Ok(Either::Left(stream)),
            }
        };
        let opened = select! {
            opened = timeout_at(self.accepted + self.bounds.header_time, opened) => opened,
            () = self.stop.cancelled() => return None,
        };
        match opened {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                debug!(%error, "a connection ended before it began");
                None
            }
            Err(_) => {
                debug!("a connection did not begin in time");
                None
            }
        }
    }

    /// Serves until `last` resolves, then shuts the connection down gracefully: running requests are finished.
    /// `last` gets a token that is cancelled at the first request, and the executor of the HTTP/2 calls.
    async fn until(
        self,
        stream: Transport,
        permit: Option<Permit>,
        last: impl AsyncFnOnce(&CancellationToken, &StallExecutor),
    ) {
        let Self { app, stop, bounds, carried, unread, accepted, .. } = self;
        let hold = permit.as_ref().map(|permit| permit.hold().clone());
        let reads = unread.clone();
        let stream = ClientStream::new(stream, bounds, stop.clone(), permit, reads);
        let (begun, calls) = (CancellationToken::new(), StallExecutor::new(bounds.stall));
        let begins = begun.clone();
        let first_refused = stream.first_refused();
        let service =
            TowerToHyperService::new(app.map_request(move |mut request: Request<Incoming>| {
                begins.cancel();
                first_refused.mark(&mut request);
                request.extensions_mut().extend(carried.clone());
                flow::drained(unread.count(request))
            }));
        let builder = builder(bounds, calls.clone());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let silent = async {
            if timeout_at(accepted + bounds.header_time, begun.cancelled()).await.is_ok() {
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
