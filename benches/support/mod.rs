//! Shared parts of the benchmarks: options, a scratch folder, statistics, and the description of the machine.
//!
//! The benchmarks are plain programs. Each answers one question in a table on the standard output, next to a
//! physical limit or a known tool that is measured in the same run: the ratio counts, since seconds say more
//! about the machine than about the program.
//!
//! **Invariant:** nothing large is deleted between timed runs. On some file systems a large delete makes the
//! creation of files slow for minutes; so all data is deleted at the end, or stays with `--keep`.

#![allow(dead_code, reason = "every bench is a program of its own and uses some of it")]

pub(crate) mod cpu;
pub(crate) mod delay;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod rows;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod table;

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;

/// A result of a benchmark; any error ends the program.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The options of every benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Small sizes: shows that the benchmark works, not how fast the store is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Leaves the data on the disk
    #[arg(long)]
    keep: bool,
}

/// Parses the command line of a benchmark.
pub(crate) fn arguments<T: clap::Parser>() -> T {
    // Cargo passes `--bench` to every benchmark.
    T::parse_from(std::env::args().filter(|argument| argument != "--bench"))
}

impl Common {
    /// Creates the folder for all data of a run, below Cargo's target folder, and prints the description of
    /// the machine.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        let tmp = env!("CARGO_TARGET_TMPDIR");
        fs::create_dir_all(tmp)?;
        let mut dir = tempfile::Builder::new().prefix("bench-").tempdir_in(tmp)?;
        dir.disable_cleanup(self.keep);
        say(&machine(dir.path())?)?;
        Ok(dir)
    }

    /// `said` from the command line, or else `quick` with `--quick` and `full` without it.
    pub(crate) fn size<T>(&self, said: Option<T>, full: T, quick: T) -> T {
        said.unwrap_or(if self.quick { quick } else { full })
    }
}

/// Runs a benchmark on a multi-threaded runtime, as the server does.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Writes a line to the standard output.
pub(crate) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Measures the elapsed time of a future, by the monotonic clock.
pub(crate) async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let begun = Instant::now();
    work.await?;
    Ok(begun.elapsed())
}

/// The median; zero for an empty slice.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The percentile `percent`, from 0 to 100; zero for an empty slice.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
}

/// `whole` divided by `part`.
pub(crate) fn ratio(whole: Duration, part: Duration) -> f64 {
    whole.as_secs_f64() / part.as_secs_f64().max(1e-9)
}

/// Incompressible bytes that depend on the seed alone and differ between seeds.
pub(crate) fn noise(seed: &str, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    Bytes::from(bytes)
}

/// The median time of a durable write of a page, the lower bound for a durable transaction.
pub(crate) fn durable_writes(file: &Path, count: usize) -> Result<Duration> {
    let mut file = fs::File::create(file)?;
    let page = [7; 4096];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(median(&times))
}

/// The machine and the file system, in one line.
fn machine(dir: &Path) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let dir = dir.canonicalize()?;
    let disk = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(at, _)| dir.starts_with(at))
        .max_by_key(|(at, _)| at.len());
    let cpu = model.trim_start_matches(['\t', ':', ' ']);
    let (gib, kernel) = (kib.unwrap_or_default() >> 20, kernel.trim());
    let disk = disk.map_or("unknown", |(_, kind)| kind);
    Ok(format!("{cores} cores ({cpu}), {gib} GiB, Linux {kernel}, {disk}\n"))
}
