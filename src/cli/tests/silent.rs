//! Tests of commands against servers that accept a connection and never respond. The clock is paused, so that waits
//! end at once.

use std::{convert::Infallible, fs, future::pending, net::TcpListener, path::Path, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::time::Instant;

use super::{Arguments, run};
use crate::{
    cli::{Failure, output::Style},
    limits,
    wire::v1::{
        BackupFooter, BackupHeader, BackupRecord, RestoreRequest, backup_record::Record,
        restore_request::Payload,
    },
};

const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";

/// A server that listens, but neither accepts connections nor reads from them.
fn deaf() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    (listener, address)
}

/// A server that speaks HTTP/2 and never responds to a request.
async fn mute() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let silence = service_fn(|_: Request<Incoming>| {
                pending::<Result<Response<String>, Infallible>>()
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), silence));
        }
    });
    address
}

/// The smallest backup.
fn write_backup(path: &Path) {
    let header = BackupHeader { format: limits::BACKUP_FORMAT, ..BackupHeader::default() };
    let header = BackupRecord { record: Some(Record::Header(header)) };
    let digest = blake3::hash(&header.encode_length_delimited_to_vec()).as_bytes().to_vec().into();
    let footer = Record::Footer(BackupFooter { digest, ..BackupFooter::default() });
    let records = [header, BackupRecord { record: Some(footer) }];
    let messages = records.map(|record| {
        RestoreRequest { payload: Some(Payload::Record(record)) }.encode_length_delimited_to_vec()
    });
    fs::write(path, messages.concat()).expect("a file");
}

/// A command line for each command, and the text of what it waits for.
fn commands(folder: &Path) -> Vec<(Vec<String>, &'static str)> {
    fs::create_dir(folder.join("app")).expect("a folder");
    fs::write(folder.join("app/run"), "12345").expect("a file");
    write_backup(&folder.join("backup"));
    let here = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let with = |command: &str, rest: &[String]| [line(command), rest.to_vec()].concat();
    let to = |name: &str, to: &str| [here(name), to.to_owned()];
    vec![
        (line("ls a"), r#"list "a""#),
        (line("ls -l"), r#"list """#),
        (line("stat a"), r#"describe "a""#),
        (line("info"), "tell the space that it uses"),
        (line("operations"), "list its operations"),
        (line("rm a b"), r#"delete "a""#),
        (with("cancel", &[ID.to_owned()]), "cancel operation 0190a9f0"),
        (with("put", &to("app/run", "a")), r#"store "a""#),
        (with("put", &to("app", "a")), r#"store "a/run""#),
        (with("put --mark", &to("app", "a/")), r#"store "a/app/run""#),
        (with("put", &[here("app"), here("backup"), "a".to_owned()]), r#"describe "a""#),
        (with("get a", &[here("out")]), r#"describe "a""#),
        (line("get a -"), r#"describe "a""#),
        (line("cp a b"), r#"copy "a" to "b""#),
        (line("cp a b --detach"), r#"copy "a" to "b""#),
        (line("cp a b c"), r#"describe "c""#),
        (with("watch", &[ID.to_owned()]), "tell the end of operation 0190a9f0"),
        (line("watch"), "tell of another operation"),
        (line("check --deep"), "begin a check"),
        (with("backup", &[here("new/")]), "go on with the backup"),
        (with("backup", &[here("new.file")]), "go on with the backup"),
        (with("restore", &[here("backup")]), "restore the backup"),
        (line("token create ci --role reader --path a"), r#"create the token "ci""#),
        (line("token list"), "list its tokens"),
        (line("token rotate ci"), r#"replace the secret of the token "ci""#),
        (line("token revoke ci"), r#"revoke the token "ci""#),
        (line("whoami"), "tell who the caller is"),
    ]
}

async fn fails(server: &str, line: &[String], more: &[&str]) -> (Failure, Duration) {
    let begun = Instant::now();
    let line: Vec<_> = line.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let (failure, out) = run(server, Style::Lines, &line).await.expect_err("silence");
    assert_eq!(out, "", "{line:?}");
    (failure, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn every_command_ends_and_says_what_it_waited_for() {
    let (_listener, deaf) = deaf();
    let mute = mute().await;
    for server in [&deaf, &mute] {
        let folder = tempfile::tempdir().expect("a folder");
        for (line, what) in commands(folder.path()) {
            let (failure, time) = fails(server, &line, &["--timeout", "3"]).await;
            let said = failure.to_string();
            assert!(said.starts_with(&format!("http://{server} did not {what}")), "{said}");
            assert!(said.contains(" within 3s"), "{line:?}: {said}");
            assert!(time <= Duration::from_secs(4), "{line:?}: {time:?}");

            let (failure, time) = fails(server, &line, &[]).await;
            let said = failure.to_string();
            assert!(said.starts_with(&format!("http://{server} did not {what}")), "{said}");
            assert!(said.contains(" within 60s") || said.contains(" within 40s: "), "{said}");
            assert!(time < Duration::from_secs(62), "{line:?}: {time:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_to_do_about_a_wait_is_said() {
    let (_listener, server) = deaf();
    let (failure, _) = fails(&server, &["ls".to_owned()], &[]).await;
    assert!(failure.to_string().ends_with("; --timeout TIME says how long it may take"));
    let copy = ["cp", "a", "b", "--timeout", "250ms", "--operation-id", ID].map(str::to_owned);
    let (failure, _) = fails(&server, &copy, &[]).await;
    let said = failure.to_string();
    assert!(said.contains(" within 250ms"), "{said}");
    assert!(said.ends_with(&format!("repeat it with --operation-id {ID}")), "{said}");
}

#[test]
fn a_time_is_one() {
    use clap::Parser as _;
    for (time, is_one) in [("1", true), ("0.5", true), ("2m", true), ("0", false), ("soon", false)]
    {
        for line in
            [["imagestore", "--timeout", time, "info"], ["imagestore", "info", "--timeout", time]]
        {
            assert_eq!(Arguments::try_parse_from(line).is_ok(), is_one, "{line:?}");
        }
    }
}
