//! Benchmark: how does the store grow with the number of its servers?
//!
//! One, two and four servers on one PostgreSQL and one bucket, each held to a part of a core, so that the machine has room
//! for four, for the database and for the clients. Small files are read and written over connections that are spread
//! among the servers. A proxy delays every message between the servers and the database.

mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures::future::try_join_all;

use support::{
    Common, Result, arguments, block_on,
    cpu::CpuLimit,
    delay,
    grpc::Grpc,
    median, noise,
    server::Server,
    table::{Table, count, time},
};

/// The size of the files, in bytes.
const FILE_BYTES: usize = 4096;

/// Measures reads and writes of small files on several servers.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The URL of a PostgreSQL database without a store
    #[arg(long)]
    database: String,
    /// The URL of an empty bucket
    #[arg(long, env = "IMAGESTORE_TEST_BLOBS")]
    blobs: String,
    /// Numbers of servers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    servers: Vec<usize>,
    /// The delays of each message to and from the database, in microseconds
    #[arg(long, value_delimiter = ',', default_values_t = [0, 500, 2000])]
    delays: Vec<u64>,
    /// Thousandths of a core that each server has
    #[arg(long, default_value_t = 250)]
    core: u32,
    /// Connections, over all servers
    #[arg(long)]
    connections: Option<usize>,
    /// The time of a measurement, in seconds
    #[arg(long)]
    seconds: Option<u64>,
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
    let runs = common.size(arguments.runs, 3, 1);
    let load = Load {
        files: common.size(None, 2_000, 100),
        connections: common.size(arguments.connections, 32, 8),
        time: Duration::from_secs(common.size(arguments.seconds, 5, 1)),
    };
    let size = format!("files of {} bytes", count(FILE_BYTES as u64));
    let mut table =
        Table::new(&[&size, "delay", "servers", "calls/s", "of the first", "servers' CPU"]);
    for micros in &arguments.delays {
        let url = delay::behind(&arguments.database, Duration::from_micros(*micros))?;
        let mut first = None;
        for servers in &arguments.servers {
            let name = format!("{micros}-{servers}");
            let group = Group::start(&scratch.path().join(&name), &url, arguments, *servers)?;
            let [reads, writes] = group.measure(&name, &load, runs).await?;
            // A server that is killed would do the background work until the end of its lease.
            group.stop()?;
            let (of_reads, of_writes) = *first.get_or_insert((reads.rate, writes.rate));
            for (what, found, of) in [("reads", reads, of_reads), ("writes", writes, of_writes)] {
                table.row([
                    what.to_owned(),
                    time(Duration::from_micros(*micros)),
                    servers.to_string(),
                    format!("{:.0}", found.rate),
                    format!("{:.2}", found.rate / of),
                    time(found.cpu),
                ]);
            }
        }
    }
    Ok(table.print()?)
}

/// What is measured.
struct Load {
    files: usize,
    connections: usize,
    time: Duration,
}

/// The rate of calls, in calls a second, and the CPU time of all servers in a second.
#[derive(Clone, Copy, Debug)]
struct Found {
    rate: f64,
    cpu: Duration,
}

/// Servers on one store. A field is dropped after the one before it: a group goes after its process.
struct Group {
    servers: Vec<Server>,
    _limits: Vec<CpuLimit>,
}

impl Group {
    fn start(dir: &Path, database: &str, arguments: &Arguments, servers: usize) -> Result<Self> {
        let blobs = arguments.blobs.split(' ').next().unwrap_or_default();
        let flags = ["--database", database, "--blobs", blobs, "--drain-time", "0s"];
        let flags = flags.map(str::to_owned);
        let start = |number: usize| Server::start_with(&dir.join(number.to_string()), &flags);
        let servers = (0..servers).map(start).collect::<Result<Vec<_>>>()?;
        let limits = servers.iter().map(|server| CpuLimit::new(server.id(), arguments.core));
        let limits = limits.collect::<Result<Vec<_>>>()?;
        Ok(Self { servers, _limits: limits })
    }

    fn stop(self) -> Result<()> {
        self.servers.into_iter().try_for_each(Server::stop)
    }

    /// Measures reads and writes by turns.
    async fn measure(&self, name: &str, load: &Load, runs: usize) -> Result<[Found; 2]> {
        let mut clients = Vec::with_capacity(load.connections);
        for server in self.servers.iter().cycle().take(load.connections) {
            clients.push(Grpc::connect(server.address()).await?);
        }
        let bytes = noise(name, load.files * FILE_BYTES);
        let file = |number: usize| bytes.slice(number * FILE_BYTES..(number + 1) * FILE_BYTES);
        let fill = clients.iter_mut().enumerate().map(|(connection, client)| async move {
            for number in (connection..load.files).step_by(load.connections) {
                client.upload(&format!("{name}/f{number}"), file(number)).await?;
            }
            Result::Ok(())
        });
        try_join_all(fill).await?;
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for run in 0..runs {
            reads.push(
                self.rate(&mut clients, load, Calls::Reads { name, files: load.files }).await?,
            );
            let name = format!("{name}/new{run}");
            writes.push(self.rate(&mut clients, load, Calls::Writes { name: &name }).await?);
        }
        Ok([middle(&reads), middle(&writes)])
    }

    /// Makes calls over all connections for the time of the load.
    async fn rate(&self, clients: &mut [Grpc], load: &Load, calls: Calls<'_>) -> Result<Found> {
        let (begun, before) = (Instant::now(), self.cpu()?);
        let work = clients.iter_mut().enumerate().map(|(connection, client)| async move {
            let mut number = 0;
            while begun.elapsed() < load.time {
                calls.make(client, connection, number).await?;
                number += 1;
            }
            Result::Ok(number)
        });
        let made: usize = try_join_all(work).await?.into_iter().sum();
        let took = begun.elapsed();
        let cpu = self.cpu()?.saturating_sub(before).div_f64(took.as_secs_f64());
        Ok(Found { rate: made as f64 / took.as_secs_f64(), cpu })
    }

    /// The CPU time of all servers so far.
    fn cpu(&self) -> Result<Duration> {
        self.servers.iter().map(Server::cpu).sum()
    }
}

/// The measurement with the middle rate.
fn middle(found: &[Found]) -> Found {
    let took: Vec<_> =
        found.iter().map(|found| Duration::from_secs_f64(1.0 / found.rate)).collect();
    let rate = 1.0 / median(&took).as_secs_f64();
    let cpu: Vec<_> = found.iter().map(|found| found.cpu).collect();
    Found { rate, cpu: median(&cpu) }
}

/// The calls of a measurement.
#[derive(Clone, Copy, Debug)]
enum Calls<'a> {
    Reads { name: &'a str, files: usize },
    Writes { name: &'a str },
}

impl Calls<'_> {
    async fn make(self, client: &mut Grpc, connection: usize, number: usize) -> Result<()> {
        match self {
            Self::Reads { name, files } => {
                // Each connection reads all files, in an order of its own.
                let file = (connection * 577 + number * 31) % files;
                let length = client.download(&format!("{name}/f{file}")).await?;
                if length == FILE_BYTES as u64 { Ok(()) } else { Err("a file is not whole".into()) }
            }
            Self::Writes { name } => {
                let path = format!("{name}/{connection}-{number}");
                let bytes: Bytes = noise(&path, FILE_BYTES);
                client.upload(&path, bytes).await
            }
        }
    }
}
