//! The server as a process: runtime, log, signals, and messages on the standard error.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::{
    Ended, Error, Server,
    config::{Config, Serve},
    gateway::{self, Gateway},
    migrate::{self, Plan},
    permissions::restrict_process,
};
use crate::{
    cli::{self, Migrate},
    client::in_process::{self, Connector},
    limits::{END_TIME, RUNTIME_STOP_TIME, START_OVER_PAUSE},
};

/// The log filter of a private server: only warnings and errors, since its command prints the results.
const PRIVATE_LOG: &str = "warn";

/// Runs a server until SIGINT or SIGTERM. A SIGINT after that ends it at once, with exit code 1.
///
/// A further SIGTERM changes nothing: `timeout` and supervisors send one to the process and one to its group,
/// and end a process at once by SIGKILL.
///
/// One line on the standard error names the address on which the server listens, whatever the log filter
/// is. An error is one line there, and exit code 1.
pub fn serve(arguments: Serve) -> ExitCode {
    exit_code(init_log(arguments.log()).and_then(|()| {
        let config = arguments.config()?;
        run(move |stopped| serve_store(config, stopped))
    }))
}

/// Runs a gateway as [`serve`] runs a server.
pub fn serve_gateway(arguments: gateway::Arguments) -> ExitCode {
    exit_code(init_log(arguments.log()).and_then(|()| {
        let config = arguments.config()?;
        run(move |stopped| serve_backends(config, stopped))
    }))
}

/// The exit code of a result, whose error is printed.
fn exit_code(result: Result<ExitCode, Error>) -> ExitCode {
    result.unwrap_or_else(|error| {
        print_line(&format!("imagestore: {}", error.explain()));
        ExitCode::FAILURE
    })
}

/// Runs what `server` makes until a signal resolves its receiver.
fn run<F>(
    server: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
) -> Result<ExitCode, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    raise_open_files();
    restrict_process();
    let runtime = runtime()?;
    let ended = runtime.block_on(until_ended(server));
    if let Some(result) = ended {
        runtime.shutdown_timeout(RUNTIME_STOP_TIME);
        result.map(|()| ExitCode::SUCCESS)
    } else {
        runtime.shutdown_background();
        Ok(ExitCode::FAILURE)
    }
}

/// Runs a client command against a private server over the store of a stopped server.
///
/// The private server is in this process and has no port, so no other process can reach it. Meanwhile the
/// locks of the store keep every other server out. `command` gets a connector to the private server. If there
/// is no store, `makes_store` decides whether one is created or the command fails.
pub fn with_stopped(
    config: Result<Config, Error>,
    makes_store: bool,
    command: impl FnOnce(Connector) -> ExitCode,
) -> ExitCode {
    let config = config.and_then(|config| {
        // A bucket says so when it is opened.
        let has_blobs = config.blobs.folder().is_none_or(Path::exists);
        if makes_store || (config.database.exists() && has_blobs) {
            return Ok(config);
        }
        let data = config.data.display();
        Err(Error::new(format!("no store is in {data}; name its data folder")))
    });
    exit_code(config.and_then(|config| try_with_stopped(&config, command)))
}

/// Runs the command `migrate`. Its errors are one line, and its exit code is 1 then.
pub fn migrate(global: &cli::Global, arguments: &Migrate) -> ExitCode {
    exit_code(init_log(PRIVATE_LOG).and_then(|()| {
        restrict_process();
        let plan = Plan::new(arguments)?;
        Ok(cli::migrate(global, plan.is_running(), async |client, progress| {
            let moved = Box::pin(migrate::run(plan, client, progress)).await;
            moved.map_err(|error| error.explain())
        }))
    }))
}

fn try_with_stopped(
    config: &Config,
    command: impl FnOnce(Connector) -> ExitCode,
) -> Result<ExitCode, Error> {
    init_log(PRIVATE_LOG)?;
    restrict_process();
    let runtime = runtime()?;
    let (connector, connections) = in_process::pair();
    let server = runtime.block_on(Server::start_private(config, connections))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.run(async {
        // An error means that the sender is dropped, which is a stop as well.
        let _ = stopped.await;
    }));
    let code = command(connector);
    drop(stop);
    runtime.block_on(serving).map_err(server_panicked)?;
    runtime.shutdown_timeout(RUNTIME_STOP_TIME);
    Ok(code)
}

fn runtime() -> Result<Runtime, Error> {
    let failed = |error| Error::new("cannot start the runtime").because(error);
    Builder::new_multi_thread().enable_all().build().map_err(failed)
}

/// Runs the server to its end; `None` after a SIGINT during the stop.
///
/// The server runs in a task of its own, so that this SIGINT does not wait until the server is dropped.
async fn until_ended<F>(
    server: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
) -> Option<Result<(), Error>>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Some(Err(Error::new("cannot handle signals").because(error))),
    };
    let (stop, stopped) = oneshot::channel();
    let mut server = tokio::spawn(server(stopped));
    select! {
        ended = &mut server => return Some(ended.unwrap_or_else(|error| Err(server_panicked(error)))),
        () = signals.next() => {}
    }
    // An error means that the server has just ended.
    let _ = stop.send(());
    select! {
        ended = server => Some(ended.unwrap_or_else(|error| Err(server_panicked(error)))),
        _ = signals.interrupt.recv() => {
            warn!("interrupted during the stop, ending at once");
            None
        }
    }
}

fn server_panicked(error: tokio::task::JoinError) -> Error {
    Error::new("the server panicked").because(error)
}

/// Binds the port and serves until `stopped`. Starts over under the same port when the server is expelled from its store;
/// until then connections are refused, so that clients turn to other servers.
async fn serve_store(config: Config, mut stopped: oneshot::Receiver<()>) -> Result<(), Error> {
    let listener = bind(config.listen).await?;
    let Some(mut server) = start(&config, listener, &mut stopped).await? else {
        return Ok(());
    };
    let address = server.address();
    print_line(&ready(server.has_tls(), address));
    loop {
        let ended = server
            .run(async {
                // An error means that the sender is dropped, which is a stop as well.
                let _ = (&mut stopped).await;
            })
            .await;
        if ended == Ended::Stopped {
            return Ok(());
        }
        server = loop {
            let started = match bind(address).await {
                Ok(listener) => start(&config, listener, &mut stopped).await,
                Err(error) => Err(error),
            };
            match started {
                Ok(Some(server)) => break server,
                Ok(None) => return Ok(()),
                Err(error) => warn!("cannot start over; it is tried again: {}", error.explain()),
            }
            select! {
                () = sleep(START_OVER_PAUSE) => {}
                _ = &mut stopped => return Ok(()),
            }
        };
        info!("started over");
    }
}

/// Starts a server. `None` if `stopped` resolves first.
async fn start(
    config: &Config,
    listener: TcpListener,
    stopped: &mut oneshot::Receiver<()>,
) -> Result<Option<Server>, Error> {
    let mut starting = Box::pin(Server::start(config, listener));
    let started = select! {
        started = starting.as_mut() => return started.map(Some),
        // A start that a database or a disk blocks is abandoned; the next start cleans up after it.
        _ = stopped => timeout(END_TIME, starting).await,
    };
    if let Ok(server) = started {
        Box::pin(server?.run(std::future::ready(()))).await;
    } else {
        info!("stopped before it had started");
    }
    Ok(None)
}

/// Binds the port, prints its address, and serves the backends until `stopped`.
async fn serve_backends(
    config: gateway::Config,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let listener = bind(config.listen).await?;
    let gateway = Gateway::start(&config, listener).await?;
    print_line(&ready(gateway.has_tls(), gateway.address()));
    gateway
        .run(async {
            // An error means that the sender is dropped, which is a stop as well.
            let _ = stopped.await;
        })
        .await;
    Ok(())
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |error: io::Error| Error::new(format!("cannot listen on {listen}")).because(error);
    TcpListener::bind(listen).await.map_err(failed)
}

/// The line by which people and scripts see that the server is ready, and its port.
fn ready(has_tls: bool, address: SocketAddr) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    format!("listening on {scheme}://{address}")
}

/// The signals that stop the server.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Sends the log to the standard error. Panics are logged too: a panic in a handler ends one call only, and
/// the log line is its only trace.
fn init_log(filter: &str) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Error::new(format!("--log {filter} is no filter")).because(error))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|error| Error::new("cannot start the log").because(error))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        error!(place, panic = message, "a thread panicked");
    }));
    Ok(())
}

/// Raises the soft limit of open files to the hard limit: the usual soft limit of 1,024 is below
/// [`CONNECTIONS_MAX`](crate::limits::CONNECTIONS_MAX).
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// Writes a line to the standard error. Errors are ignored, since there is no other place to report them.
fn print_line(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
