//! Benchmark: does the time of a folder copy depend on the number of files?
//!
//! Folders of 1 to 1,000,000 files are created by uploads, 1,000 files to a sub-folder. Each folder is copied
//! many times, in rounds over all sizes, so that a slow phase of the disk affects all sizes alike: first in
//! process, then over gRPC and over REST to a server process. Target: at most twice the time of the folder of
//! one file.
//!
//! For comparison: one durable write of a page, which is the physical limit of a durable transaction, and `cp
//! -r` and `cp -al` of a directory tree of the same shape, which are not durable when they return.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser;
use imagestore::wire::v1::CopyRequest;

use support::{
    Common, Result, arguments, block_on, durable_writes,
    grpc::Grpc,
    http::Http,
    median, ratio,
    rows::Rows,
    say,
    server::Server,
    store::Opened,
    table::{Table, count, time, times},
    timed,
};

/// Files in a sub-folder.
const IN_FOLDER: u64 = 1000;
/// The most files of a tree that is copied by `cp`, which bounds the time of the benchmark.
const CP_FILES_MAX: u64 = 100_000;

/// Measures copies of folders.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Files of the folders to copy
    #[arg(long, value_delimiter = ',')]
    files: Option<Vec<u64>>,
    /// How often each folder is copied
    #[arg(long)]
    copies: Option<usize>,
    /// How often `cp` copies each tree
    #[arg(long)]
    cp: Option<usize>,
}

/// The times of one way to copy: for each folder, one time per round.
type Times = Vec<Vec<Duration>>;

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let full = vec![1, 1000, 100_000, 1_000_000];
    let sizes = common.size(arguments.files.clone(), full, vec![1, 1000, 5000]);
    let copies = common.size(arguments.copies, 200, 5);
    let scratch = common.scratch()?;
    let data = scratch.path().join("data");
    let opened = Opened::open(&data).await?;
    for files in &sizes {
        let begun = Instant::now();
        opened.load(&format!("source{files}"), *files, IN_FOLDER).await?;
        let rate = *files as f64 / begun.elapsed().as_secs_f64();
        say(&format!("loaded {} files, {rate:.0} files/s", count(*files)))?;
    }
    let in_process = rounds(&sizes, copies, "process", async |source, destination| {
        opened.copy(&source, &destination, &[]).await
    })
    .await?;
    let limit = durable_writes(&scratch.path().join("page"), copies)?;
    let rows = rows(&opened, &data, &sizes).await?;
    opened.close().await;
    let server = Server::start(&data)?;
    let mut grpc = Grpc::connect(server.address()).await?;
    let over_grpc = rounds(&sizes, copies, "grpc", async |source, destination| {
        let request = CopyRequest { source, destination, ..CopyRequest::default() };
        grpc.copy(request).await.map(drop)
    })
    .await?;
    let mut http = Http::connect(server.address()).await?;
    let over_rest = rounds(&sizes, copies, "rest", async |source, destination| {
        http.copy(&source, &destination).await
    })
    .await?;
    drop(server);
    let peers = peers(scratch.path(), &sizes, common.size(arguments.cp, 3, 1))?;
    say(&format!("\none durable write of 4 KiB: {}\n", time(limit)))?;
    report(&sizes, &[in_process, over_grpc, over_rest], &rows, &peers)
}

/// Copies every folder once per round, each time to a new destination.
async fn rounds(
    sizes: &[u64],
    copies: usize,
    name: &str,
    mut copy: impl AsyncFnMut(String, String) -> Result<()>,
) -> Result<Times> {
    let mut found = vec![Vec::with_capacity(copies); sizes.len()];
    for round in 0..copies {
        for (files, times) in sizes.iter().zip(&mut found) {
            let destination = format!("{name}{files}/copy{round:05}");
            times.push(timed(copy(format!("source{files}"), destination)).await?);
        }
    }
    Ok(found)
}

/// The number of rows that one more copy of each folder writes.
async fn rows(opened: &Opened, data: &Path, sizes: &[u64]) -> Result<Vec<u64>> {
    let rows = Rows::count(data)?;
    let mut found = Vec::with_capacity(sizes.len());
    for files in sizes {
        rows.take()?;
        opened.copy(&format!("source{files}"), &format!("process{files}/counted"), &[]).await?;
        found.push(rows.take()?);
    }
    rows.end()?;
    Ok(found)
}

/// The median times of `cp -r` and `cp -al` for a tree of the same shape; `None` above [`CP_FILES_MAX`].
fn peers(dir: &Path, sizes: &[u64], runs: usize) -> Result<Vec<Option<[Duration; 2]>>> {
    let mut found = Vec::with_capacity(sizes.len());
    for files in sizes {
        if *files > CP_FILES_MAX {
            found.push(None);
            continue;
        }
        let source = dir.join(format!("tree{files}"));
        tree(&source, *files)?;
        let mut times = [Vec::new(), Vec::new()];
        for run in 0..runs {
            for (option, times) in ["-r", "-al"].into_iter().zip(&mut times) {
                times.push(cp(option, &source, dir.join(format!("cp{option}{files}-{run}")))?);
            }
        }
        found.push(Some(times.map(|times| median(&times))));
    }
    Ok(found)
}

fn tree(dir: &Path, files: u64) -> Result<()> {
    for number in 0..files {
        let folder = dir.join(format!("d{:05}", number / IN_FOLDER));
        if number.is_multiple_of(IN_FOLDER) {
            fs::create_dir_all(&folder)?;
        }
        let file = folder.join(format!("f{number:07}"));
        fs::write(&file, format!("{}: a small file of a package\n", file.display()))?;
    }
    Ok(())
}

fn cp(option: &str, source: &Path, destination: PathBuf) -> Result<Duration> {
    let begun = Instant::now();
    let status = Command::new("cp").arg(option).arg(source).arg(destination).status()?;
    let took = begun.elapsed();
    if status.success() { Ok(took) } else { Err(format!("cp {option}: {status}").into()) }
}

fn report(
    sizes: &[u64],
    ways: &[Times; 3],
    rows: &[u64],
    peers: &[Option<[Duration; 2]>],
) -> Result<()> {
    let head =
        ["files", "in process", "", "gRPC", "", "REST", "", "rows", "cp -r", "", "cp -al", ""];
    let mut table = Table::new(&head);
    for (at, files) in sizes.iter().enumerate() {
        let mut cells = vec![count(*files)];
        let mut fastest = Duration::MAX;
        for way in ways {
            let (took, one) = (way.get(at), way.first());
            let (took, one) = (took.map(|t| median(t)), one.map(|t| median(t)));
            let (took, one) = (took.unwrap_or_default(), one.unwrap_or_default());
            fastest = fastest.min(took);
            cells.extend([time(took), times(ratio(took, one))]);
        }
        cells.push(rows.get(at).map_or(String::new(), u64::to_string));
        for took in peers.get(at).copied().flatten().into_iter().flatten() {
            cells.extend([time(took), times(ratio(took, fastest))]);
        }
        table.row(cells);
    }
    table.print()?;
    say("the ratio beside a copy is to the first row, beside cp to the fastest copy of its row")?;
    Ok(())
}
