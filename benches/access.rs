//! Benchmark: what do TLS and a token cost?
//!
//! Small uploads, small downloads and copies over gRPC, against three server processes on three data folders: one
//! without TLS where nobody needs a right, one where a token is required, and one that also has TLS. The rounds of the
//! three alternate, and the ratio is to the first. The client is this program, on the same CPU cores. The requests go
//! over connections that are open already.
//!
//! In the same run: the check of a right for a credential that is known, without a socket. That is the look-up of the
//! token and the authorization of an rpc at one path.

mod support;

use std::{
    fs,
    hint::black_box,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use futures::future::try_join_all;
use imagestore::{
    access::{Caller, Grants, Pattern, RequestContext, Rights, Role, Rpc},
    budget::Peer,
    model::StorePath,
    store::{Call, NewToken},
    wire::v1::CopyRequest,
};
use tokio::sync::watch;

use support::{
    Common, Result, arguments, block_on,
    grpc::{Access, Grpc},
    median, noise, ratio,
    server::Server,
    store::Opened,
    table::{Table, count, time, times},
    timed,
};

/// The size of a small file, in bytes.
const FILE_BYTES: usize = 4096;
/// The grants of the largest grants file.
const GRANTS: usize = 1000;

/// Measures calls with and without TLS and a token, and the check of a right.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Files that are uploaded and downloaded in each round
    #[arg(long)]
    files: Option<usize>,
    /// Copies in each round, one after the other
    #[arg(long)]
    copies: Option<usize>,
    /// Connections of the uploads and downloads
    #[arg(long)]
    connections: Option<usize>,
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
    let load = Load {
        files: common.size(arguments.files, 10_000, 100),
        copies: common.size(arguments.copies, 1_000, 20),
        connections: common.size(arguments.connections, 32, 4),
    };
    calls(scratch.path(), &load, common.size(arguments.runs, 5, 1)).await?;
    rights(scratch.path(), common.size(None, 1_000_000, 1_000)).await
}

/// The calls of a round.
struct Load {
    files: usize,
    copies: usize,
    connections: usize,
}

/// A server, its connections, and the times of its rounds.
struct Way {
    name: &'static str,
    server: Server,
    grpc: Vec<Grpc>,
    /// The times of uploads, downloads and copies, and the CPU time of the server for them.
    rounds: [Vec<(Duration, Duration)>; 3],
}

impl Way {
    async fn start(name: &'static str, dir: &Path, connections: usize) -> Result<Self> {
        let data = dir.join(name.replace(' ', "-"));
        let mut access = Access::default();
        let mut flags = Vec::new();
        if name != "plain" {
            flags.extend(["--access".to_owned(), "required".to_owned()]);
            access.token = Some(token(&data)?);
        }
        if name.contains("TLS") {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
            let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
            fs::write(&cert, made.cert.pem())?;
            fs::write(&key, made.signing_key.serialize_pem())?;
            for (flag, file) in [("--tls-cert", &cert), ("--tls-key", &key)] {
                flags.extend([flag.to_owned(), file.display().to_string()]);
            }
            access.authority = Some(made.cert.pem());
        }
        let server = Server::start_with(&data, &flags)?;
        let connect = (0..connections).map(|_| Grpc::connect_as(server.address(), &access));
        let grpc = try_join_all(connect).await?;
        Ok(Self { name, server, grpc, rounds: Default::default() })
    }

    async fn round(&mut self, number: usize, load: &Load) -> Result<()> {
        let bytes = noise(&format!("{}{number}", self.name), load.files * FILE_BYTES);
        let mut before = self.server.cpu()?;
        for what in [What::Upload, What::Download, What::Copy] {
            let took = timed(self.calls(what, number, (load, &bytes))).await?;
            let after = self.server.cpu()?;
            if let Some(rounds) = self.rounds.get_mut(what as usize) {
                rounds.push((took, after.saturating_sub(before)));
            }
            before = after;
        }
        Ok(())
    }

    async fn calls(
        &mut self,
        what: What,
        round: usize,
        (load, bytes): (&Load, &Bytes),
    ) -> Result<()> {
        let connections = self.grpc.len();
        if matches!(what, What::Copy) {
            let Some(grpc) = self.grpc.first_mut() else { return Ok(()) };
            for number in 0..load.copies {
                let request = CopyRequest {
                    source: format!("r{round}/0"),
                    destination: format!("copies/{round}-{number}"),
                    ..CopyRequest::default()
                };
                grpc.copy(request).await?;
            }
            return Ok(());
        }
        let work = self.grpc.iter_mut().enumerate().map(|(connection, grpc)| async move {
            for number in (connection..load.files).step_by(connections) {
                let path = format!("r{round}/{connection}/f{number}");
                if matches!(what, What::Upload) {
                    let file = bytes.slice(number * FILE_BYTES..(number + 1) * FILE_BYTES);
                    grpc.upload(&path, file).await?;
                } else if grpc.download(&path).await? != FILE_BYTES as u64 {
                    return Err(format!("{path} is not whole").into());
                }
            }
            Result::Ok(())
        });
        try_join_all(work).await?;
        Ok(())
    }
}

/// What the calls of a round do; the number is that in [`Way::rounds`].
#[derive(Clone, Copy, Debug)]
enum What {
    Upload,
    Download,
    Copy,
}

/// Creates a token that may do everything, in a new store, by the command.
fn token(data: &Path) -> Result<String> {
    let made = Command::new(env!("CARGO_BIN_EXE_imagestore"))
        .args(["token", "create", "bench", "--role", "admin", "--path", "/", "--data"])
        .arg(data)
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

fn everything(name: &str) -> Result<NewToken> {
    let rights = Rights::new(vec![(Role::Admin, Pattern::parse("/")?)]);
    Ok(NewToken { name: name.to_owned(), rights, life: None })
}

async fn calls(dir: &Path, load: &Load, runs: usize) -> Result<()> {
    let mut ways = Vec::new();
    for name in ["plain", "token", "TLS and token"] {
        ways.push(Way::start(name, dir, load.connections).await?);
    }
    for run in 0..runs {
        for way in &mut ways {
            way.round(run, load).await?;
        }
    }
    let heads = [
        (load.files, format!("{} uploads of 4 KiB", count(load.files as u64))),
        (load.files, format!("{} downloads of 4 KiB", count(load.files as u64))),
        (load.copies, format!("{} copies of a folder", count(load.copies as u64))),
    ];
    for (number, (calls, head)) in heads.into_iter().enumerate() {
        let mut table =
            Table::new(&[&head, "time", "calls/s", "to plain", "server's CPU per call"]);
        let mut first = None;
        for way in &ways {
            let rounds = way.rounds.get(number).map(Vec::as_slice).unwrap_or_default();
            let took = median(&rounds.iter().map(|(took, _)| *took).collect::<Vec<_>>());
            let cpu = median(&rounds.iter().map(|(_, cpu)| *cpu).collect::<Vec<_>>());
            let plain = *first.get_or_insert(took);
            table.row([
                way.name.to_owned(),
                time(took),
                format!("{:.0}", calls as f64 / took.as_secs_f64()),
                times(ratio(took, plain)),
                time(cpu / u32::try_from(calls)?),
            ]);
        }
        table.print()?;
    }
    Ok(())
}

/// The check of a right for known credentials, in this process.
async fn rights(dir: &Path, calls: u32) -> Result<()> {
    let opened = Opened::open(&dir.join("rights")).await?;
    let (_, secret) = opened.store.create_token(everything("known")?, &Call::system()).await?;
    opened.store.token_caller(secret.expose()).await?;
    let path = StorePath::parse("Team/CalcAppV1/CalcService/Code/CalcService.exe", "path")?;
    let known = || opened.store.known_token(secret.expose());
    let mut table = Table::new(&["the check of a right", "time"]);
    let begun = Instant::now();
    for _ in 0..calls {
        let caller = black_box(known()).ok_or("the token is not known")?;
        authorize(caller, &path)?;
    }
    table.row(["a token".to_owned(), time(begun.elapsed() / calls)]);
    for grants in [1, GRANTS] {
        // The last grant is the one that counts.
        let file: String = (1..=grants).map(|number| grant(number, grants)).collect();
        let (_sender, receiver) = watch::channel(Grants::parse(file.as_bytes())?.into());
        let caller = Caller::certificate(vec!["cert:cn=build".to_owned()], receiver, None);
        let begun = Instant::now();
        for _ in 0..calls {
            authorize(black_box(&caller).clone(), &path)?;
        }
        let name = format!("a certificate, {} in the file", count(grants as u64));
        table.row([name, time(begun.elapsed() / calls)]);
    }
    opened.close().await;
    Ok(table.print()?)
}

fn grant(number: usize, grants: usize) -> String {
    let path = if number == grants { "Team".to_owned() } else { format!("Team{number}") };
    format!("[[grant]]\nwho = [\"cert:cn=build\"]\nrole = \"writer\"\npaths = [\"{path}\"]\n")
}

fn authorize(caller: Caller, path: &StorePath) -> Result<()> {
    let context = RequestContext::new(caller, Peer::default(), None);
    black_box(context.authorize(Rpc::Upload, &[black_box(path)])?);
    Ok(())
}
