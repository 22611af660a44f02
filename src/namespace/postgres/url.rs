//! The URL of a PostgreSQL database.

use tokio_postgres::{Config, config::SslMode};

use crate::{
    error::{Error, Result},
    limits::{DATABASE_CONNECT_TIME, DATABASE_KEEP_ALIVE},
    namespace::postgres::tls::TlsSettings,
};

/// Where a PostgreSQL database is, and how to log in. `Debug` hides the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) tls: TlsSettings,
}

impl PostgresUrl {
    /// Reads a URL such as `postgres://user:password@host:5432/database`.
    ///
    /// # Errors
    /// `InvalidArgument`, without the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid("database", why));
        let (mut tls, url) = TlsSettings::split(url)?;
        let Ok(mut config) = url.parse::<Config>() else {
            return refused("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE");
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return refused("expected a host: postgres://USER:PASSWORD@HOST:PORT/DATABASE");
        }
        tls.complete(&config);
        config.ssl_mode(if tls.is_enabled() { SslMode::Require } else { SslMode::Disable });
        if config.get_application_name().is_none() {
            config.application_name("imagestore");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(DATABASE_CONNECT_TIME);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(DATABASE_KEEP_ALIVE * 2);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_idle(DATABASE_KEEP_ALIVE).keepalives_interval(DATABASE_KEEP_ALIVE);
        }
        Ok(Self { config, tls })
    }
}
