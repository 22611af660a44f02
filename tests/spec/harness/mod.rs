//! The harness of the tests: a server for each test, and a driver for each interface.

#[path = "../../support/blobs.rs"]
mod blobs;
#[path = "../../support/database.rs"]
mod database;
mod driver;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../support/gate.rs"]
mod gate;
mod grpc;
mod http;
mod http2;
mod issuer;
#[path = "../../support/log.rs"]
mod log;
mod record;
mod rest;
#[path = "../../support/signer.rs"]
mod signer;

use std::{net::SocketAddr, path::Path, sync::Arc};

use imagestore::{
    blob::{Blobs, Location},
    limits::LEASE_DEFAULT,
    server::{
        Ended, Replaced, Server as Real,
        config::{Access, Config, Required},
        gateway::{self, Gateway},
    },
    wire::v1::image_store_client::ImageStoreClient,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

use self::record::Recorded;
pub(crate) use self::{
    database::postgres,
    driver::{
        Copy, CopyResult, Driver, Fault, Item, MayReplace, Outcome, Pair, Preconditions, both,
        copy, fill, of, sorted, tree,
    },
    gate::Gate,
    grpc::{Grpc, chunk, line, upload},
    http::{Answer, Connection, Http, Request},
    http2::{Http2, Plain},
    issuer::{Issuer, Reply},
    log::Log,
    rest::Rest,
    signer::Signer,
};

/// The free space that the in-memory file system must have to be used for data folders.
const MEMORY_BYTES_MIN: u64 = 1 << 30;

/// An empty folder, on an in-memory file system if there is one: syncs to a disk would take most of the time of a test,
/// and other tests check durability.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
    if free >= MEMORY_BYTES_MIN {
        return tempfile::tempdir_in(memory).expect("a folder");
    }
    tempfile::tempdir().expect("a folder")
}

/// Whether a gateway alone is before each server: `IMAGESTORE_TEST_REMOTE` is set.
fn is_remote() -> bool {
    std::env::var_os("IMAGESTORE_TEST_REMOTE").is_some()
}

/// Starts a server; `blobs` replaces its blob store.
async fn real(config: &Config, blobs: Option<Blobs>) -> Real {
    let listener = TcpListener::bind(config.listen).await.expect("a port");
    let replaced = Replaced { blobs };
    Real::start_with(config, replaced, listener).await.expect("started")
}

/// The number of servers on one store, among which calls take turns: `IMAGESTORE_TEST_SERVERS`, or one.
#[expect(clippy::disallowed_methods, reason = "tests/run asks for them")]
fn servers() -> usize {
    std::env::var("IMAGESTORE_TEST_SERVERS").map_or(1, |servers| servers.parse().expect("a number"))
}

/// Starts a gateway on another port before servers with these settings, which trust it, and returns its address.
async fn gateway(servers: &[SocketAddr], config: &Config) -> SocketAddr {
    let url = |server: &SocketAddr| format!("http://{server}");
    let backends = |server| gateway::Config::local(&url(server)).expect("an address").backends;
    let first = servers.first().expect("a server");
    let mut own = gateway::Config::local(&url(first)).expect("an address");
    own.backends = servers.iter().flat_map(backends).collect();
    own.trusted_proxies.clone_from(&config.trusted_proxies);
    own.refuses_plaintext = config.refuses_plaintext;
    own.allowed_hosts.clone_from(&config.allowed_hosts);
    let listener = TcpListener::bind(own.listen).await.expect("a port");
    let gateway = Gateway::start(&own, listener).await.expect("started");
    let address = gateway.address();
    tokio::spawn(gateway.run(std::future::pending()));
    address
}

/// The generated client over a socket; its calls are recorded.
pub(crate) type Client = ImageStoreClient<Recorded<Channel>>;

/// A server with a folder and a database of its own, on a free port; or several servers on one store. A server that is
/// dropped ends as if it were killed.
pub(crate) struct Server {
    /// The address of REST: that of the server, or of the gateway before it.
    pub(crate) address: SocketAddr,
    /// The address of gRPC of the first server.
    pub(crate) grpc_address: SocketAddr,
    config: Config,
    folder: TempDir,
    log: Log,
    running: Vec<Running>,
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Ended>,
}

impl Server {
    /// Starts a server on an empty folder and an empty database.
    pub(crate) async fn start() -> Self {
        let (folder, config) = Self::settings();
        Self::start_in(folder, config).await
    }

    /// Starts a server whose blob store is an in-memory store with a gate.
    pub(crate) async fn start_behind(gate: &Gate) -> Self {
        let log = Log::of_all();
        let (folder, mut config) = Self::settings();
        // A restart without the gate takes a folder, as a bucket without the objects is refused.
        config.blobs = Location::Folder(folder.path().join("blobs"));
        Self::run(Some(Blobs::new(Arc::new(gate.clone()))), folder, config, log).await
    }

    /// Starts a server that trusts the proxies of a network, takes no credential that was sent in plain text, and is
    /// known as `store.example`.
    pub(crate) async fn start_behind_proxies(network: &str) -> Self {
        let (folder, mut config) = Self::settings();
        config.trusted_proxies = vec![network.parse().expect("a network")];
        config.refuses_plaintext = true;
        config.allowed_hosts = vec!["store.example".to_owned()];
        Self::start_in(folder, config).await
    }

    fn settings() -> (TempDir, Config) {
        let folder = folder();
        let mut config = Config::local(folder.path());
        config.database = database::database(folder.path());
        config.blobs = blobs::blobs(folder.path()).swap_remove(0);
        config.lease = (servers() > 1).then_some(LEASE_DEFAULT);
        (folder, config)
    }

    async fn start_in(folder: TempDir, config: Config) -> Self {
        let log = Log::of_all();
        Self::run(None, folder, config, log).await
    }

    async fn run(blobs: Option<Blobs>, folder: TempDir, config: Config, log: Log) -> Self {
        let mut running = Vec::new();
        for number in 0..servers() {
            let mut own = config.clone();
            if number > 0 {
                own.data = folder.path().join(format!("server-{number}"));
            }
            let server = real(&own, blobs.clone()).await;
            let address = server.address();
            let (stop, stopped) = oneshot::channel();
            // A dropped `stop` does not stop the server: the server ends with its runtime, as if it were killed.
            let ended = tokio::spawn(server.run(async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            }));
            running.push(Running { address, stop, ended });
        }
        let addresses: Vec<_> = running.iter().map(|server| server.address).collect();
        let grpc_address = *addresses.first().expect("a server");
        let mut address = grpc_address;
        if is_remote() || addresses.len() > 1 {
            // The gateway of a server that a test stops stays.
            log.expect("does not answer");
            log.expect("a backend does not serve");
            log.expect("no backend serves");
            address = gateway(&addresses, &config).await;
        }
        Self { address, grpc_address, config, folder, log, running }
    }

    /// Declares warnings and errors of the server's log that contain `text`.
    pub(crate) fn expect(&self, text: &'static str) {
        self.log.expect(text);
    }

    /// Stops the server and starts another one on the same folder and database.
    pub(crate) async fn restart(self) -> Self {
        for server in self.running {
            server.stop.send(()).expect("it runs");
            assert_eq!(server.ended.await.expect("no panic"), Ended::Stopped);
        }
        Self::start_in(self.folder, self.config).await
    }

    /// As [`Self::restart`], and the new server requires a right of every caller.
    pub(crate) async fn restart_with_access(mut self, grants: Option<&Path>) -> Self {
        let grants = grants.map(Path::to_owned);
        self.config.access = Access::Required(Required { grants, ..Required::default() });
        self.expect("tokens that callers without a credential have created are taken");
        self.restart().await
    }

    /// An HTTP/1.1 client of the server.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// The driver over REST.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.http())
    }

    /// The generated client, connected to the server. Each of its calls goes to one of several servers.
    pub(crate) async fn client(&self) -> Client {
        let endpoint = |server: &Running| {
            Channel::from_shared(format!("http://{}", server.address)).expect("a URI")
        };
        let channel = match self.running.as_slice() {
            [server] => endpoint(server).connect().await.expect("connected"),
            servers => Channel::balance_list(servers.iter().map(endpoint)),
        };
        Client::new(Recorded(channel))
    }

    /// Opens an HTTP/2 connection to REST.
    pub(crate) async fn http2(&self) -> Http2 {
        http2::connect(self.address).await
    }

    /// Opens an HTTP/2 connection to gRPC.
    pub(crate) async fn grpc_http2(&self) -> Http2 {
        http2::connect(self.grpc_address).await
    }

    /// The generated client over a plain HTTP/2 connection.
    pub(crate) async fn plain(&self) -> Plain {
        http2::plain(self.grpc_address).await
    }

    /// The driver over gRPC.
    pub(crate) async fn grpc(&self) -> Grpc {
        Grpc::new(self.client().await)
    }
}
