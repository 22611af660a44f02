//! Benchmark: do a thousand watchers slow down a copy?
//!
//! A verifying copy on a server process runs alternately without watchers and with a thousand watch streams
//! over a few connections. The watchers run in this program, on the same CPU cores, so the table has the
//! server's CPU time beside the elapsed time. Every watcher must receive the final state.

mod support;

use std::time::Duration;

use clap::Parser;
use futures::future::try_join_all;
use imagestore::{
    model::OperationId,
    wire::v1::{CopyRequest, OperationState, WatchOperationRequest},
};
use tokio::task::JoinHandle;

use support::{
    Common, Result, arguments, block_on,
    grpc::Grpc,
    median, noise, ratio,
    server::Server,
    table::{Table, mib, time, times},
    timed,
};

/// The size of one file, in bytes.
const FILE_BYTES: usize = 64 << 20;
/// Connections that the watchers share.
const CONNECTIONS: usize = 10;

/// Measures watched copies.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Total size of the files that the copy verifies, in MiB
    #[arg(long)]
    size: Option<usize>,
    /// Watchers
    #[arg(long)]
    watchers: Option<usize>,
    /// How often the copy is made
    #[arg(long)]
    runs: Option<usize>,
}

/// The measurements of one copy; the peak of memory is in bytes.
#[derive(Clone, Copy)]
struct Took {
    time: Duration,
    cpu: Duration,
    peak: u64,
    messages: usize,
}

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let scratch = common.scratch()?;
    let size = common.size(arguments.size, 8192, 128) << 20;
    let watchers = common.size(arguments.watchers, 1000, 50);
    let runs = common.size(arguments.runs, 5, 2);
    let server = Server::start(&scratch.path().join("data"))?;
    let mut grpc = Grpc::connect(server.address()).await?;
    for number in 0..size / FILE_BYTES {
        let path = format!("source/f{number:04}");
        let bytes = noise(&path, FILE_BYTES);
        grpc.upload(&path, bytes).await?;
    }
    let audiences = [0, watchers];
    let mut found = audiences.map(|_| Vec::with_capacity(runs));
    for _ in 0..runs {
        for (audience, took) in audiences.iter().zip(&mut found) {
            took.push(watched(&server, &mut grpc, *audience).await?);
        }
    }
    let head = format!("copy with verify of {}", mib(size as u64));
    let mut table = Table::new(&[&head, "time", "", "server's CPU", "", "messages", "memory"]);
    let middle =
        |took: &[Took], of: fn(&Took) -> Duration| median(&took.iter().map(of).collect::<Vec<_>>());
    let alone = found.first().map(|took| (middle(took, |t| t.time), middle(took, |t| t.cpu)));
    let (alone_time, alone_cpu) = alone.unwrap_or_default();
    for (audience, took) in audiences.iter().zip(&found) {
        let (whole, cpu) = (middle(took, |t| t.time), middle(took, |t| t.cpu));
        let messages = took.iter().map(|took| took.messages).max().unwrap_or_default();
        let peak = took.iter().map(|took| took.peak).max().unwrap_or_default();
        table.row([
            format!("{audience} watchers"),
            time(whole),
            times(ratio(whole, alone_time)),
            time(cpu),
            times(ratio(cpu, alone_cpu)),
            messages.to_string(),
            mib(peak),
        ]);
    }
    Ok(table.print()?)
}

/// Copies once; `audience` watchers begin right after the copy has begun.
async fn watched(server: &Server, grpc: &mut Grpc, audience: usize) -> Result<Took> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Grpc::connect(server.address()).await?);
    }
    server.forget_peak()?;
    let (id, before) = (OperationId::new().to_string(), server.cpu()?);
    let request = CopyRequest {
        source: "source".to_owned(),
        destination: format!("copies/{id}"),
        verify: true,
        operation_id: id.clone(),
        ..CopyRequest::default()
    };
    let mut messages = 0;
    let time = timed(async {
        let mut states = grpc.0.copy(request).await?.into_inner();
        let watchers: Vec<_> = connections
            .iter()
            .cycle()
            .take(audience)
            .map(|connection| watch(connection.clone(), id.clone()))
            .collect();
        let mut last = None;
        while let Some(state) = states.message().await? {
            last = Some(state.state());
        }
        if last != Some(OperationState::Succeeded) {
            return Err("the copy ended without success".into());
        }
        for seen in try_join_all(watchers).await? {
            messages += seen?;
        }
        Ok(())
    })
    .await?;
    Ok(Took {
        time,
        cpu: server.cpu()?.saturating_sub(before),
        peak: server.peak_bytes()?,
        messages,
    })
}

/// Watches the operation until the stream ends. Returns the number of messages received.
fn watch(mut connection: Grpc, id: String) -> JoinHandle<Result<usize>> {
    tokio::spawn(async move {
        let request = WatchOperationRequest { id };
        let mut states = connection.0.watch_operation(request).await?.into_inner();
        let (mut messages, mut last) = (0, None);
        while let Some(state) = states.message().await? {
            messages += 1;
            last = Some(state.state());
        }
        if last == Some(OperationState::Succeeded) {
            Ok(messages)
        } else {
            Err("a watcher did not see the end".into())
        }
    })
}
