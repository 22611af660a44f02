//! Serves the client of an offline command, which is in the same process.
//!
//! The client is trusted and bounds itself. So its connections have none of the bounds of
//! [`listen`](super::listen), except the time that shutdown may take; its calls have the bounds of all calls.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http2::Builder;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{io::DuplexStream, select, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::flow;
use crate::client::in_process::Connections;

/// Serves until `stop` is cancelled or the last connector is dropped, and then until the connections have
/// ended, at most `stop_time` later.
///
/// # Cancel safety
///
/// When the future is dropped, all connections are aborted.
pub(super) async fn serve(
    mut connections: Connections,
    app: Router,
    stop: CancellationToken,
    stop_time: Duration,
) {
    let mut serving = JoinSet::new();
    loop {
        select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = serving.join_next() => {}
            connection = connections.accept() => match connection {
                Some(stream) => { serving.spawn(connection_of(stream, app.clone(), stop.clone())); }
                None => break,
            },
        }
    }
    drop(connections);
    let ended = async { while serving.join_next().await.is_some() {} };
    if timeout(stop_time, ended).await.is_err() {
        warn!("cutting the connections of the command, which have not ended");
    }
}

/// Serves a connection until its client closes it, or shuts it down gracefully when the server stops.
async fn connection_of(stream: DuplexStream, app: Router, stop: CancellationToken) {
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(
        TokioIo::new(stream),
        TowerToHyperService::new(app.map_request(flow::drained)),
    );
    let mut connection = std::pin::pin!(connection);
    let ended = select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the command broke");
    }
}
