//! A pooler that shares sessions between clients is refused.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use imagestore::{error::Kind, namespace::sql::Mode};
use tempfile::TempDir;

use crate::{
    database::{new_schema, parse},
    driver::{explain, url},
};

/// `PgBouncer` in transaction mode, before the database of the run. It is stopped when it is dropped.
struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    fn start(url: &str, sessions: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (login, place) =
            url.trim_start_matches("postgres://").split_once('@').expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        let (address, _) = place.split_once('/').expect("a database");
        let (host, server) = address.split_once(':').expect("a port");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let root = folder.path().to_owned();
        let path = |name: &str| root.join(name);
        fs::write(path("users"), format!("\"{user}\" \"{password}\"\n")).expect("written");
        let settings = format!(
            "[databases]\n* = host={host} port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {sessions}\n\
             ignore_startup_parameters = options\nlogfile = {}\nuser = nobody\n",
            path("users").display(),
            path("log").display()
        );
        fs::write(path("settings"), settings).expect("written");
        open_to_all(folder.path());
        let process = Command::new("pgbouncer")
            .arg(path("settings"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer, which tests/run installs");
        let pooler = Self { process, port, _folder: folder };
        let begun = Instant::now();
        // A connection is refused until it listens.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed().as_secs() < 30,
                "{}",
                fs::read_to_string(path("log")).unwrap_or_default()
            );
            std::thread::yield_now();
        }
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// `PgBouncer` leaves the rights of root, and then reads its files.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("set");
}

#[test]
fn a_pooler_that_shares_sessions_is_refused() {
    for sessions in [1, 5] {
        let url = new_schema(&url());
        let pooler = Pooler::start(&url, sessions);
        let (login, place) = url.rsplit_once('@').expect("a login");
        let (_, name) = place.split_once('/').expect("a database");
        let pooled = format!("{login}@127.0.0.1:{}/{name}", pooler.port);
        let error = parse(&pooled).connect(Mode::Write).err().expect("refused");
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error:?}");
        assert!(explain(&error).contains("a pooler shares its sessions"), "{error:?}");
        // The claim is free, and nothing is left.
        drop(pooler);
        let mut direct = parse(&url).connect(Mode::Write).expect("opened");
        assert!(!direct.has_tables().expect("read"));
    }
}
