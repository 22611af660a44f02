//! The settings of a gateway: command line flags, with an environment variable for each.
//!
//! Deliberately absent: grants, tokens and keys of links, because the backends judge the callers; client certificates of
//! callers, which end here; a credential of the gateway itself, with which a caller without one could do what the
//! gateway may.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::builder::FalseyValueParser;
use ipnet::IpNet;
use tracing::warn;

use super::backend::{self, BackendUrl, Connector};
use crate::{
    cli::time::Time,
    limits::{self, BACKENDS_MAX},
    server::{
        Error,
        config::{Port, drain_time},
        identity::TlsFiles,
    },
};

/// Runs the gateway.
#[derive(Clone, Debug, clap::Args)]
pub struct Gateway {
    #[command(flatten)]
    port: Port,

    #[arg(long, env = "IMAGESTORE_BACKEND", value_name = "URL", value_delimiter = ',')]
    #[arg(required = true, value_parser = BackendUrl::parse)]
    #[arg(
        help = "A server to which calls go, as https://HOST:PORT or http://HOST:PORT; all addresses of the \
                  name are used; may be repeated"
    )]
    backend: Vec<BackendUrl>,

    /// Certificate authorities of the backends in PEM [default: those of the system]
    #[arg(long, env = "IMAGESTORE_BACKEND_CA", value_name = "FILE")]
    backend_ca: Option<PathBuf>,

    /// Serve other machines although a backend gives everyone every right
    #[arg(long, env = "IMAGESTORE_ALLOW_ANONYMOUS", value_parser = FalseyValueParser::new())]
    allow_anonymous: bool,

    /// Take calls of other machines without TLS, on a network that only the callers reach
    #[arg(long, env = "IMAGESTORE_ALLOW_PLAINTEXT", value_parser = FalseyValueParser::new())]
    allow_plaintext: bool,

    /// Time for which a stop serves on and is not ready, so that a balancer turns to other gateways
    #[arg(long, env = "IMAGESTORE_DRAIN_TIME", value_name = "TIME", value_parser = drain_time)]
    #[arg(default_value_t = Time(limits::DRAIN_TIME_DEFAULT))]
    drain_time: Time,

    /// What to log: a level, or directives such as info,imagestore=debug
    #[arg(long, env = "IMAGESTORE_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// The checked settings of a gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The servers to which calls go.
    pub backends: Vec<BackendUrl>,
    /// The authorities of their certificates; `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// The host names that a request may have in `Host`, as those of a server.
    pub allowed_hosts: Vec<String>,
    /// The networks of the proxies whose word is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a credential is refused that crossed a network in plain text.
    pub refuses_plaintext: bool,
    /// Whether a backend is not used that gives every right to everyone.
    pub refuses_open: bool,
    /// The certificate and the key of the port; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// How long a stop serves on and is not ready.
    pub drain_time: Duration,
}

impl Gateway {
    /// The log filter, as directives of `tracing_subscriber`.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Checks the settings and fills in the defaults.
    ///
    /// # Errors
    /// A listen address that other machines reach, where neither TLS nor a flag says that this is meant; a certificate
    /// without a key, or a key without a certificate; too many backends or proxies; authorities that no backend has.
    pub fn config(self) -> Result<Config, Error> {
        self.port.check_proxies()?;
        if self.backend.len() > BACKENDS_MAX {
            return Err(Error::new(format!("--backend takes at most {BACKENDS_MAX} servers")));
        }
        if self.backend_ca.is_some() && !self.backend.iter().any(BackendUrl::has_tls) {
            return Err(Error::new("--backend-ca is for https, and each --backend is http"));
        }
        let reach = self.port.reach();
        if let Some(reach) = &reach
            && !self.port.is_protected()
            && !self.allow_plaintext
        {
            return Err(Error::new(format!(
                "{reach}; give --tls-cert and --tls-key, or --trusted-proxy with the address of a proxy that \
                 has TLS, or --allow-plaintext if only the callers reach this network"
            )));
        }
        Ok(Config {
            listen: self.port.listen,
            tls: self.port.tls(false)?,
            drain_time: self.drain_time.0,
            backends: self.backend,
            authorities: self.backend_ca,
            allowed_hosts: self.port.allowed_host,
            refuses_plaintext: reach.is_some() && !self.allow_plaintext,
            refuses_open: reach.is_some() && !self.allow_anonymous,
            trusted_proxies: self.port.trusted_proxy,
        })
    }
}

impl Config {
    /// The settings of a gateway on a free loopback port before one backend.
    ///
    /// # Errors
    /// An address that is not `http://HOST:PORT` or `https://HOST:PORT`.
    pub fn local(backend: &str) -> Result<Self, Error> {
        let wrong = |why| Error::new(format!("the backend is {why}"));
        Ok(Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            backends: vec![BackendUrl::parse(backend).map_err(wrong)?],
            authorities: None,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            refuses_plaintext: false,
            refuses_open: false,
            tls: None,
            drain_time: Duration::ZERO,
        })
    }

    /// The backends, and how connections to each are made. Logs those to which credentials go in plain text.
    ///
    /// # Errors
    /// Authorities that cannot be read, or that are none.
    pub(super) async fn connectors(&self) -> Result<Vec<(BackendUrl, Connector)>, Error> {
        let authorities = match &self.authorities {
            Some(file) => Some(backend::authorities(file).await?),
            None => None,
        };
        for url in self.backends.iter().filter(|url| !url.has_tls() && !url.is_local()) {
            warn!(%url, "the calls to a backend, with their credentials, cross the network in plain text");
        }
        let connector =
            |url: &BackendUrl| Ok((url.clone(), Connector::new(url, authorities.as_deref())?));
        self.backends.iter().map(connector).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::server::config::tests::assert_variables;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        gateway: Gateway,
    }

    /// The settings of some flags, beside those of a backend; or why there are none.
    fn config(flags: &[&str]) -> Result<Config, String> {
        let flags = ["gateway", "--backend", "http://there:1"].iter().chain(flags);
        let parsed = Command::try_parse_from(flags).map_err(|error| error.to_string())?;
        parsed.gateway.config().map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        assert_variables(&<Command as clap::CommandFactory>::command());
    }

    #[test]
    fn a_gateway_for_others_is_protected() {
        let own = config(&[]).expect("settings");
        assert_eq!(own.listen.to_string(), "127.0.0.1:19080");
        assert!(!own.refuses_plaintext && !own.refuses_open);
        let why = config(&["--listen", "0.0.0.0:1"]).expect_err("plain text");
        assert!(
            why.starts_with("other machines reach --listen 0.0.0.0:1; give --tls-cert"),
            "{why}"
        );
        for (flags, plaintext, open) in [
            (&["--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"][..], true, true),
            (&["--trusted-proxy", "10.0.0.0/8"], true, true),
            (&["--listen", "0.0.0.0:1", "--allow-plaintext"], false, true),
            (&["--listen", "0.0.0.0:1", "--allow-plaintext", "--allow-anonymous"], false, false),
        ] {
            let found = config(flags).expect("settings");
            assert_eq!(
                (found.refuses_plaintext, found.refuses_open),
                (plaintext, open),
                "{flags:?}"
            );
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let many = vec!["https://there"; BACKENDS_MAX].join(",");
        for (flags, why) in [
            (&["--backend-ca", "ca"][..], "--backend-ca is for https"),
            (&["--tls-cert", "c"], "--tls-cert needs --tls-key"),
            (&["--tls-key", "k"], "--tls-key needs --tls-cert"),
            (&["--backend", &many], "--backend takes at most 64 servers"),
            (&["--backend", "there:1"], "not https://HOST:PORT or http://HOST:PORT"),
        ] {
            let found = config(flags).expect_err("refused");
            assert!(found.contains(why), "{found}");
        }
        let none = Command::try_parse_from(["gateway"]).expect_err("no backend").to_string();
        assert!(none.contains("--backend <URL>"), "{none}");
        let both = config(&["--backend", "https://b,https://c"]).expect("settings").backends;
        assert_eq!(
            both.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["http://there:1", "https://b", "https://c"]
        );
    }
}
