//! TLS to the database: whom each `sslmode` trusts, certificates of the client, and files that are wrong.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use imagestore::{
    error::{Error, chain},
    namespace::{Database, PostgresUrl, sql::Mode},
};
use tempfile::TempDir;

use crate::{
    database::{administer, parse},
    driver::{connect, ints, url},
};

/// A file that `tests/run` has made, see `tests/support/postgres.sh`.
#[expect(clippy::disallowed_methods, reason = "tests/run tells the tests what it has made")]
fn file(name: &str) -> PathBuf {
    let folder = std::env::var("IMAGESTORE_TEST_POSTGRES_TLS");
    PathBuf::from(folder.expect("tests/run sets it")).join(name)
}

/// The URL of the server as a role with a password, at a host name that leads there whatever it is.
fn url_of(role: &str, host: &str, parameters: &str) -> String {
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret';
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    administer(&url(), &sql);
    let url = url();
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
    format!("postgres://{role}:secret@{host}:{port}/postgres?hostaddr=127.0.0.1&{parameters}")
}

/// Whether the connection of a URL has TLS, or why there is none.
fn has_tls(url: &str) -> Result<bool, String> {
    let refused = |error: Error| chain(&error);
    let database = Database::Postgres(Box::new(PostgresUrl::parse(url).map_err(refused)?));
    let mut connection = database.connect(Mode::Read).map_err(refused)?;
    connection.begin(Mode::Read).map_err(refused)?;
    let sql = "SELECT CAST(CAST(ssl AS INTEGER) AS BIGINT) FROM pg_stat_ssl
               WHERE pid = pg_backend_pid()";
    Ok(ints(&connection.query(sql, &[]).map_err(refused)?) == [1])
}

#[test]
fn each_mode_trusts_whom_it_says() {
    let [ca, other] = ["ca.pem", "other.pem"].map(|name| file(name).display().to_string());
    let tls = |host: &str, parameters: &str| has_tls(&url_of("tls_only", host, parameters));
    for (host, parameters) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("db.example", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("db.example", format!("sslmode=require&sslrootcert={ca}")),
        ("db.example", "sslmode=require".to_owned()),
    ] {
        assert_eq!(tls(host, &parameters), Ok(true), "{host} {parameters}");
    }
    for (host, parameters, why) in [
        (
            "db.example",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            "certificate not valid for name \"db.example\"",
        ),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), "do not agree on TLS"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), "do not agree on TLS"),
        ("localhost", format!("sslmode=require&sslrootcert={other}"), "do not agree on TLS"),
        // The authorities of the system.
        ("localhost", "sslmode=verify-full".to_owned(), "do not agree on TLS"),
        ("localhost", "sslmode=disable".to_owned(), "no encryption"),
        // The default for a loopback address.
        ("localhost", String::new(), "no encryption"),
    ] {
        let error = tls(host, &parameters).expect_err(&parameters);
        assert!(error.contains(why), "{parameters}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert_eq!(has_tls(&url()), Ok(false));
}

#[test]
fn a_certificate_of_the_client_is_shown() {
    let path = |name: &str| file(name).display().to_string();
    let base = format!("sslmode=verify-full&sslrootcert={}", path("ca.pem"));
    let own = |certificate: &str, key: &str| {
        let parameters = format!("{base}&sslcert={certificate}&sslkey={key}");
        has_tls(&url_of("certified", "localhost", &parameters))
    };
    assert_eq!(own(&path("certified.pem"), &path("certified.key")), Ok(true));
    let without = has_tls(&url_of("certified", "localhost", &base)).expect_err("refused");
    assert!(without.contains("client certificate"), "{without}");
    assert!(without.starts_with("the database refuses the connection"), "{without}");

    let folder = TempDir::new().expect("a folder");
    let open = folder.path().join("open.key");
    fs::copy(file("certified.key"), &open).expect("copied");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("set");
    for (certificate, key, why) in [
        (path("certified.pem"), path("other.key"), "is not that of sslcert"),
        (path("certified.pem"), path("certified.pem"), "has no private key in PEM"),
        (path("certified.key"), path("certified.key"), "has no certificate in PEM"),
        (path("none"), path("certified.key"), "sslcert"),
        (path("certified.pem"), open.display().to_string(), "can be read by others"),
    ] {
        let error = own(&certificate, &key).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
    let lost = format!("sslmode=verify-full&sslrootcert={}", path("none"));
    let error = has_tls(&url_of("tls_only", "localhost", &lost)).expect_err("no file");
    assert!(error.contains("sslrootcert") && error.contains("cannot be read"), "{error}");
}

#[test]
fn a_store_is_kept_over_tls() {
    let parameters = format!("sslmode=verify-full&sslrootcert={}", file("ca.pem").display());
    let database = parse(&url_of("tls_only", "localhost", &parameters));
    let mut connection = connect(&database, Mode::Read);
    connection.begin(Mode::Read).expect("begun");
    let text = "SELECT CAST(LENGTH(REPEAT('0123456789', 100000)) AS BIGINT), REPEAT('x', 1000000)";
    let rows = connection.query(text, &[]).expect("an answer of many records");
    assert_eq!(ints(&rows), [1_000_000]);
}
