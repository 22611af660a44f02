//! Benchmark: does the reclamation of a deleted folder slow down clients?
//!
//! Small files are uploaded one after another over one connection, while the store is idle and while it
//! reclaims a deleted folder. Target: at most twice the 99th percentile of the idle store. The folder is
//! created by uploads, so every file has its own content and part, and all of them are reclaimed.

mod support;

use std::time::{Duration, Instant};

use clap::Parser;
use imagestore::wire::v1::{DeleteRequest, GetStoreInfoRequest};

use support::{
    Common, Result, arguments, block_on, durable_writes,
    grpc::Grpc,
    noise, percentile, ratio, say,
    server::Server,
    store::Opened,
    table::{Table, count, time, times},
    timed,
};

/// Files in a sub-folder.
const IN_FOLDER: u64 = 1000;
/// Uploads between two queries for the remaining garbage.
const UPLOADS_A_ROUND: u64 = 20;
/// The size of an uploaded file, in bytes.
const UPLOAD_BYTES: usize = 4 << 10;

/// Measures uploads while a folder is reclaimed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Files of the folder
    #[arg(long)]
    files: Option<u64>,
    /// Uploads while the store is idle
    #[arg(long)]
    uploads: Option<u64>,
}

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let files = common.size(arguments.files, 1_000_000, 5000);
    let uploads = common.size(arguments.uploads, 20_000, 200);
    let scratch = common.scratch()?;
    let data = scratch.path().join("data");
    let opened = Opened::open(&data).await?;
    opened.load("large", files, IN_FOLDER).await?;
    opened.close().await;
    let limit = durable_writes(&scratch.path().join("page"), 1000)?;
    let server = Server::start(&data)?;
    let mut grpc = Grpc::connect(server.address()).await?;
    let mut idle = Vec::new();
    for number in 0..uploads {
        idle.push(upload(&mut grpc, "idle", number).await?);
    }
    grpc.0.delete(DeleteRequest { path: "large".to_owned(), ..DeleteRequest::default() }).await?;
    // Reclamation begins after the grace; uploads before that count neither as idle nor as busy.
    let mut busy = Vec::new();
    let mut begun = None;
    for round in 0.. {
        let (folders, waiting) = left(&mut grpc).await?;
        if begun.is_none() && folders < files / IN_FOLDER {
            begun = Some(Instant::now());
        }
        if waiting == 0 {
            break;
        }
        for number in 0..UPLOADS_A_ROUND {
            let took = upload(&mut grpc, "busy", round * UPLOADS_A_ROUND + number).await?;
            busy.extend(begun.map(|_| took));
        }
    }
    let took = begun.map(|begun| begun.elapsed()).unwrap_or_default();
    let rate = files as f64 / took.as_secs_f64().max(1e-9);
    say(&format!(
        "{} files in {}, {rate:.0} files/s; one durable write of 4 KiB: {}\n",
        count(files),
        time(took),
        time(limit)
    ))?;
    report(&idle, &busy)
}

/// Uploads a small file of new bytes. Returns the time.
async fn upload(grpc: &mut Grpc, folder: &str, number: u64) -> Result<Duration> {
    let path = format!("{folder}/{}/{number}", number / IN_FOLDER);
    let bytes = noise(&path, UPLOAD_BYTES);
    timed(grpc.upload(&path, bytes)).await
}

/// The number of folders in the store, and the file count of the garbage.
async fn left(grpc: &mut Grpc) -> Result<(u64, u64)> {
    let info = grpc.0.get_store_info(GetStoreInfoRequest {}).await?.into_inner();
    Ok((info.folder_count, info.garbage.unwrap_or_default().file_count))
}

fn report(idle: &[Duration], busy: &[Duration]) -> Result<()> {
    let mut table =
        Table::new(&["uploads of 4 KiB", "number", "median", "", "p99", "", "longest", ""]);
    for (name, found) in [("idle", idle), ("while a folder is reclaimed", busy)] {
        let mut cells = vec![name.to_owned(), count(found.len() as u64)];
        for percent in [50, 99, 100] {
            let took = percentile(found, percent);
            cells.extend([time(took), times(ratio(took, percentile(idle, percent)))]);
        }
        table.row(cells);
    }
    Ok(table.print()?)
}
