//! The settings of a server: command line flags, with an environment variable for each.
//!
//! **Invariant:** a [`Config`] is checked as a whole. Settings with an unsupported URL, or that give everyone on the
//! network a right without `--allow-anonymous`, are an error.

mod access;
mod port;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::builder::FalseyValueParser;
use ipnet::IpNet;

use super::{Error, audit, identity::TlsFiles};
use crate::{
    blob::{Location, absolute_path},
    cli::time::{Time, split_unit, time},
    limits,
    namespace::{Database, PostgresUrl},
    secret::Secret,
};

use access::AccessFlag;
pub use access::{Access, Required};
pub(super) use port::Port;

/// Runs the server.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Serve {
    #[command(flatten)]
    port: Port,

    /// Data folder; created if it is missing
    #[arg(long, env = "IMAGESTORE_DATA", default_value = "./imagestore-data", value_name = "DIR")]
    data: PathBuf,

    #[arg(long, env = "IMAGESTORE_DATABASE", value_name = "URL", hide_env_values = true)]
    #[arg(help = "The database, as sqlite:///PATH or postgres://USER:PASSWORD@HOST:PORT/NAME \
                  [default: namespace.sqlite in the data folder]")]
    database: Option<Secret>,

    #[arg(long, env = "IMAGESTORE_BLOBS", value_name = "URL")]
    #[arg(
        help = "The blob store, as file:///PATH, memory://, s3://BUCKET, az://CONTAINER or gs://BUCKET, with a prefix of keys \
                  after a slash where it is wanted; credentials are those of the environment \
                  [default: blobs in the data folder]"
    )]
    blobs: Option<String>,

    /// Space that uploads leave free on the file system of the data folder, in bytes or with K, M, G or T
    #[arg(long, env = "IMAGESTORE_RESERVE", default_value_t = Bytes(limits::RESERVE_BYTES_DEFAULT))]
    #[arg(value_name = "BYTES", value_parser = bytes)]
    reserve: Bytes,

    /// Time for which deleted or replaced files stay readable for downloads that have begun, in seconds or
    /// with ms, s, m, h or d
    #[arg(long, env = "IMAGESTORE_RECLAIM_GRACE", value_name = "TIME", value_parser = time)]
    #[arg(default_value_t = Time(limits::RECLAIM_GRACE_DEFAULT))]
    reclaim_grace: Time,

    /// Time for which finished operations are kept, and in which a copy is safe to repeat with its
    /// operation id
    #[arg(long, env = "IMAGESTORE_OPERATION_LIFE", value_name = "TIME", value_parser = time)]
    #[arg(default_value_t = Time(limits::OPERATION_LIFE_DEFAULT))]
    operation_life: Time,

    #[arg(long, env = "IMAGESTORE_DRAIN_TIME", value_name = "TIME", value_parser = drain_time)]
    #[arg(
        help = "Time for which a stop serves on and is not ready, so that a balancer turns to other servers \
                  [default: 5s with PostgreSQL, 0s with SQLite]"
    )]
    drain_time: Option<Time>,

    /// Time for which a server may be silent before the other servers on its store declare it dead
    #[arg(long, env = "IMAGESTORE_LEASE", value_name = "TIME", value_parser = lease)]
    #[arg(default_value_t = Time(limits::LEASE_DEFAULT))]
    lease: Time,

    #[arg(long, env = "IMAGESTORE_OBJECT_HOLD", value_name = "TIME", value_parser = object_hold)]
    #[arg(
        help = "Time for which the objects of deleted files stay in the bucket, longer than a failover of the \
                  database may lose [default: 1h with PostgreSQL and a bucket, else 0s]"
    )]
    object_hold: Option<Time>,

    /// Time between two sweeps of the blob store, which look for objects without a row
    #[arg(long, env = "IMAGESTORE_SWEEP_EVERY", value_name = "TIME", value_parser = sweep_every)]
    #[arg(default_value_t = Time(limits::SWEEP_EVERY))]
    sweep_every: Time,

    /// Certificate authorities of clients in PEM; read again when it changes
    #[arg(long, env = "IMAGESTORE_CLIENT_CA", value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// Revocation lists of these authorities in PEM; read again when it changes
    #[arg(long, env = "IMAGESTORE_CLIENT_CRL", value_name = "FILE")]
    client_crl: Option<PathBuf>,

    /// Refuse every caller that shows no client certificate
    #[arg(long, env = "IMAGESTORE_REQUIRE_CLIENT_CERT", value_parser = FalseyValueParser::new())]
    require_client_cert: bool,

    /// Give everyone who reaches the server every right, also on a --listen address that other machines reach,
    /// and behind a --trusted-proxy
    #[arg(long, env = "IMAGESTORE_ALLOW_ANONYMOUS", value_parser = FalseyValueParser::new())]
    allow_anonymous: bool,

    /// File of grants in TOML, which says who may do what; read again when it changes
    #[arg(long, env = "IMAGESTORE_GRANTS", value_name = "FILE")]
    grants: Option<PathBuf>,

    /// Whether a caller needs a right [default: open on a loopback address without --grants
    /// and --trusted-proxy, else required]
    #[arg(long, env = "IMAGESTORE_ACCESS", value_enum, value_name = "ACCESS")]
    access: Option<AccessFlag>,

    /// Take calls that need a right without TLS, on a network that only the callers reach
    #[arg(long, env = "IMAGESTORE_ALLOW_PLAINTEXT", value_parser = FalseyValueParser::new())]
    allow_plaintext: bool,

    /// Audit log, as JSON lines: a file, stderr, or off
    #[arg(long, env = "IMAGESTORE_AUDIT", value_name = "FILE", default_value = "off")]
    audit: PathBuf,

    /// Add the calls that only read to the audit log
    #[arg(long, env = "IMAGESTORE_AUDIT_READS", value_parser = FalseyValueParser::new())]
    audit_reads: bool,

    /// What to log: a level, or directives such as info,imagestore=debug
    #[arg(long, env = "IMAGESTORE_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// The checked settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// The database of the namespace.
    pub database: Database,
    /// The blob store.
    pub blobs: Location,
    /// The space that uploads leave free on the file system of the data folder, in bytes.
    pub reserve_bytes: u64,
    /// How long deleted or replaced content stays readable for downloads that have begun.
    pub reclaim_grace: Duration,
    /// How long finished operations are kept.
    pub operation_life: Duration,
    /// How long a stop serves on, and says that it is not ready.
    pub drain_time: Duration,
    /// How long this server may be silent before others on the store declare it dead. `None`: it has the store for itself.
    pub lease: Option<Duration>,
    /// How long the objects of deleted files stay.
    pub object_hold: Duration,
    /// The time between two sweeps of the blob store.
    pub sweep_every: Duration,
    /// The host names that a request may have in `Host`, in addition to IP addresses, `localhost` and the names
    /// of this machine; `*` allows every name.
    pub allowed_hosts: Vec<String>,
    /// The networks of the proxies whose word is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a credential is refused that crossed a network in plain text.
    pub refuses_plaintext: bool,
    /// The certificate and the key of the port; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// Who may do what.
    pub access: Access,
    /// The audit log.
    pub audit: audit::Settings,
}

impl Serve {
    /// The log filter, as directives of `tracing_subscriber`.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Checks the settings and fills in the defaults.
    ///
    /// # Errors
    ///
    /// A listen address that other machines reach, where neither TLS nor a flag says that this is meant; flags of
    /// access that contradict each other; a URL that is malformed or has an unsupported scheme; a certificate without
    /// a key, or a key without a certificate.
    pub fn config(self) -> Result<Config, Error> {
        let access = self.access()?;
        self.port.check_proxies()?;
        let asks_clients = match &access {
            Access::Open => false,
            Access::Required(required) => {
                let Required { grants, clients, needs_certificate } = required;
                grants.is_some() || clients.is_some() || *needs_certificate
            }
        };
        let tls = self.port.tls(asks_clients)?;
        let target = match self.audit.to_str() {
            Some("off") => audit::Target::Off,
            Some("stderr") => audit::Target::Stderr,
            _ => audit::Target::File(self.audit),
        };
        let audit = audit::Settings { target, reads: self.audit_reads };
        let own = |name| self.data.join(name);
        let database = self.database.as_ref().map(|url| database(url.expose())).transpose()?;
        let database = database.unwrap_or_else(|| Database::Sqlite(own("namespace.sqlite")));
        // No other server has an SQLite database, so there is none to turn to.
        let drain_time = match database {
            Database::Sqlite(_) => Duration::ZERO,
            Database::Postgres(_) => limits::DRAIN_TIME_DEFAULT,
        };
        let blobs = self.blobs.as_deref().map(location);
        let blobs = blobs.transpose()?.unwrap_or_else(|| Location::Folder(own("blobs")));
        let can_share = can_share(&database, &blobs);
        let hold = if can_share { limits::OBJECT_HOLD_DEFAULT } else { Duration::ZERO };
        Ok(Config {
            lease: can_share.then_some(self.lease.0),
            object_hold: self.object_hold.map_or(hold, |time| time.0),
            sweep_every: self.sweep_every.0,
            database,
            blobs,
            listen: self.port.listen,
            data: self.data,
            reserve_bytes: self.reserve.0,
            reclaim_grace: self.reclaim_grace.0,
            operation_life: self.operation_life.0,
            drain_time: self.drain_time.map_or(drain_time, |time| time.0),
            allowed_hosts: self.port.allowed_host,
            refuses_plaintext: matches!(access, Access::Required(_))
                && !(self.port.trusted_proxy.is_empty() || self.allow_plaintext),
            trusted_proxies: self.port.trusted_proxy,
            tls,
            access,
            audit,
        })
    }
}

impl Config {
    /// The settings of a private server over the store of a stopped server. `url` (of the database) and `blobs` are
    /// the URLs with which the stopped server was started.
    ///
    /// # Errors
    ///
    /// A URL that is malformed or has an unsupported scheme.
    pub fn private(data: &Path, url: Option<&str>, blobs: Option<&str>) -> Result<Self, Error> {
        let mut config = Self::local(data);
        if let Some(url) = url {
            config.database = database(url)?;
        }
        if let Some(url) = blobs {
            config.blobs = location(url)?;
        }
        if can_share(&config.database, &config.blobs) {
            config.lease = Some(limits::LEASE_DEFAULT);
            config.object_hold = limits::OBJECT_HOLD_DEFAULT;
        }
        Ok(config)
    }

    /// The settings of a server that listens on a free loopback port and keeps all its data in one folder.
    pub fn local(data: &Path) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.to_owned(),
            database: Database::Sqlite(data.join("namespace.sqlite")),
            blobs: Location::Folder(data.join("blobs")),
            reserve_bytes: limits::RESERVE_BYTES_DEFAULT,
            reclaim_grace: limits::RECLAIM_GRACE_DEFAULT,
            operation_life: limits::OPERATION_LIFE_DEFAULT,
            drain_time: Duration::ZERO,
            lease: None,
            object_hold: Duration::ZERO,
            sweep_every: limits::SWEEP_EVERY,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            refuses_plaintext: false,
            tls: None,
            access: Access::Open,
            audit: audit::Settings::default(),
        }
    }
}

/// Whether several servers may have a store together: its database and its objects are no files of one machine.
fn can_share(database: &Database, blobs: &Location) -> bool {
    matches!((database, blobs), (Database::Postgres(_), Location::Bucket(_)))
}

/// Whether an address is reachable from this machine only.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// A number of bytes on the command line, such as `16M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = limits::MIB as u64;
        if self.0 > 0 && self.0.is_multiple_of(mib) {
            write!(f, "{}M", self.0 / mib)
        } else {
            self.0.fmt(f)
        }
    }
}

pub(super) fn drain_time(text: &str) -> Result<Time, String> {
    time_within(text, Duration::ZERO, limits::DRAIN_TIME_MAX)
}

fn lease(text: &str) -> Result<Time, String> {
    time_within(text, limits::LEASE_MIN, limits::LEASE_MAX)
}

fn object_hold(text: &str) -> Result<Time, String> {
    time_within(text, Duration::ZERO, limits::OBJECT_HOLD_MAX)
}

fn sweep_every(text: &str) -> Result<Time, String> {
    time_within(text, limits::SWEEP_EVERY_MIN, limits::SWEEP_EVERY_MAX)
}

fn time_within(text: &str, least: Duration, most: Duration) -> Result<Time, String> {
    let time = time(text)?;
    if time.0 < least {
        return Err(format!("at least {}", Time(least)));
    }
    if time.0 > most { Err(format!("at most {}", Time(most))) } else { Ok(time) }
}

/// The database of a URL. Errors do not repeat the URL, which may contain a password.
fn database(url: &str) -> Result<Database, Error> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let url = PostgresUrl::parse(url)
            .map_err(|error| Error::new(format!("--database: {}", error.message())))?;
        return Ok(Database::Postgres(Box::new(url)));
    }
    sqlite_path(url).map(Database::Sqlite)
}

/// The place of a blob store. Errors do not repeat the URL, which may contain a password.
fn location(url: &str) -> Result<Location, Error> {
    Location::parse(url).map_err(|why| Error::new(format!("--blobs: {why}")))
}

/// The absolute path of a URL of SQLite. Errors do not repeat the URL, which may contain a password.
fn sqlite_path(url: &str) -> Result<PathBuf, Error> {
    let refused = |why: &str| {
        Error::new(format!(
            "--database: {why}expected postgres://HOST/NAME, or sqlite:///PATH with an absolute path"
        ))
    };
    let (found, rest) = url.split_once("://").ok_or_else(|| refused(""))?;
    if found != "sqlite" {
        return Err(refused(&format!("{found}:// is not supported; ")));
    }
    absolute_path(rest).ok_or_else(|| refused(""))
}

const NO_BYTES: &str = "expected a number of bytes, such as 16M";
fn bytes(text: &str) -> Result<Bytes, String> {
    let (digits, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(NO_BYTES.to_owned()),
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    let number = number.ok_or(NO_BYTES)?;
    number.checked_mul(1 << shift).map(Bytes).ok_or_else(|| "too many bytes".to_owned())
}

#[cfg(test)]
pub(super) mod tests;
