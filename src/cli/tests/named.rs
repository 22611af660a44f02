//! Tests of named stores on the command line.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use serde_json::{Value, json};

use super::Arguments;
use crate::{
    cli::{
        Command, Failure, execute,
        output::{Style, tests::output},
        settle,
    },
    client::tests::script::{listen, lock},
    secret::Secret,
};

/// Parses a command line as the program does.
fn settled(line: &[&str]) -> Result<Arguments, (ErrorKind, String)> {
    let words = ["imagestore"].iter().chain(line);
    let matches = Arguments::command().try_get_matches_from(words).expect("a line");
    let mut arguments = Arguments::from_arg_matches(&matches).expect("arguments");
    settle(&mut arguments.global, &mut arguments.command, &matches)?;
    Ok(arguments)
}

/// Makes a file that only its owner may read. Returns its path.
fn secret_file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs a command line with a configuration file. Returns standard output, or the failure.
async fn run(config: &Path, style: Style, line: &[&str]) -> Result<String, Failure> {
    let config = config.to_str().expect("UTF-8");
    let line = [line, &["--config", config]].concat();
    let Arguments { global, command } = settled(&line).expect("a line");
    let (mut output, out, _) = output(style);
    execute(&global, command, &mut output).await.map(|()| out.text())
}

#[test]
fn the_name_of_a_store_is_taken_off_its_paths() {
    let paths = |line: &[&str]| -> (Option<String>, Vec<String>) {
        let Arguments { global, command } = settled(line).expect("a line");
        #[allow(clippy::wildcard_enum_match_arm, reason = "the lines below have no other command")]
        let paths = match command {
            Command::Copy(args) => [args.sources, vec![args.destination]].concat(),
            Command::Upload(args) => vec![args.path],
            Command::Download(args) => {
                args.paths.iter().map(|path| path.to_str().expect("text").to_owned()).collect()
            }
            Command::List(args) => vec![args.path],
            Command::Delete(args) => args.paths,
            other => panic!("{other:?}"),
        };
        (global.store, paths)
    };
    let prod = |paths: &[&str]| {
        (Some("prod".to_owned()), paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(paths(&["ls", "prod:App"]), prod(&["App"]));
    assert_eq!(paths(&["ls", "prod:"]), prod(&[""]));
    assert_eq!(paths(&["ls", "prod:a:b"]), prod(&["a:b"]));
    assert_eq!(paths(&["cp", "prod:a", "prod:b/", "prod:c"]), prod(&["a", "b/", "c"]));
    assert_eq!(paths(&["put", "x:y", "prod:a"]), prod(&["a"]));
    assert_eq!(paths(&["get", "prod:a"]), prod(&["a"]));
    assert_eq!(paths(&["get", "prod:a", "x:y"]), prod(&["a", "x:y"]));
    assert_eq!(paths(&["get", "prod:a", "prod:b", "x:y"]), prod(&["a", "b", "x:y"]));
    assert_eq!(paths(&["rm", "prod:a", "prod:b"]), prod(&["a", "b"]));
    let plain = |path: &str| (None, vec![path.to_owned()]);
    for path in ["", "a/b:c", r"a\b:c", "/a:b", ":a", "-a:b", "ä:b", "a b:c", &"a".repeat(65)] {
        assert_eq!(paths(&["ls", "--", path]), plain(path), "{path}");
    }
}

#[test]
fn every_command_has_a_store() {
    for line in [
        &["stat", "prod:a"][..],
        &["whoami", "--may", "writer", "prod:a"],
        &["token", "create", "ci", "--role", "reader", "--path", "prod:a", "--path", "prod:b*"],
        &["info", "--server", "prod:"],
        &["--server", "prod:", "token", "list"],
        &["ls", "--server", "prod:"],
        &["check", "--server", "prod:"],
        &["cancel", "prod:x", "--server", "prod:"],
    ] {
        let found = settled(line).expect("a line").global.store;
        assert_eq!(found.as_deref(), Some("prod"), "{line:?}");
    }
    for address in ["prod", "localhost:1", "http://prod:1", "http://prod:", "[::1]:1"] {
        assert_eq!(settled(&["info", "--server", address]).expect("a line").global.store, None);
    }
}

#[test]
fn a_command_works_in_one_store() {
    for (line, says) in [
        (&["cp", "prod:a", "test:b"][..], "'get' from the first to this machine, then 'put'"),
        (&["cp", "prod:a", "b"], "prod:a names a store and b none"),
        (&["cp", "a", "prod:b"], "write prod:a for the path there"),
        (&["rm", "prod:a", "test:a"], "prod:a and test:a are in two stores"),
        (&["ls", "prod:a", "--server", "http://x"], "leave --server out, or write /prod:a"),
        (&["ls", "prod:a", "--server", "prod:"], "leave --server out"),
        (
            &["token", "create", "a", "--role", "admin", "--path", "prod:a", "--data", "x"],
            "--data opens the store of a stopped server, and prod:a names another",
        ),
        (&["store", "list", "--server", "http://x"], "leave --server out"),
    ] {
        let (kind, why) = settled(line).expect_err("refused");
        assert_eq!(kind, ErrorKind::ArgumentConflict, "{line:?}");
        assert!(why.contains(says), "{why}");
    }
    let (kind, why) = settled(&["ls", "https://there/App"]).expect_err("an address");
    assert_eq!(kind, ErrorKind::InvalidValue);
    assert!(why.contains("--server https://there/App selects a server"), "{why}");
    for name in ["http", "a:b", "", "-a", "ä", &"a".repeat(65)] {
        let line = ["imagestore", "store", "add", "--", name, "http://x"];
        let refused = Arguments::command().try_get_matches_from(line).expect_err(name);
        assert_eq!(refused.kind(), ErrorKind::ValueValidation, "{name}");
    }
}

#[tokio::test]
async fn a_path_of_a_store_is_asked_of_its_server() {
    let (script, server) = listen().await;
    lock(&script.files).insert("a/f".to_owned(), "x".into());
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let token = secret_file(folder.path(), "token", "imagestore_of_the_store\n");
    let line = ["store", "add", "prod", &server, "--token-file", &token];
    let said = run(&config, Style::Lines, &line).await.expect("added");
    assert_eq!(said, format!("added prod to {}\n", config.display()));

    assert_eq!(run(&config, Style::Lines, &["ls", "prod:a"]).await.expect("a list"), "f\n");
    let whoami = ["whoami", "--server", "prod:"];
    let said = run(&config, Style::Lines, &whoami).await.expect("a caller");
    assert!(said.starts_with("Bearer imagestore_of_the_store\n"), "{said}");
    let other = secret_file(folder.path(), "other", "imagestore_of_the_line");
    let line = [&whoami[..], &["--token-file", &other]].concat();
    let said = run(&config, Style::Lines, &line).await.expect("a caller");
    assert!(said.starts_with("Bearer imagestore_of_the_line\n"), "{said}");

    let failure = run(&config, Style::Lines, &["stat", "prdo:a"]).await.expect_err("unknown");
    let said = failure.to_string();
    assert!(said.starts_with("no store 'prdo' is in the configuration file "), "{said}");
    assert!(said.ends_with("begins with 'prdo:' is written with a / before it"), "{said}");
    let add = ["store", "add", "none", "http://127.0.0.1:1"];
    run(&config, Style::Lines, &add).await.expect("added");
    let said = run(&config, Style::Lines, &["ls", "none:"]).await.expect_err("lost").to_string();
    let hint =
        format!("; is it running? the store 'none' has this address in {}", config.display());
    assert!(said.ends_with(&hint), "{said}");
}

#[tokio::test]
async fn stores_are_listed_with_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let add = ["store", "add", "b", "localhost:1"];
    run(&config, Style::Lines, &add).await.expect("added");
    let failure = run(&config, Style::Lines, &add).await.expect_err("twice").to_string();
    assert!(failure.contains("--replace"), "{failure}");
    let token = secret_file(folder.path(), "t", "x");
    let line = ["store", "add", "b", "https://b", "--token-file", &token, "--replace"];
    run(&config, Style::Lines, &line).await.expect("replaced");
    run(&config, Style::Lines, &["store", "add", "a", "http://a"]).await.expect("added");

    let listed = run(&config, Style::Lines, &["store", "list"]).await.expect("a list");
    assert_eq!(listed, format!("a  http://a\nb  https://b  --token-file {token}\n"));
    let listed = run(&config, Style::Json, &["store", "list"]).await.expect("a list");
    let records: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let none = Value::Null;
    let record = |name, address, token: &Value| json!({"name": name, "address": address, "ca": none, "cert": none, "key": none, "token_file": token});
    assert_eq!(records, [record("a", "http://a", &none), record("b", "https://b", &json!(token))]);

    let said = run(&config, Style::Lines, &["store", "remove", "a"]).await.expect("removed");
    assert_eq!(said, format!("removed a from {}\n", config.display()));
    let failure = run(&config, Style::Lines, &["store", "remove", "a"]).await.expect_err("gone");
    assert!(failure.to_string().starts_with("no store 'a'"), "{failure}");
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_not_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let missing = folder.path().join("none");
    let missing = missing.to_str().expect("UTF-8");
    for (line, says) in [
        (&["ftp://x"][..], "only http and https are spoken"),
        (&["https://me:hidden@x"], "--token-file says who the caller is"),
        (&["http://x", "--token-file", missing], "cannot read"),
        (&["https://x", "--cert", missing], "--cert needs --key"),
        (&["https://x", "--ca", missing], "cannot read"),
    ] {
        let line = [&["store", "add", "a"], line].concat();
        let said = run(&config, Style::Lines, &line).await.expect_err("refused").to_string();
        assert!(said.contains(says) && !said.contains("hidden"), "{said}");
    }
    assert!(!config.exists());
}

#[tokio::test]
async fn a_user_without_a_home_has_to_name_the_file() {
    let Arguments { global, command } = settled(&["store", "list"]).expect("a line");
    let (mut output, ..) = output(Style::Lines);
    let said = execute(&global, command, &mut output).await.expect_err("no home").to_string();
    assert!(said.starts_with("--config has to say"), "{said}");
}

#[test]
fn the_token_of_the_environment_is_for_its_server() {
    let kept = |line: &[&str]| {
        let words = ["imagestore"].iter().chain(line);
        let matches = Arguments::command().try_get_matches_from(words).expect("a line");
        let mut arguments = Arguments::from_arg_matches(&matches).expect("arguments");
        arguments.global.token = Some(Secret::from("x".to_owned()));
        settle(&mut arguments.global, &mut arguments.command, &matches).expect("a line");
        arguments.global.token.is_some()
    };
    assert!(kept(&["info"]) && kept(&["ls", "a"]) && kept(&["info", "--server", "http://x"]));
    assert!(!kept(&["info", "--server", "prod:"]) && !kept(&["ls", "prod:a"]));
}
