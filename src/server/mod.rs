//! The server: configuration, wiring, and a clean stop.
//!
//! [`Server::start`] takes the locks, opens the store and wires the interfaces; [`Server::run`] serves
//! until shutdown. Neither binds a port, reads the environment or handles signals, so that tests run the
//! server as the binary does; [`process::serve`] does all three.
//!
//! **Invariant:** the handler of an endless response, such as that of a watcher, ends the response when
//! the shutdown token is cancelled. So shutdown waits for work, never for watchers.

mod admission;
pub mod audit;
mod bounds;
pub mod config;
mod door;
mod error;
mod flow;
mod framing;
pub mod gateway;
mod health;
pub mod identity;
mod listen;
pub mod locks;
pub mod migrate;
mod open;
mod permissions;
mod private;
pub mod process;
mod reflection;
mod status_details;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::Router;
use tokio::{
    net::TcpListener,
    select,
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

use admission::{Admission, WatchedFiles};
use audit::{Audit, AuditThread};
pub use bounds::Bounds;
use config::Config;
use door::{Guards, Hosts, Identification, Proxies, door};
pub use error::Error;
use health::Health;
use identity::Tls;
use locks::Locks;

use crate::{
    blob::Blobs, client::in_process::Connections, grpc::Service, limits::CLOSE_TIME,
    namespace::Purpose, rest, store::Store, web,
};

/// The full name of the gRPC service.
pub const SERVICE: &str = "imagestore.v1.ImageStore";

/// A server that is ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    tls: Option<Tls>,
    watched: WatchedFiles,
    audit_thread: AuditThread,
    app: Router,
    bounds: Bounds,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
    drain_time: Duration,
    store: Store,
    /// Held until the store is closed.
    locks: Locks,
}

/// The source of connections.
#[derive(Debug)]
enum Listener {
    /// A bound TCP port, and its address.
    Tcp(TcpListener, SocketAddr),
    /// Clients in this process.
    InProcess(Connections),
}

impl Listener {
    fn tcp(listener: TcpListener) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::new("cannot listen").because(error);
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self::Tcp(listener, address))
    }

    /// The address of the port; the loopback address with port 0 where there is no port.
    fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(_, address) => *address,
            Self::InProcess(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// Parts of a server that tests replace.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Replaced {
    /// The blob store, in the place of the blob folder.
    pub blobs: Option<Blobs>,
}

impl Server {
    /// Opens the store and wires the interfaces. Clients can connect from when the listener is bound; their
    /// requests wait until [`Server::run`].
    ///
    /// # Errors
    ///
    /// A data folder, database or blob folder that another server has open, or that cannot be read or
    /// written; a store of a newer format. A start that fails removes the files that it has made and leaves no
    /// thread.
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, Error> {
        Self::open(config, Listener::tcp(listener)?, Replaced::default()).await
    }

    /// [`Server::start`] for clients in this process only, without a port.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub async fn start_private(config: &Config, connections: Connections) -> Result<Self, Error> {
        Self::open(config, Listener::InProcess(connections), Replaced::default()).await
    }

    /// [`Server::start`] with some parts replaced. For tests only; not part of the API.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    #[doc(hidden)]
    pub async fn start_with(
        config: &Config,
        replaced: Replaced,
        listener: TcpListener,
    ) -> Result<Self, Error> {
        Self::open(config, Listener::tcp(listener)?, replaced).await
    }

    async fn open(config: &Config, listener: Listener, replaced: Replaced) -> Result<Self, Error> {
        let (tls, tls_files) = match config.tls.clone() {
            Some(files) => Tls::open(files).await.map(|(tls, files)| (Some(tls), Some(files)))?,
            None => (None, None),
        };
        let (audit, audit_thread) = Audit::open(&config.audit)?;
        let mut watched = WatchedFiles::of(tls_files);
        let admission = Admission::open(config, &mut watched).await?;
        // The locks come before the store: without them another server may be putting parts into the blob folder.
        let (mut locks, (blobs, leftovers)) = match replaced.blobs {
            Some(blobs) => (Locks::without_blobs(config)?, (blobs, 0)),
            None => (Locks::take(config)?, open::blobs(config).await?),
        };
        let stop = CancellationToken::new();
        let (ready, is_ready) = watch::channel(true);
        let grpc = grpc(is_ready.clone(), &stop)?;
        let is_local = matches!(listener, Listener::InProcess(_));
        let purpose = if is_local { Purpose::Command } else { Purpose::Serve };
        let store = open::store(config, purpose, blobs, leftovers).await?;
        let grants = admission.grants();
        let authenticator = match admission.authenticator(&store, is_local).await {
            Ok(authenticator) => authenticator,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        locks.keep();
        if !is_local {
            open::release(&store).await?;
        }
        let settings = config.clone();
        // A walk that panics leaves the permissions as they are.
        spawn_blocking(move || permissions::tighten(&settings)).await.ok();
        let grpc = grpc.add_service(Service::new(store.clone()));
        let unready =
            "the server is not ready: its database does not answer, or it is stopping; try again";
        let gateway = rest::Config { ready: is_ready, unready, grants, page: web::router() };
        let bounds = Bounds::default();
        let rest = rest::router(Service::backend(store.clone()), gateway);
        let proxies = Proxies {
            networks: config.trusted_proxies.as_slice().into(),
            has_tls: config.tls.is_some(),
            refuses_plaintext: config.refuses_plaintext,
        };
        let hosts = hosts(&config.allowed_hosts, config.tls.is_some());
        let identification = Identification::Own(authenticator);
        let guards = Guards { hosts, proxies, identification, audit };
        let app = door(grpc.into_axum_router(), rest, guards, bounds)?;
        Ok(Self {
            listener,
            tls,
            watched,
            audit_thread,
            app,
            bounds,
            ready,
            stop,
            drain_time: config.drain_time,
            store,
            locks,
        })
    }

    /// Whether the port has TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The address on which the server listens, with the actual port where the configuration says port 0. A
    /// private server has port 0.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Serves until `shutdown` resolves, drains for the time of the settings, and then stops within
    /// [`STOP_TIME`](crate::limits::STOP_TIME), even if the database or the disk does not answer. Stops without draining
    /// when the server is expelled from its store; the caller then starts another one.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the server ends at once, as if killed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let Self {
            listener,
            tls,
            watched,
            audit_thread,
            app,
            bounds,
            ready,
            stop,
            drain_time,
            store,
            locks,
        } = self;
        let draining = CancellationToken::new();
        let stopping = async {
            select! {
                () = shutdown => {}
                why = store.expelled() => {
                    draining.cancel();
                    store.abandon(why).await;
                    stop.cancel();
                    return Ended::Expelled;
                }
            }
            draining.cancel();
            drain(drain_time).await;
            stop.cancel();
            store.drain().await;
            Ended::Stopped
        };
        let token = stop.clone();
        let serving = async move {
            match listener {
                Listener::Tcp(listener, _) => {
                    listen::serve(listener, tls, app, token, bounds).await;
                }
                Listener::InProcess(connections) => {
                    private::serve(connections, app, token, bounds.stop_time).await;
                }
            }
        };
        let health = health::keep(&store, ready, (&draining, &stop));
        let ((), ended, (), ()) = tokio::join!(serving, stopping, health, watched.run(&stop));
        // An expelled server changes nothing any more, so the next one need not wait for its last puts.
        let locks = (ended == Ended::Stopped).then_some(locks);
        // A task of its own: it holds the locks until the store is closed, also after the timeout below.
        let closing = tokio::spawn(async move {
            store.close().await;
            drop(locks);
        });
        // The routers, and so all senders of the audit log, are dropped.
        let written = spawn_blocking(|| audit_thread.join());
        let (closed, written) =
            tokio::join!(timeout(CLOSE_TIME, closing), timeout(CLOSE_TIME, written));
        // The next start cleans up what a store that is not closed in time leaves.
        if closed.is_err() {
            warn!("the store did not close in time");
        }
        if written.is_err() {
            warn!("the audit log was not written in time");
        }
        info!("stopped");
        ended
    }
}

/// Serves on for the time, unready, so that a balancer turns to others. The stop begins after it.
async fn drain(time: Duration) {
    if !time.is_zero() {
        info!(seconds = time.as_secs_f64(), "draining: not ready, and serving on");
        sleep(time).await;
    }
    info!("stopping");
}

/// How a server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It was expelled from its store, and a new one must start.
    Expelled,
}
/// The host names under which requests are accepted. Logs a warning if every name is accepted.
fn hosts(allowed: &[String], has_tls: bool) -> Hosts {
    let hosts = Hosts::new(allowed, has_tls);
    if hosts.is_any() && !has_tls {
        warn!("every host name is taken, so that a web page of elsewhere can reach the store");
    }
    hosts
}

/// The standard gRPC services: health and reflection.
fn grpc(ready: watch::Receiver<bool>, stop: &CancellationToken) -> Result<Routes, Error> {
    let failed = |error| Error::new("the description of the API is broken").because(error);
    reflection::add_to(Routes::new(Health::server(ready)), stop).map_err(failed)
}
