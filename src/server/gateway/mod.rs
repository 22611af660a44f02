//! A gateway alone: serves REST and the web page before remote servers.
//!
//! It has no store and no state. Each request passes the same layers as in a server, the router of REST makes it the
//! calls of the service ([`crate::rest`]), and each call goes to a backend that serves (`calls`).
//!
//! **Invariants:** the gateway judges no caller: the credential of a request goes to the backend as it came, and the
//! gateway has none of its own. What it says of a caller, it alone says: such headers of the caller are dropped.

mod answer;
mod backend;
mod calls;
mod config;
mod content;
mod pool;
mod probe;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use tracing::info;

pub use self::config::{Config, Gateway as Arguments};
use self::{
    backend::{BackendUrl, Connector},
    calls::Calls,
    pool::Pool,
};
use super::{
    Bounds, Error,
    admission::WatchedFiles,
    audit::Audit,
    door::{Guards, Identification, Proxies, door},
    drain, hosts,
    identity::Tls,
    listen,
};
use crate::{
    budget::Budget,
    error::{self, Kind},
    limits::BACKEND_KEPT_BYTES,
    rest, web,
    wire::{backend::remote, status},
};

/// A gateway that is ready to serve.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    watched: WatchedFiles,
    app: Router,
    pool: Pool,
    backends: Vec<(BackendUrl, Connector)>,
    refuses_open: bool,
    stop: CancellationToken,
    drain_time: Duration,
}

impl Gateway {
    /// Wires a gateway. It connects to no backend before [`Gateway::run`].
    ///
    /// # Errors
    /// A certificate, a key or authorities that cannot be used.
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::new("cannot listen").because(error);
        let address = listener.local_addr().map_err(failed)?;
        let (tls, tls_files) = match config.tls.clone() {
            Some(files) => Tls::open(files).await.map(|(tls, files)| (Some(tls), Some(files)))?,
            None => (None, None),
        };
        let backends = config.connectors().await?;
        let (stop, (ready, is_ready)) = (CancellationToken::new(), watch::channel(false));
        let pool = Pool::new(ready);
        let kept = Budget::new("bytes of calls", BACKEND_KEPT_BYTES);
        let calls = Calls { pool: pool.clone(), kept, stop: stop.clone() };
        let rest = rest::Config {
            ready: is_ready,
            unready: "no server behind the gateway serves at the moment, or the gateway is stopping; \
                      try again",
            grants: watch::channel(Arc::default()).1,
            page: web::router(),
        };
        let rest =
            rest::router(remote(service_fn(move |request| calls.clone().make(request))), rest);
        let proxies = Proxies {
            networks: config.trusted_proxies.as_slice().into(),
            has_tls: config.tls.is_some(),
            refuses_plaintext: config.refuses_plaintext,
        };
        let guards = Guards {
            hosts: hosts(&config.allowed_hosts, tls.is_some()),
            proxies,
            identification: Identification::Backend,
            audit: Audit::off(),
        };
        let app = door(grpc(), rest, guards, Bounds::default())?;
        let (watched, refuses_open) = (WatchedFiles::of(tls_files), config.refuses_open);
        let drain_time = config.drain_time;
        Ok(Self {
            listener,
            address,
            tls,
            watched,
            app,
            pool,
            backends,
            refuses_open,
            stop,
            drain_time,
        })
    }

    /// Whether the port has TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The address on which the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, drains for the time of the settings, and then stops: watches end at once, and
    /// other calls have the time that they have at the stop of a server.
    ///
    /// # Cancel safety
    /// When the future is dropped, the gateway ends at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listener,
            tls,
            watched,
            app,
            pool,
            backends,
            refuses_open,
            stop,
            drain_time,
            ..
        } = self;
        let stopping = async {
            shutdown.await;
            pool.close();
            drain(drain_time).await;
            stop.cancel();
        };
        let keeping = probe::keep(&pool, &backends, refuses_open);
        let serving = async {
            tokio::join!(
                listen::serve(listener, tls, app, stop.clone(), Bounds::default()),
                stopping,
                watched.run(&stop)
            );
        };
        // The backends are probed until the last call has ended.
        tokio::select! {
            () = serving => {}
            () = keeping => {}
        }
        info!("stopped");
    }
}

/// Refuses gRPC calls: their clients call the servers.
fn grpc() -> Router {
    Router::new().fallback(async || {
        let message = "a gateway serves REST only; gRPC calls go to a server behind it";
        let error = error::Error::new(Kind::Unimplemented, message);
        status::from_error(&error).into_http::<axum::body::Body>()
    })
}
