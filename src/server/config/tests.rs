//! Flags, and the settings that they make.

use clap::Parser;

use super::*;
use crate::server::identity::ClientFiles;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    serve: Serve,
}

fn parse(arguments: &[&str]) -> Result<Serve, String> {
    let arguments = std::iter::once("imagestore").chain(arguments.iter().copied());
    Command::try_parse_from(arguments).map(|c| c.serve).map_err(|error| error.to_string())
}

fn config(arguments: &[&str]) -> Config {
    parse(arguments).expect("parsed").config().expect("checked")
}

fn sqlite(config: &Config) -> &Path {
    match &config.database {
        Database::Sqlite(file) => file,
        Database::Postgres(_) => panic!("no file"),
    }
}

#[test]
fn without_flags_all_is_on_this_machine() {
    let config = config(&[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:19080");
    assert_eq!(sqlite(&config), Path::new("./imagestore-data/namespace.sqlite"));
    assert_eq!(config.blobs.folder(), Some(Path::new("./imagestore-data/blobs")));
    assert_eq!(config.reserve_bytes, 16 << 20);
    assert_eq!(config.reclaim_grace, Duration::from_secs(5));
    assert_eq!(config.operation_life, Duration::from_hours(168));
    assert_eq!(config.drain_time, Duration::ZERO);
}

#[test]
fn a_stop_drains_where_other_servers_can_take_over() {
    let postgres = ["--database", "postgres://user@127.0.0.1/db"];
    assert_eq!(config(&postgres).drain_time, Duration::from_secs(5));
    let set = [&postgres[..], &["--drain-time", "0"]].concat();
    assert_eq!(config(&set).drain_time, Duration::ZERO);
    assert_eq!(config(&["--drain-time", "1h"]).drain_time, Duration::from_hours(1));
    let error = parse(&["--drain-time", "1.1h"]).expect_err("refused");
    assert!(error.contains("at most 3600s"), "{error}");
}

#[test]
fn every_flag_has_an_environment_variable() {
    assert_variables(&<Command as clap::CommandFactory>::command());
}

/// Asserts that each flag of a command has an environment variable, named after it.
pub(in crate::server) fn assert_variables(command: &clap::Command) {
    for flag in command.get_arguments().filter(|flag| flag.get_id() != "help") {
        let name = flag.get_long().expect("a flag").to_uppercase().replace('-', "_");
        let variable = flag.get_env().expect("a variable").to_str().expect("text");
        assert_eq!(variable, format!("IMAGESTORE_{name}"));
    }
}

#[test]
fn a_listener_for_others_must_be_meant() {
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let error = parse(&["--listen", open]).expect("parsed").config().expect_err("refused");
        assert!(error.to_string().contains("--allow-anonymous"), "{error}");
        assert_eq!(config(&["--listen", open, "--allow-anonymous"]).listen.to_string(), open);
    }
    for own in ["127.0.0.2:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        config(&["--listen", own]);
    }
    assert!(parse(&["--listen", "localhost:1"]).expect_err("a name").contains("IP address"));
}

#[test]
fn access_is_open_only_where_that_is_safe_or_meant() {
    let required = |grants: Option<&str>| {
        let grants = grants.map(Into::into);
        Ok(Access::Required(Required { grants, ..Required::default() }))
    };
    let clients = || Some(ClientFiles { authorities: "a".into(), revoked: Some("l".into()) });
    let reachable = "other machines reach --listen 0.0.0.0:1; give --tls-cert";
    let tls = ["--tls-cert", "c", "--tls-key", "k"].as_slice();
    let grants = ["--grants", "g"].as_slice();
    let local = ["--listen", "127.0.0.1:1"].as_slice();
    let public = ["--listen", "0.0.0.0:1"].as_slice();
    for (flags, expected) in [
        (vec![local], Ok(Access::Open)),
        (vec![local, &["--access", "open"]], Ok(Access::Open)),
        (vec![local, &["--allow-anonymous"]], Ok(Access::Open)),
        (vec![local, &["--access", "required"]], required(None)),
        (vec![local, grants], required(Some("g"))),
        (vec![local, tls], Ok(Access::Open)),
        (vec![public, &["--allow-anonymous"]], Ok(Access::Open)),
        (vec![public, &["--allow-anonymous", "--access", "open"]], Ok(Access::Open)),
        (vec![public, tls], required(None)),
        (vec![public, &["--allow-plaintext"]], required(None)),
        (vec![public, &["--trusted-proxy", "10.0.0.1"]], required(None)),
        (vec![public, tls, grants, &["--access", "required"]], required(Some("g"))),
        (
            vec![local, tls, &["--client-ca", "a", "--client-crl", "l"]],
            Ok(Access::Required(Required { clients: clients(), ..Required::default() })),
        ),
        (
            vec![local, tls, &["--require-client-cert"]],
            Ok(Access::Required(Required { needs_certificate: true, ..Required::default() })),
        ),
        (vec![local, &["--client-ca", "a"]], Err("--client-ca needs TLS: give --tls-cert")),
        (vec![local, &["--client-crl", "l"]], Err("--client-crl needs TLS")),
        (vec![local, &["--require-client-cert"]], Err("--require-client-cert needs TLS")),
        (vec![local, tls, &["--client-crl", "l"]], Err("--client-crl needs --client-ca")),
        (
            vec![local, tls, &["--client-ca", "a", "--allow-anonymous"]],
            Err("omit it, or --client-ca"),
        ),
        (
            vec![local, tls, &["--client-ca", "a", "--access", "open"]],
            Err("omit it, or --client-ca"),
        ),
        (vec![public], Err(reachable)),
        (vec![public, grants], Err(reachable)),
        (vec![public, &["--access", "required"]], Err(reachable)),
        (vec![public, &["--access", "open"]], Err("instead of --access open")),
        (vec![public, tls, &["--access", "open"]], Err("instead of --access open")),
        (vec![local, grants, &["--access", "open"]], Err("omit it, or --grants")),
        (vec![local, grants, &["--allow-anonymous"]], Err("omit it, or --grants")),
        (
            vec![local, &["--allow-anonymous", "--access", "required"]],
            Err("omit it, or --access required"),
        ),
    ] {
        let flags = flags.concat();
        let access = parse(&flags).expect("parsed").config().map(|config| config.access);
        match (access, expected) {
            (Ok(access), Ok(expected)) => assert_eq!(access, expected, "{flags:?}"),
            (Err(error), Err(expected)) => {
                let error = error.explain();
                assert!(error.contains(expected) && !error.contains('\n'), "{flags:?}: {error}");
            }
            (access, _) => panic!("{flags:?}: {access:?}"),
        }
    }
}

#[test]
fn behind_a_trusted_proxy_a_right_is_required_wherever_the_server_listens() {
    for listen in ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1"] {
        let access = |flags: &[&str]| {
            let flags = [&["--listen", listen, "--trusted-proxy", "127.0.0.1"], flags].concat();
            let config = parse(&flags).expect("parsed").config();
            config.map(|config| config.access).map_err(|error| error.explain())
        };
        for flags in [&[][..], &["--tls-cert", "c", "--tls-key", "k"], &["--grants", "g"]] {
            let access = access(flags).expect("started");
            assert!(matches!(access, Access::Required(_)), "{listen} {flags:?}");
        }
        assert_eq!(access(&["--allow-anonymous"]), Ok(Access::Open));
        let error = access(&["--access", "open"]).expect_err("refused");
        assert!(error.contains("--allow-anonymous instead of --access open"), "{error}");
        if !listen.starts_with("0.0.0.0") {
            let start = "the clients of --trusted-proxy reach this server; if everyone there";
            assert!(error.starts_with(start), "{error}");
        }
    }
}

#[test]
fn a_url_names_a_local_path() {
    let config = config(&["--database", "sqlite:///a/b%20c", "--blobs", "file:///d"]);
    assert_eq!(sqlite(&config), Path::new("/a/b c"));
    assert_eq!(config.blobs, Location::Folder(PathBuf::from("/d")));
    for (flag, url, why) in [
        ("--database", "postgres://me:secret@host:port/db", "expected postgres://"),
        ("--database", "postgres://me:secret@/db", "expected a host"),
        ("--database", "postgres://me:secret@host/db?sslmode=prefer", "sslmode=prefer"),
        ("--database", "mysql://me:secret@host/db", "mysql:// is not supported"),
        ("--database", "file:///a", "file:// is not supported"),
        ("--blobs", "ftp://bucket", "ftp:// is not supported"),
        ("--blobs", "file://relative", "file:///PATH"),
        ("--blobs", "file:///", "file:///PATH"),
        ("--blobs", "file:///a%ffb", "file:///PATH"),
        ("--blobs", "/a", "file:///PATH"),
    ] {
        let error = parse(&[flag, url]).expect("parsed").config().expect_err("refused");
        let error = error.to_string();
        assert!(error.starts_with(flag) && error.contains(why), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_password_is_nowhere_printed() {
    let url = "postgresql://me:secret@host/db?connect_timeout=3";
    let serve = parse(&["--database", url]).expect("parsed");
    assert!(!format!("{serve:?}").contains("secret"), "{serve:?}");
    let config = serve.config().expect("checked");
    assert!(matches!(config.database, Database::Postgres(_)), "{config:?}");
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
}

#[test]
fn host_names_are_added() {
    assert!(config(&[]).allowed_hosts.is_empty());
    let added = ["--allowed-host", "store.example,b_1", "--allowed-host", "*"];
    assert_eq!(config(&added).allowed_hosts, ["store.example", "b_1", "*"]);
    for text in ["", ".", "http://a", "a:80", "a b", "a..b", "*.a", "[::1]"] {
        assert!(port::host_name(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_have_units() {
    let check = |text: &str, expect: u64| assert_eq!(bytes(text), Ok(Bytes(expect)), "{text}");
    check("0", 0);
    check("17", 17);
    check("1k", 1 << 10);
    check("16MiB", 16 << 20);
    check("2GB", 2 << 30);
    check("1T", 1 << 40);
    for text in ["", "M", "-1", "+1", "1.5M", "1X", "99999999999T", "1 M"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn a_trusted_proxy_is_an_address_or_a_network() {
    let flags = ["--trusted-proxy", "10.0.0.0/8,192.0.2.1", "--trusted-proxy", "fd00::/8"];
    let config_of = |more: &[&str]| config(&[&flags[..], more].concat());
    let trusted = config_of(&[]);
    let shown: Vec<_> = trusted.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
    // Credentials in plain text are refused where a right is required, unless they are meant.
    assert!(trusted.refuses_plaintext);
    assert!(!config_of(&["--allow-anonymous"]).refuses_plaintext);
    let required = ["--access", "required"];
    assert!(config_of(&required).refuses_plaintext);
    assert!(!config_of(&["--access", "required", "--allow-plaintext"]).refuses_plaintext);
    assert!(!config(&required).refuses_plaintext);

    for (text, says) in [
        ("10.0.0.0/33", "such as 10.0.0.0/8"),
        ("proxy.example", "such as 10.0.0.0/8"),
        ("", "such as 10.0.0.0/8"),
        ("0.0.0.0/0", "everyone would be a proxy"),
        ("::/0", "everyone would be a proxy"),
        ("::ffff:10.0.0.0/104", "write an IPv4 network as such"),
    ] {
        let error = parse(&["--trusted-proxy", text]).expect_err(text);
        assert!(error.contains(says), "{error}");
    }
    let mapped = config(&["--trusted-proxy", "::ffff:10.0.0.1"]);
    assert_eq!(mapped.trusted_proxies[0].to_string(), "10.0.0.1/32");
    let networks: Vec<_> = (0..=64).map(|n| format!("10.0.{n}.0/24")).collect();
    config(&["--trusted-proxy", &networks[1..].join(",")]);
    let error = parse(&["--trusted-proxy", &networks.join(",")]).expect("parsed").config();
    let error = error.expect_err("too many").to_string();
    assert_eq!(error, "--trusted-proxy takes at most 64 networks");
}
