//! Benchmark: how many small files a second does the store take, and what does the way to its database cost?
//!
//! The same uploads over one connection and over many, against a server on SQLite or, with `--database`, on
//! PostgreSQL, where a proxy can delay every message between the two. Every upload has unique bytes and a new
//! name, so it writes a part, a content and an entry. The client is this program, on the same CPU cores.

mod support;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use clap::Parser;
use futures::future::try_join_all;

use support::{
    Common, Result, arguments, block_on, delay,
    grpc::Grpc,
    http::Http,
    median, noise,
    server::Server,
    table::{Table, count, time},
    timed,
};

/// Measures uploads of small files.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The URL of a PostgreSQL database without a store; SQLite if it is not given
    #[arg(long)]
    database: Option<String>,
    /// The delay of each message to and from the database, in microseconds
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Files
    #[arg(long)]
    files: Option<usize>,
    /// The size of the files, in bytes
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',')]
    connections: Option<Vec<usize>>,
    /// How often each measurement is repeated
    #[arg(long)]
    runs: Option<usize>,
}

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let scratch = common.scratch()?;
    let database = arguments.database.as_ref();
    let database = database.map(|url| delay::behind(url, Duration::from_micros(arguments.delay)));
    let flags = database.transpose()?.map(|url| vec!["--database".to_owned(), url]);
    let server = Server::start_with(&scratch.path().join("data"), &flags.unwrap_or_default())?;
    let runs = common.size(arguments.runs, 3, 1);
    let files = common.size(arguments.files, 10_000, 200);
    let size = format!("files of {} bytes", count(arguments.size as u64));
    let mut table = Table::new(&[&size, "connections", "files", "time", "files/s", "server's CPU"]);
    for connections in common.size(arguments.connections.clone(), vec![1, 32], vec![1, 8]) {
        // One connection has no use of a batch, and is slower by as much.
        let files = if connections == 1 { files.div_ceil(10) } else { files };
        for way in [Way::Grpc, Way::Rest] {
            let (mut times, mut cpu) = (Vec::new(), Vec::new());
            for run in 0..runs {
                let folder = format!("{way:?}{connections}/{run}");
                let load = Load { files, size: arguments.size, connections };
                let before = server.cpu()?;
                times.push(load.upload(&folder, way, server.address()).await?);
                cpu.push(server.cpu()?.saturating_sub(before));
            }
            let took = median(&times);
            let rate = format!("{:.0}", files as f64 / took.as_secs_f64());
            let numbers = [connections.to_string(), count(files as u64), time(took), rate];
            let name = format!("{way:?}").to_uppercase();
            table.row([name].into_iter().chain(numbers).chain([time(median(&cpu))]));
        }
    }
    Ok(table.print()?)
}

/// The interface of an upload.
#[derive(Clone, Copy, Debug)]
enum Way {
    Grpc,
    Rest,
}

/// Files to upload.
struct Load {
    files: usize,
    size: usize,
    connections: usize,
}

impl Load {
    /// Uploads new files below a folder, over connections of their own. Returns the time that this took.
    async fn upload(&self, folder: &str, way: Way, server: SocketAddr) -> Result<Duration> {
        let bytes = noise(folder, self.files * self.size);
        let mut work = Vec::with_capacity(self.connections);
        for connection in 0..self.connections {
            let share = self.share(&format!("{folder}/{connection}"), &bytes, connection);
            work.push(Sender::connect(way, server).await?.upload(share));
        }
        timed(async {
            let done = try_join_all(work.into_iter().map(tokio::spawn)).await?;
            done.into_iter().collect::<Result<()>>()
        })
        .await
    }

    /// The share of one connection: the paths of its files below `folder`, and their bytes out of `bytes`.
    fn share(&self, folder: &str, bytes: &Bytes, connection: usize) -> Vec<(String, Bytes)> {
        let numbers = (connection..self.files).step_by(self.connections);
        let slice = |number: usize| bytes.slice(number * self.size..(number + 1) * self.size);
        numbers.map(|number| (format!("{folder}/f{number}"), slice(number))).collect()
    }
}

/// A connection that sends uploads, one after the other.
enum Sender {
    Grpc(Grpc),
    Rest(Http),
}

impl Sender {
    async fn connect(way: Way, server: SocketAddr) -> Result<Self> {
        Ok(match way {
            Way::Grpc => Self::Grpc(Grpc::connect(server).await?),
            Way::Rest => Self::Rest(Http::connect(server).await?),
        })
    }

    async fn upload(mut self, share: Vec<(String, Bytes)>) -> Result<()> {
        for (path, bytes) in share {
            match &mut self {
                Self::Grpc(grpc) => grpc.upload(&path, bytes).await?,
                Self::Rest(http) => http.upload(&path, &bytes).await?,
            }
        }
        Ok(())
    }
}
