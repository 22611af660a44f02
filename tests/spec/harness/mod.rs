//! What the tests share: a server of its own for each, and a driver for each interface.

#[path = "../../support/database.rs"]
mod database;
mod driver;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../../support/gate.rs"]
mod gate;
mod grpc;
mod http;
mod http2;
#[path = "../../support/log.rs"]
mod log;
mod record;
mod rest;

use std::{net::SocketAddr, path::Path, sync::Arc};

use imagestore::{
    blob::Blobs,
    server::{Replaced, Server as Real, config::Config},
    wire::v1::image_store_client::ImageStoreClient,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

pub(crate) use self::{
    database::postgres,
    driver::{
        CameOf, Copy, Driver, Fault, Item, Outcome, Over, Pair, When, both, copy, fill, of, sorted,
        tree,
    },
    gate::Gate,
    grpc::{Grpc, chunk, line, upload},
    http::{Answer, Connection, Http},
    http2::{Http2, Plain},
    rest::Rest,
};
use self::{log::Log, record::Recorded};

/// What memory must have free to hold the data folders.
const MEMORY_BYTES_MIN: u64 = 1 << 30;

/// An empty folder, in memory where the machine has such a file system: whether bytes survive a power
/// cut is tested elsewhere, and syncs are most of the time of a test.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
    if free >= MEMORY_BYTES_MIN {
        return tempfile::tempdir_in(memory).expect("a folder");
    }
    tempfile::tempdir().expect("a folder")
}

/// Whether the gateway of each server calls the service over its port.
fn calls_itself() -> bool {
    std::env::var_os("IMAGESTORE_TEST_REMOTE").is_some()
}

/// Starts a server whose gateway calls the service over its port if `IMAGESTORE_TEST_REMOTE` is set, else in the
/// process.
async fn real(config: &Config, blobs: Option<Blobs>) -> Real {
    let listener = TcpListener::bind(config.listen).await.expect("a port");
    let calls_itself = calls_itself();
    let replaced = Replaced { blobs, calls_itself };
    Real::start_with(config, replaced, listener).await.expect("started")
}

/// The generated client over a socket.
pub(crate) type Client = ImageStoreClient<Recorded<Channel>>;

/// A server on a folder and a database of its own and a free port. Dropped, it ends as if killed.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    config: Config,
    folder: TempDir,
    log: Log,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Server {
    /// Starts a server on an empty folder and an empty database.
    pub(crate) async fn start() -> Self {
        let (folder, config) = Self::settings();
        Self::start_in(folder, config).await
    }

    /// Starts a server that keeps its parts behind a gate, in memory.
    pub(crate) async fn start_behind(gate: &Gate) -> Self {
        let log = Log::of_all();
        let (folder, config) = Self::settings();
        let blobs = Some(Blobs::new(Arc::new(gate.clone())));
        Self::run(real(&config, blobs).await, folder, config, log)
    }

    fn settings() -> (TempDir, Config) {
        let folder = folder();
        let mut config = Config::local(folder.path());
        config.database = database::database(folder.path());
        (folder, config)
    }

    async fn start_in(folder: TempDir, config: Config) -> Self {
        let log = Log::of_all();
        Self::run(real(&config, None).await, folder, config, log)
    }

    fn run(server: Real, folder: TempDir, config: Config, log: Log) -> Self {
        if calls_itself() {
            // In a stop both ends of that connection end.
            log.expect("the service behind the gateway does not answer");
        }
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        // A server whose handle is dropped is not stopped, but goes with its runtime.
        let running = tokio::spawn(server.run(async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { address, config, folder, log, stop, running }
    }

    /// Declares warnings and errors that it logs, by a text in them.
    pub(crate) fn expect(&self, text: &'static str) {
        self.log.expect(text);
    }

    /// Stops the server and starts another one on the same folder and database.
    pub(crate) async fn restart(self) -> Self {
        self.stop.send(()).expect("it runs");
        self.running.await.expect("stopped");
        Self::start_in(self.folder, self.config).await
    }

    /// Speaks HTTP/1.1 to it.
    pub(crate) fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// Drives it over REST.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.http())
    }

    /// The generated client, connected.
    pub(crate) async fn client(&self) -> Client {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("a URI");
        Client::new(Recorded(endpoint.connect().await.expect("connected")))
    }

    /// Speaks HTTP/2 to it.
    pub(crate) async fn http2(&self) -> Http2 {
        http2::connect(self.address).await
    }

    /// The generated client over such a connection, and nothing else.
    pub(crate) async fn plain(&self) -> Plain {
        http2::plain(self.address).await
    }

    /// Drives it over gRPC.
    pub(crate) async fn grpc(&self) -> Grpc {
        Grpc::new(self.client().await)
    }
}
