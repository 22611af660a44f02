//! Tests of `token`, `whoami`, and of the token that a command sends.

use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use serde_json::{Value, json};

use super::{Arguments, run};
use crate::{
    cli::{
        Command, Failure, Global,
        args::token::{Role, TokenCommand},
        execute,
        output::{Style, tests::output},
        wrong,
    },
    client::tests::script::{listen, lock},
    limits,
    secret::Secret,
    wire::v1::{self, Token},
};

/// Parses a command line that is right.
fn parse(line: &[&str]) -> Arguments {
    Arguments::try_parse_from(["imagestore"].iter().chain(line)).expect("a line")
}

/// The kind of the error of a command line that clap refuses.
fn refused(line: &[&str]) -> ErrorKind {
    let parsed = Arguments::try_parse_from(["imagestore"].iter().chain(line));
    parsed.expect_err("refused").kind()
}

/// Runs a command line with a token in the environment. Returns standard output and standard error, or the failure.
async fn run_with(
    server: &str,
    token: Option<&str>,
    line: &[&str],
) -> Result<(String, String), Failure> {
    let Arguments { global, command } = parse(line);
    let token = token.map(|token| Secret::from(token.to_owned()));
    let global = Global { server: server.to_owned(), token, ..global };
    let (mut output, out, err) = output(Style::Lines);
    execute(&global, command, &mut output).await.map(|()| (out.text(), err.text()))
}

#[test]
fn a_token_has_a_role_paths_and_a_life() {
    let create = ["token", "create", "ci", "--role", "writer", "--path", "a", "--path", "b*"];
    let created = |more: &[&str]| {
        let line = [&create[..], more].concat();
        let Command::Token(TokenCommand::Create(args)) = parse(&line).command else {
            panic!("another command");
        };
        args
    };
    let args = created(&[]);
    assert_eq!((args.name.as_str(), args.role), ("ci", Role::Writer));
    assert_eq!(args.paths, ["a", "b*"]);
    assert_eq!((args.life.0, args.never_expires), (limits::TOKEN_LIFE_DEFAULT, false));
    assert_eq!(created(&["--life", "30d"]).life.to_string(), "30d");
    assert!(created(&["--never-expires"]).never_expires);

    let both = [&create[..], &["--life", "30d", "--never-expires"]].concat();
    assert_eq!(refused(&both), ErrorKind::ArgumentConflict);
    assert_eq!(refused(&[&create[..], &["--life", "0"]].concat()), ErrorKind::ValueValidation);
    assert_eq!(refused(&create[..5]), ErrorKind::MissingRequiredArgument);
    let owner = ["token", "create", "ci", "--role", "owner", "--path", "a"];
    assert_eq!(refused(&owner), ErrorKind::InvalidValue);
    assert_eq!(refused(&["whoami", "a"]), ErrorKind::MissingRequiredArgument);
}

#[test]
fn no_argument_has_a_token() {
    assert_eq!(refused(&["info", "--token", "imagestore_1"]), ErrorKind::UnknownArgument);
    assert_eq!(refused(&["info", "imagestore_1"]), ErrorKind::UnknownArgument);
}

#[test]
fn a_command_on_tokens_can_open_a_stopped_store() {
    let create = ["token", "create", "ci", "--role", "admin", "--path", "/"];
    let lines: [(&[&str], bool); 4] = [
        (&create, true),
        (&["token", "list"], false),
        (&["token", "rotate", "ci"], false),
        (&["token", "revoke", "ci"], false),
    ];
    for (line, makes_store) in lines {
        assert!(parse(line).command.stopped().is_none(), "{line:?}");
        let url = "postgres://user:password@host/db";
        let with_data = [line, &["--data", "x", "--database", url]].concat();
        let command = parse(&with_data).command;
        let (data, stopped) = command.stopped().expect("a folder");
        assert_eq!(data, Path::new("x"));
        assert_eq!(stopped.database.as_ref().map(Secret::expose), Some(url));
        assert!(!format!("{command:?}").contains("password"), "{command:?}");
        assert_eq!(command.makes_store(), makes_store, "{line:?}");
    }
    let wrong_line = |line: &[&str]| {
        let line = ["imagestore"].iter().chain(line);
        wrong(&Arguments::command().try_get_matches_from(line).expect("a line"))
    };
    let (kind, why) = wrong_line(&["token", "list", "--blobs", "file:///x"]).expect("no folder");
    assert_eq!(kind, ErrorKind::MissingRequiredArgument);
    assert!(why.starts_with("--blobs "), "{why}");
    let right = ["token", "list", "--blobs", "file:///x", "--data", "x"];
    assert_eq!(wrong_line(&right), None);
}

#[tokio::test]
async fn a_secret_stands_alone_on_standard_output() {
    let (script, server) = listen().await;
    let create = ["token", "create", "ci", "--role", "reader", "--path", "a", "--path", "/"];
    let (out, err) = run(&server, Style::Lines, &create).await.expect("a token");
    assert_eq!(out, "imagestore_new\n");
    assert_eq!(err, "this token is shown once; it expires at 1970-04-01T00:00:00Z\n");
    let asked = lock(&script.created).remove(0);
    let grant = |path: &str| v1::Grant { role: v1::Role::Reader.into(), path: path.to_owned() };
    assert_eq!(asked.grants, [grant("a"), grant("/")]);
    assert_eq!(asked.life.map(|life| life.seconds), Some(90 * 86_400));

    let line = [&create[..], &["--never-expires"]].concat();
    let (_, err) = run(&server, Style::Lines, &line).await.expect("a token");
    assert_eq!(err, "this token is shown once; it never expires\n");
    let asked = lock(&script.created).remove(0);
    assert_eq!((asked.life, asked.never_expires), (None, true));

    let rotate = ["token", "rotate", "ci", "--overlap", "0"];
    let (out, err) = run(&server, Style::Lines, &rotate).await.expect("a token");
    assert_eq!(out, "imagestore_rotated\n");
    assert_eq!(err, "this token is shown once; it never expires\n");
    let (out, err) = run(&server, Style::Json, &rotate).await.expect("a token");
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&value["name"], &value["secret"]), (&"ci".into(), &"imagestore_rotated".into()));
    assert_eq!(value["old_secret_until"], "1970-01-01T00:00:00Z");
    assert_eq!(err, "");
}

#[tokio::test]
async fn tokens_are_listed_and_revoked() {
    let (script, server) = listen().await;
    for name in ["ci", "dev"] {
        let token = Token { name: name.to_owned(), id: "id".to_owned(), ..Token::default() };
        lock(&script.tokens).push(token);
    }
    let (out, _) = run(&server, Style::Lines, &["token", "list"]).await.expect("a list");
    let rest = "  id    never expires  never used\n";
    assert_eq!(out, format!("ci{rest}dev{rest}"));
    let (out, _) = run(&server, Style::Json, &["token", "list"]).await.expect("a list");
    assert_eq!(out.lines().count(), 2);
    let (out, _) = run(&server, Style::Lines, &["token", "revoke", "ci"]).await.expect("an end");
    assert_eq!(out, "revoked ci\n");
    let revoke = ["token", "revoke", "dev"];
    let (failure, _) = run(&server, Style::Lines, &revoke).await.expect_err("none");
    assert_eq!(failure.to_string(), "no token is dev");
}

#[tokio::test]
async fn the_caller_is_shown_and_asked_about() {
    let (_script, server) = listen().await;
    let (out, err) = run(&server, Style::Lines, &["whoami"]).await.expect("a caller");
    assert_eq!((out.as_str(), err.as_str()), ("anonymous\nadmin mine\n", ""));
    let may = ["whoami", "--may", "writer", "mine"];
    let (out, _) = run(&server, Style::Lines, &may).await.expect("a yes");
    assert_eq!(out, "yes\n");
    for (style, line) in [
        (Style::Lines, &["whoami", "--may", "monitor", "yours"][..]),
        (Style::Json, &["whoami", "--may", "admin"]),
    ] {
        let (failure, out) = run(&server, style, line).await.expect_err("a no");
        assert!(matches!(failure, Failure::No), "{failure}");
        if style == Style::Json {
            let value: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(value["may"], json!(false));
        } else {
            assert_eq!(out, "no\n");
        }
    }
}

#[tokio::test]
async fn a_command_sends_the_token_of_the_environment_or_of_a_file() {
    let (_script, server) = listen().await;
    let (out, err) = run_with(&server, Some("imagestore_1"), &["whoami"]).await.expect("a caller");
    assert_eq!(out, "Bearer imagestore_1\nadmin mine\nexpires 2026-12-01T00:00:00Z\n");
    let said = "the token expires at 2026-12-01T00:00:00Z; an admin of its paths renews it by 'imagestore token rotate NAME'\n";
    assert_eq!(err, said);

    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, "imagestore_2\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let from_file = ["whoami", "--token-file", path];
    let (out, _) = run_with(&server, None, &from_file).await.expect("a caller");
    assert!(out.starts_with("Bearer imagestore_2\n"), "{out}");

    let both = run_with(&server, Some("imagestore_1"), &from_file).await;
    let said = both.expect_err("two tokens").to_string();
    assert!(said.ends_with("; give one of them") && !said.contains('\n'), "{said}");
    let unfit = run_with(&server, Some("imagestore 1"), &["whoami"]).await;
    let said = unfit.expect_err("a space").to_string();
    assert!(said.starts_with("the token cannot be used: "), "{said}");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a mode");
    let open = run_with(&server, None, &from_file).await.expect_err("of others");
    assert!(open.to_string().ends_with(&format!("; run 'chmod 600 {path}'")), "{open}");
}
