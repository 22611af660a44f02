//! Benchmark: is a copy with `verify` as fast as `b3sum`?
//!
//! The same files, some of one part and some of several, are in the store and in a plain folder. A copy with
//! `verify` on a server process and `b3sum --num-threads 2` read them alternately, both from the page cache.
//! Target: 0.8 of the speed of `b3sum`, which `cargo install b3sum` installs.

mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use imagestore::wire::v1::CopyRequest;

use support::{
    Common, Result, arguments, block_on,
    grpc::Grpc,
    median, noise, ratio, say,
    server::Server,
    table::{Table, mib, speed, time, times},
    timed,
};

/// Measures copies with verify.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Total size, in MiB: a half in two files, a quarter in eight files, a quarter in files of 4 MiB
    #[arg(long)]
    size: Option<usize>,
    /// How often each is measured
    #[arg(long)]
    runs: Option<usize>,
    /// The program to compare with
    #[arg(long, env = "B3SUM", default_value = "b3sum")]
    b3sum: PathBuf,
}

fn main() -> Result<()> {
    block_on(run(&arguments()))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let common = &arguments.common;
    let scratch = common.scratch()?;
    let mebibytes = common.size(arguments.size, 2048, 64);
    let runs = common.size(arguments.runs, 9, 2);
    let plain = scratch.path().join("plain");
    fs::create_dir(&plain)?;
    let server = Server::start(&scratch.path().join("data"))?;
    let mut grpc = Grpc::connect(server.address()).await?;
    let mut files = Vec::new();
    for (number, size) in sizes(mebibytes << 20).into_iter().enumerate() {
        let name = format!("f{number:04}");
        let bytes = noise(&name, size);
        fs::write(plain.join(&name), &bytes)?;
        grpc.upload(&format!("source/{name}"), bytes).await?;
        files.push(plain.join(name));
    }
    let (mut copies, mut sums) = (Vec::new(), Vec::new());
    server.forget_peak()?;
    for run in 0..runs {
        let request = CopyRequest {
            source: "source".to_owned(),
            destination: format!("copy{run}"),
            verify: true,
            ..CopyRequest::default()
        };
        copies.push(timed(grpc.copy(request)).await?);
        sums.push(b3sum(&arguments.b3sum, &files)?);
    }
    let size = (mebibytes as u64) << 20;
    let (copy, sum) = (median(&copies), median(&sums));
    let head = format!("{} in {} files", mib(size), files.len());
    let mut table = Table::new(&[&head, "time", "speed", "of b3sum's speed"]);
    let row = |name: &str, took| {
        [name.to_owned(), time(took), speed(size, took), times(ratio(sum, took))]
    };
    table.row(row("copy with verify", copy));
    table.row(row("b3sum --num-threads 2", sum));
    table.print()?;
    say(&format!("the server's memory: {}", mib(server.peak_bytes()?)))?;
    Ok(())
}

/// The sizes of the files, in bytes, for a total of `all` bytes.
fn sizes(all: usize) -> Vec<usize> {
    let small = (all / 4) / (4 << 20);
    [(2, all / 4), (8, all / 32), (small.max(1), all / 4 / small.max(1))]
        .into_iter()
        .flat_map(|(count, size)| std::iter::repeat_n(size, count))
        .collect()
}

fn b3sum(program: &Path, files: &[PathBuf]) -> Result<Duration> {
    let begun = Instant::now();
    let status = Command::new(program)
        .args(["--num-threads", "2"])
        .args(files)
        .stdout(Stdio::null())
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .status()
        .map_err(|error| format!("{}: {error}; cargo install b3sum", program.display()))?;
    let took = begun.elapsed();
    if status.success() { Ok(took) } else { Err(format!("b3sum: {status}").into()) }
}
