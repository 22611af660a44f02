//! Tests of commands against a scripted server: their output and their result.

mod named;
mod silent;
mod token;

use std::fs;

use clap::Parser;
use serde_json::Value;

use crate::{
    cli::{
        Command, Failure, Global, execute,
        output::{Style, tests::output},
    },
    client::tests::script::{Fault, Script, listen, lock},
    error::{Error, Kind},
    wire::{
        status::from_error,
        v1::{Operation, OperationState},
    },
};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Runs a command line. Returns standard output and standard error, or the failure and standard output.
async fn run(
    server: &str,
    style: Style,
    line: &[&str],
) -> Result<(String, String), (Failure, String)> {
    let arguments = Arguments::try_parse_from(["imagestore"].iter().chain(line)).expect("a line");
    let (mut output, out, err) = output(style);
    let global = Global { server: server.to_owned(), ..arguments.global };
    let ended = execute(&global, arguments.command, &mut output).await;
    ended.map(|()| (out.text(), err.text())).map_err(|failure| (failure, out.text()))
}

fn state(state: OperationState, files_done: u64) -> Operation {
    Operation {
        id: "7".to_owned(),
        state: state.into(),
        source: "a".to_owned(),
        destination: "b".to_owned(),
        files_done,
        files_total: 3,
        ..Operation::default()
    }
}

fn script_a_copy(script: &Script) {
    lock(&script.streams).push_back(vec![
        Ok(state(OperationState::Running, 0)),
        Ok(state(OperationState::Running, 2)),
        Ok(state(OperationState::Succeeded, 3)),
    ]);
}

#[tokio::test]
async fn a_short_copy_tells_its_result_alone() {
    let (script, server) = listen().await;
    script_a_copy(&script);
    let line = ["cp", "a", "b", "--skip", "x", "--skip", "y", "--check-mark", "--keep", "--verify"];
    let (out, err) = run(&server, Style::Lines, &line).await.expect("a copy");
    assert_eq!(out, "copied a to b: 3 files, 0 B\n");
    assert_eq!(err, "", "a short copy has no progress");
    let asked = lock(&script.copies).remove(0);
    assert_eq!((asked.source.as_str(), asked.destination.as_str()), ("a", "b"));
    assert_eq!(asked.skip_files, ["x", "y"]);
    assert!(asked.check_mark_file && asked.verify && !asked.detached);
    assert_eq!(asked.if_exists().as_str_name(), "IF_EXISTS_KEEP");
    assert!(uuid::Uuid::parse_str(&asked.operation_id).is_ok());
}

#[tokio::test]
async fn a_copy_in_json_is_one_object_per_state() {
    let (script, server) = listen().await;
    script_a_copy(&script);
    let (out, err) = run(&server, Style::Json, &["copy", "a", "b"]).await.expect("a copy");
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let done: Vec<_> = lines.iter().map(|line| line["files_done"].as_u64()).collect();
    assert_eq!(done, [Some(0), Some(2), Some(3)]);
    assert_eq!(lines[2]["state"], "OPERATION_STATE_SUCCEEDED");
    assert_eq!(err, "");
}

#[tokio::test]
async fn a_detached_copy_is_left_when_it_has_begun() {
    let (script, server) = listen().await;
    script_a_copy(&script);
    let (out, _) = run(&server, Style::Lines, &["cp", "a", "b", "--detach"]).await.expect("a copy");
    assert!(out.ends_with("imagestore watch 7\n"), "{out}");
    assert!(lock(&script.copies)[0].detached);
}

#[tokio::test]
async fn a_refused_copy_fails_with_the_words_of_the_server() {
    let (script, server) = listen().await;
    let gone = from_error(&Error::new(Kind::FileNotFound, "a does not exist"));
    lock(&script.streams).push_back(vec![Err(gone)]);
    let (failure, out) = run(&server, Style::Lines, &["cp", "a", "b"]).await.expect_err("refused");
    assert_eq!((failure.to_string().as_str(), out.as_str()), ("a does not exist", ""));
}

#[tokio::test]
async fn a_watch_ends_as_its_operation() {
    let (script, server) = listen().await;
    for (last, fails) in [(OperationState::Succeeded, false), (OperationState::Cancelled, true)] {
        lock(&script.streams)
            .push_back(vec![Ok(state(OperationState::Running, 0)), Ok(state(last, 3))]);
        let ended = run(&server, Style::Lines, &["watch", "7"]).await;
        assert_eq!(ended.is_err(), fails);
        if let Err((failure, out)) = ended {
            assert_eq!(failure.to_string(), "operation 7 cancelled");
            assert_eq!(out.lines().count(), 1);
        }
    }
}

#[tokio::test]
async fn a_folder_goes_there_is_listed_and_comes_back() {
    let (_script, server) = listen().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    fs::create_dir_all(there.join("Code")).expect("folders");
    fs::write(there.join("Code/run"), "12345").expect("a file");
    let [there, back] = [&there, &back].map(|path| path.to_str().expect("UTF-8"));

    let put = run(&server, Style::Lines, &["put", there, "/app", "--mark"]).await.expect("put");
    assert_eq!(put.0, "uploaded app: 3 files, 5 B\n");
    let listed = run(&server, Style::Lines, &["ls", "app"]).await.expect("a list");
    assert_eq!(listed.0, "Code/\n_.dir\n");
    let got = run(&server, Style::Json, &["get", "app", back]).await.expect("get");
    assert_eq!(got.0.lines().count(), 3);
    assert_eq!(fs::read_to_string(folder.path().join("back/Code/run")).expect("a file"), "12345");
    run(&server, Style::Lines, &["get", "app", back]).await.expect("it is there already");
    fs::write(folder.path().join("back/Code/run"), "54321").expect("a file");
    let again = run(&server, Style::Lines, &["get", "app", back]).await.expect_err("another one");
    assert!(again.0.to_string().contains("--force overwrites it"), "{}", again.0);
    run(&server, Style::Lines, &["get", "app", back, "--force"]).await.expect("forced");
}

#[tokio::test]
async fn a_check_fails_where_something_is_found() {
    let (script, server) = listen().await;
    let (out, err) = run(&server, Style::Lines, &["check"]).await.expect("clean");
    assert_eq!((out.as_str(), err.as_str()), ("clean: 1,234 rows, 1 objects, 0 B read\n", ""));
    lock(&script.files).insert("damaged".to_owned(), "x".into());
    let (failure, out) = run(&server, Style::Lines, &["check"]).await.expect_err("damaged");
    assert!(out.starts_with("entry_target: \"damaged\": its content is missing\n"), "{out}");
    assert_eq!(failure.to_string(), "the store is damaged: 1 findings, 0 repaired");
    let (_, out) = run(&server, Style::Json, &["check", "--repair"]).await.expect_err("damaged");
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["repaired"], true);
    assert_eq!((&lines[1]["findings_repaired"], &lines[1]["done"]), (&1.into(), &true.into()));
}

#[tokio::test]
async fn a_file_goes_into_a_folder_under_its_name() {
    let (script, server) = listen().await;
    let folder = tempfile::tempdir().expect("a folder");
    let local = folder.path().join("run");
    fs::write(&local, "12345").expect("a file");
    let local = local.to_str().expect("UTF-8");
    for (path, stored) in
        [("app/Code/", "app/Code/run"), (r"app\", "app/run"), ("/", "run"), ("app/x", "app/x")]
    {
        let (out, _) = run(&server, Style::Lines, &["put", local, path]).await.expect("put");
        assert_eq!(out, format!("uploaded {stored}: 1 file, 5 B\n"));
        assert!(lock(&script.files).contains_key(stored), "{stored}");
    }
    let new = folder.path().join("new/");
    let got = ["get", "app/Code/run", new.to_str().expect("UTF-8")];
    run(&server, Style::Lines, &got).await.expect("get");
    assert_eq!(fs::read_to_string(new.join("run")).expect("a file"), "12345");
}

#[test]
fn no_backup_is_written_to_a_dash() {
    let refused = Arguments::try_parse_from(["imagestore", "backup", "-"]);
    let why = refused.expect_err("refused").to_string();
    assert!(why.contains("write ./- for"), "{why}");
}

#[tokio::test]
async fn a_file_has_no_mark() {
    let (_script, server) = listen().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let local = file.path().to_str().expect("UTF-8");
    let (failure, _) =
        run(&server, Style::Lines, &["put", local, "a", "--mark"]).await.expect_err("a file");
    assert!(failure.to_string().starts_with("--mark is for folders"), "{failure}");
}

#[tokio::test]
async fn a_lost_connection_is_told_once() {
    let (script, server) = listen().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let local = file.path().to_str().expect("UTF-8");
    for (style, expected) in [(Style::Lines, 1), (Style::Json, 0)] {
        lock(&script.faults).extend([Fault::Break(0), Fault::Break(0)]);
        let (_, err) = run(&server, style, &["put", local, "a"]).await.expect("put");
        assert_eq!(err.matches("cannot reach").count(), expected, "{err}");
        assert_eq!(err.matches("; trying again\n").count(), expected, "{err}");
    }
}
