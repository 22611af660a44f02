//! Benchmark: how fast are uploads and downloads, and how much memory does the server need for them?
//!
//! Small files over many connections, and one large file in each direction, over gRPC and over REST, against
//! a server process. For the large file, the server's peak of resident memory is read. Every upload has
//! unique bytes, so no part is stored already. The client is this program, on the same CPU cores.
//!
//! For comparison, in the same run: as many small files written and synced by as many threads; a plain write
//! and sync of a file of the same size; BLAKE3 of as many bytes in memory; as many bytes over a plain TCP
//! connection.

mod support;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use support::{
    Common, Result, arguments, block_on,
    grpc::Grpc,
    http::Http,
    median, noise, ratio,
    server::Server,
    table::{Table, count, mib, speed, time, times},
    timed,
};

/// The block size of the plain file write and of the plain socket's reads, in bytes.
const BLOCK: usize = 1 << 20;

/// Measures uploads and downloads.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Small files
    #[arg(long)]
    files: Option<usize>,
    /// Sizes of the small files, in bytes
    #[arg(long, value_delimiter = ',')]
    sizes: Option<Vec<usize>>,
    /// Connections that upload the small files
    #[arg(long)]
    connections: Option<usize>,
    /// The size of the large file, in MiB
    #[arg(long)]
    large: Option<usize>,
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
    let server = Server::start(&scratch.path().join("data"))?;
    let runs = common.size(arguments.runs, 3, 1);
    let files = common.size(arguments.files, 10_000, 200);
    let connections = common.size(arguments.connections, 32, 8);
    for size in common.size(arguments.sizes.clone(), vec![4096], vec![4096, 65_536]) {
        let load = Load { files, size, connections };
        small(&server, scratch.path(), &load, runs).await?;
    }
    let size = common.size(arguments.large, 1024, 32) << 20;
    if size > 0 {
        large(&server, scratch.path(), size, runs).await?;
    }
    Ok(())
}

/// Small files to upload.
struct Load {
    files: usize,
    size: usize,
    connections: usize,
}

impl Load {
    /// The share of one connection: paths below `folder`, and the bytes of each file as a slice of `bytes`.
    fn share(&self, folder: &str, bytes: &Bytes, connection: usize) -> Vec<(String, Bytes)> {
        let numbers = (connection..self.files).step_by(self.connections);
        let slice = |number: usize| bytes.slice(number * self.size..(number + 1) * self.size);
        numbers.map(|number| (format!("{folder}/{connection}/f{number}"), slice(number))).collect()
    }
}

async fn small(server: &Server, dir: &Path, load: &Load, runs: usize) -> Result<()> {
    let names = ["peer: written and synced by threads", "upload, gRPC", "upload, REST"];
    let mut ways = names.map(Way::new);
    for run in 0..runs {
        for way in &mut ways {
            let folder = format!("{}{run}-{}", way.name.replace(' ', ""), load.size);
            let bytes = noise(&folder, load.files * load.size);
            let shares = (0..load.connections).map(|c| load.share(&folder, &bytes, c)).collect();
            let before = server.cpu()?;
            way.times.push(match way.name {
                "upload, gRPC" => upload_grpc(server.address(), shares).await?,
                "upload, REST" => upload_rest(server.address(), shares).await?,
                _ => write_files(dir, shares)?,
            });
            way.cpu.push(server.cpu()?.saturating_sub(before));
        }
    }
    let head = format!(
        "{} files of {} bytes over {} connections",
        count(load.files as u64),
        count(load.size as u64),
        load.connections
    );
    let mut table = Table::new(&[&head, "time", "files/s", "to the peer", "server's CPU"]);
    let peer = ways.first().map(|way| median(&way.times)).unwrap_or_default();
    for way in &ways {
        let took = median(&way.times);
        let rate = load.files as f64 / took.as_secs_f64();
        let rate = format!("{rate:.0}");
        let cpu = time(median(&way.cpu));
        table.row([way.name.to_owned(), time(took), rate, times(ratio(took, peer)), cpu]);
    }
    Ok(table.print()?)
}

type Shares = Vec<Vec<(String, Bytes)>>;

fn write_files(dir: &Path, shares: Shares) -> Result<Duration> {
    for (path, _) in shares.iter().filter_map(|share| share.first()) {
        fs::create_dir_all(dir.join(path).parent().ok_or("no folder")?)?;
    }
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let write = |share: Vec<(String, Bytes)>| -> Result<()> {
            for (path, bytes) in share {
                let mut file = fs::File::create_new(dir.join(path))?;
                file.write_all(&bytes)?;
                file.sync_all()?;
            }
            Ok(())
        };
        let threads: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || write(share))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    Ok(begun.elapsed())
}

async fn upload_grpc(server: SocketAddr, shares: Shares) -> Result<Duration> {
    let mut work = Vec::with_capacity(shares.len());
    for share in shares {
        let mut grpc = Grpc::connect(server).await?;
        work.push(async move {
            for (path, bytes) in share {
                grpc.upload(&path, bytes).await?;
            }
            Ok(())
        });
    }
    timed(at_once(work)).await
}

async fn upload_rest(server: SocketAddr, shares: Shares) -> Result<Duration> {
    let mut work = Vec::with_capacity(shares.len());
    for share in shares {
        let mut http = Http::connect(server).await?;
        work.push(async move {
            for (path, bytes) in share {
                http.upload(&path, &bytes).await?;
            }
            Ok(())
        });
    }
    timed(at_once(work)).await
}

/// Runs each future in a task of its own, and waits for all.
async fn at_once(work: Vec<impl Future<Output = Result<()>> + Send + 'static>) -> Result<()> {
    for done in try_join_all(work.into_iter().map(tokio::spawn)).await? {
        done?;
    }
    Ok(())
}

/// A way to transfer bytes, with its measurements: times, the server's CPU times, and its peak of memory in
/// bytes.
struct Way {
    name: &'static str,
    times: Vec<Duration>,
    cpu: Vec<Duration>,
    peak: u64,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new(), cpu: Vec::new(), peak: 0 }
    }
}

async fn large(server: &Server, dir: &Path, size: usize, runs: usize) -> Result<()> {
    let names = [
        "upload, gRPC",
        "upload, REST",
        "download, gRPC",
        "download, REST",
        "peer: written and synced",
        "peer: BLAKE3 in memory",
        "peer: plain socket",
    ];
    let mut ways = names.map(Way::new);
    let mut grpc = Grpc::connect(server.address()).await?;
    let mut http = Http::connect(server.address()).await?;
    for run in 0..runs {
        let (one, two) = (format!("large/grpc{run}"), format!("large/rest{run}"));
        let (first, second) = (noise(&one, size), noise(&two, size));
        for way in &mut ways {
            server.forget_peak()?;
            let before = server.cpu()?;
            let begun = Instant::now();
            match way.name {
                "upload, gRPC" => grpc.upload(&one, first.clone()).await?,
                "upload, REST" => http.upload(&two, &second).await?,
                "download, gRPC" => whole(grpc.download(&one).await?, size)?,
                "download, REST" => whole(http.download(&two).await?, size)?,
                "peer: written and synced" => write_file(&dir.join(format!("plain{run}")), &first)?,
                "peer: BLAKE3 in memory" => drop(std::hint::black_box(blake3::hash(&first))),
                _ => socket(first.clone()).await?,
            }
            way.times.push(begun.elapsed());
            way.cpu.push(server.cpu()?.saturating_sub(before));
            way.peak = way.peak.max(server.peak_bytes()?);
        }
    }
    let size = size as u64;
    let head = format!("a file of {}", mib(size));
    let columns = [&head, "time", "speed", "to its slowest peer", "server's CPU", "its memory"];
    let mut table = Table::new(&columns);
    let took = |at: usize| ways.get(at).map(|way| median(&way.times)).unwrap_or_default();
    let (disk, hash, socket) = (took(4), took(5), took(6));
    for (at, way) in ways.iter().enumerate() {
        let took = median(&way.times);
        let mut cells = vec![way.name.to_owned(), time(took), speed(size, took)];
        if at < 4 {
            let slowest = if at < 2 { disk.max(hash).max(socket) } else { hash.max(socket) };
            cells.extend([times(ratio(took, slowest)), time(median(&way.cpu)), mib(way.peak)]);
        }
        table.row(cells);
    }
    Ok(table.print()?)
}

fn whole(length: u64, size: usize) -> Result<()> {
    if length == size as u64 { Ok(()) } else { Err("a download ended early".into()) }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create_new(path)?;
    for block in bytes.chunks(BLOCK) {
        file.write_all(block)?;
    }
    Ok(file.sync_all()?)
}

/// Sends bytes over a loopback TCP connection and reads them in this process.
async fn socket(bytes: Bytes) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut sender = TcpStream::connect(listener.local_addr()?).await?;
    let (mut receiver, _) = listener.accept().await?;
    let sent = tokio::spawn(async move { sender.write_all(&bytes).await });
    let mut buffer = vec![0; BLOCK];
    while receiver.read(&mut buffer).await? > 0 {}
    Ok(sent.await??)
}
