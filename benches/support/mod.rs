//! What the benches share: options, a place on the disk, medians, and the machine's description.
//!
//! The benches are plain programs. Each answers one question in a table on the standard output, next
//! to a physical peer that is measured in the same run: what counts is the ratio, since seconds say
//! more about the machine than about the program.
//!
//! **Invariant:** nothing large is deleted between timed runs. On some file systems a large delete
//! makes creating files slow for minutes; so all data goes at the end, or stays with `--keep`.

#![allow(dead_code, reason = "every bench is a program of its own and uses some of it")]

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

/// Why a bench ends early.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The options of every bench.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Small sizes: shows that the bench works, not how fast the store is
    #[arg(long)]
    pub(crate) quick: bool,
    /// Leaves the data on the disk
    #[arg(long)]
    keep: bool,
}

/// Reads the arguments of a bench.
pub(crate) fn arguments<T: clap::Parser>() -> T {
    // Cargo passes this to every bench.
    T::parse_from(std::env::args().filter(|argument| argument != "--bench"))
}

impl Common {
    /// Makes the folder that holds all data of a run, below the target folder.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        let tmp = env!("CARGO_TARGET_TMPDIR");
        fs::create_dir_all(tmp)?;
        let mut dir = tempfile::Builder::new().prefix("bench-").tempdir_in(tmp)?;
        dir.disable_cleanup(self.keep);
        say(&machine(dir.path())?)?;
        Ok(dir)
    }

    /// One of two sizes, unless the command line says another.
    pub(crate) fn size<T>(&self, said: Option<T>, full: T, quick: T) -> T {
        said.unwrap_or(if self.quick { quick } else { full })
    }
}

/// Runs a bench on a runtime such as the server's.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Writes a line to the standard output.
pub(crate) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Measures the steady time of some work.
pub(crate) async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let begun = Instant::now();
    work.await?;
    Ok(begun.elapsed())
}

/// The middle of some times; none for none.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The time that so many percent of some times do not pass; none for none.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
}

/// How often `part` is in `whole`.
pub(crate) fn ratio(whole: Duration, part: Duration) -> f64 {
    whole.as_secs_f64() / part.as_secs_f64().max(1e-9)
}

/// Bytes that no other seed has and that do not compress.
pub(crate) fn noise(seed: &str, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    Bytes::from(bytes)
}

/// One durable write of a page: what no durable transaction can be faster than.
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
