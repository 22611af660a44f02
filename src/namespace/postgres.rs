//! The PostgreSQL driver.
//!
//! A write transaction takes one advisory lock as its first statement, at READ COMMITTED: a transaction that
//! waited for the lock sees what its holder committed, and never has to be repeated, as it would after a
//! serialization failure. A read transaction is REPEATABLE READ READ ONLY: one snapshot.
//!
//! The writing connection also holds an advisory lock of its session, the claim. A second server is refused
//! because of it, before it could fail the operations of the first. Both locks are per schema: a database can
//! hold one store in each of its schemas (`?options=-c%20search_path%3DNAME`).
//!
//! **Invariants:** nothing is written without the claim. A connection is dropped, and its transaction with
//! it, after any failure other than an error response of the database; the next transaction begins on a new
//! connection. A password is in no error, log line or `Debug`. Every statement has a timeout in the database,
//! and a longer one in the client; a handshake has one in the client ([`session`]).
//!
//! **Deliberately absent:** poolers that share a connection between clients: neither prepared statements nor
//! session locks work with them.

mod proof;
mod session;
mod tls;
mod values;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode;

use crate::{
    error::{Error, Kind, Result},
    limits::{
        DATABASE_CONNECT_TIME, DATABASE_KEEP_ALIVE, DATABASE_SAVEPOINTS_MAX, DATABASE_START_TIME,
        DATABASE_STATEMENT_TIME,
    },
    namespace::{
        postgres::{
            session::{PreparedClient, Session, statement_time},
            tls::TlsSettings,
            values::{as_params, row},
        },
        sql::{Connection, Mode, Param, Row, Rows},
    },
};

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock(1229801299, hashtext(current_schema()))";

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Where a PostgreSQL database is, and how to log in. `Debug` hides the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    config: tokio_postgres::Config,
    tls: TlsSettings,
}

impl PostgresUrl {
    /// Reads a URL such as `postgres://user:password@host:5432/database`.
    ///
    /// # Errors
    /// `InvalidArgument`, without the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid("database", why));
        let (mut tls, url) = TlsSettings::split(url)?;
        let Ok(mut config) = url.parse::<tokio_postgres::Config>() else {
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

/// A connection to a PostgreSQL database; a lost one is replaced at the next transaction.
pub(super) struct PostgresConnection {
    url: PostgresUrl,
    /// Whether this connection takes the claim.
    claims: bool,
    /// `None` after the connection was lost, until the next transaction begins.
    session: Option<Session>,
    in_transaction: bool,
    /// How long the database may take for one statement.
    statement_time: Duration,
    /// The error of a statement that did not end in time, since the last begin.
    stalled: Option<Error>,
    /// Drives the connection while a statement waits. `None` only during the drop.
    runtime: Option<Runtime>,
}

impl PostgresConnection {
    /// Connects. With [`Mode::Write`] the connection takes the claim, and its statements have more time until
    /// [`Connection::settle`].
    ///
    /// # Errors
    /// `Busy` if the database does not respond or another server has it, `InvalidArgument` if it cannot hold
    /// a store, `Internal` if it refuses the connection.
    pub(super) fn open(url: &PostgresUrl, mode: Mode) -> Result<Self> {
        let (claims, statement_time) = match mode {
            Mode::Write => (true, DATABASE_START_TIME),
            Mode::Read => (false, DATABASE_STATEMENT_TIME),
        };
        if claims && url.tls.trusts_anyone() {
            tracing::warn!(
                "sslmode=require takes any certificate of the database; verify-full does not"
            );
        }
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(Error::internal)?;
        let mut connection = Self {
            url: url.clone(),
            claims,
            session: None,
            in_transaction: false,
            statement_time,
            stalled: None,
            runtime: Some(runtime),
        };
        let runtime = connection.runtime.as_ref().ok_or_else(no_runtime)?;
        let session = match mode {
            Mode::Write => runtime.block_on(proof::connect(url, statement_time)),
            Mode::Read => runtime.block_on(Session::connect(url, false, statement_time)),
        };
        connection.session = Some(session?);
        Ok(connection)
    }

    fn connect(&mut self) -> Result<()> {
        let runtime = self.runtime.as_ref().ok_or_else(no_runtime)?;
        let connect = Session::connect(&self.url, self.claims, self.statement_time);
        self.session = Some(runtime.block_on(connect)?);
        Ok(())
    }

    /// Begins a transaction, on a new connection if the old one is lost.
    fn try_begin(&mut self, sql: &str) -> Result<()> {
        if self.session.is_none() {
            self.connect().map_err(busy_without_files)?;
            tracing::info!("connected to the database again");
        }
        self.with(async |talk| talk.client.batch_execute(sql).await)
    }

    /// Runs statements on the connection. Any failure other than an error response in time drops the
    /// connection.
    fn with<T>(
        &mut self,
        run: impl AsyncFnOnce(&mut PreparedClient) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(no_runtime)?;
        let Some(session) = &mut self.session else {
            return Err(Error::new(Kind::Busy, "the connection to the database was lost"));
        };
        runtime.block_on(session.ask(self.statement_time, run)).map_err(|fault| {
            let error = fault.translate();
            if fault.is_lost() {
                self.session = None;
            }
            if fault.is_stall() {
                self.stalled = Some(error.clone());
            }
            error
        })
    }
}

/// The error of a reconnection. Files of TLS that cannot be used now may be renewed.
fn busy_without_files(error: Error) -> Error {
    if error.kind() != Kind::InvalidArgument {
        return error;
    }
    Error::new(Kind::Busy, "the database cannot be reached; try again").because(error)
}

fn no_runtime() -> Error {
    Error::internal("a connection to the database is used after its end")
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        self.session = None;
        // The runtime may be blocked by a DNS lookup, so the drop does not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Connection for PostgresConnection {
    fn begin(&mut self, mode: Mode) -> Result<()> {
        let sql = match mode {
            Mode::Read => BEGIN_READ,
            Mode::Write => BEGIN_WRITE,
        };
        let was_connected = self.session.is_some();
        self.stalled = None;
        let mut begun = self.try_begin(sql);
        // A connection that died while it was idle is noticed only here, where a new one can replace it.
        if begun.is_err() && was_connected && self.session.is_none() && self.stalled.is_none() {
            tracing::warn!(error = ?begun.as_ref().err(), "the connection to the database was lost");
            begun = self.try_begin(sql);
        }
        if begun.is_err() {
            // The first of the two statements of a begin may have succeeded.
            self.rollback();
        }
        self.in_transaction = begun.is_ok();
        begun
    }

    fn commit(&mut self) -> Result<()> {
        self.in_transaction = false;
        let committed = self.with(async |talk| talk.client.batch_execute("COMMIT").await);
        committed.map_err(|error| {
            if self.session.is_some() {
                return error;
            }
            let message =
                "the database did not say whether it has made the change; look at it, or try again";
            Error::new(Kind::Busy, message).because(error)
        })
    }

    fn rollback(&mut self) {
        self.in_transaction = false;
        if self.session.is_some()
            && let Err(error) = self.with(async |talk| talk.client.batch_execute("ROLLBACK").await)
        {
            // The database rolls back the transaction of a connection that is closed.
            self.session = None;
            tracing::error!(?error, "a transaction cannot be rolled back");
        }
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    fn stalled(&self) -> Option<Error> {
        self.stalled.clone()
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.with(async |talk| {
            let statement = talk.statement(sql, params).await?;
            talk.client.execute(&statement, &as_params(params)).await
        })
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.with(async |talk| {
            let statement = talk.statement(sql, params).await?;
            let rows = talk.client.query(&statement, &as_params(params)).await?;
            rows.iter().map(row).collect()
        })
    }

    /// Sends all statements before it waits for the first response. After an error the database refuses the
    /// later ones, since the transaction has failed.
    fn run(&mut self, sets: &[Rows<'_>]) -> Result<Vec<Vec<Row>>> {
        self.with(async |talk| {
            let mut asked = Vec::with_capacity(sets.len());
            for rows in sets.iter().filter(|rows| !rows.is_empty()) {
                asked.push((talk.statement(rows.set.many, &[]).await?, rows.columns().collect()));
            }
            let mut found = talk.all(asked).await?.into_iter();
            let answers = sets.iter().map(|rows| {
                let answer = if rows.is_empty() { None } else { found.next() };
                answer.unwrap_or_default().iter().map(row).collect()
            });
            answers.collect()
        })
    }

    fn batch_max(&self) -> usize {
        DATABASE_SAVEPOINTS_MAX
    }

    fn now(&mut self) -> Result<i64> {
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        one(&self.query(sql, &[])?)
    }

    fn disk_bytes(&mut self) -> Result<i64> {
        let sql = "SELECT CAST(COALESCE(SUM(pg_total_relation_size(c.oid)), 0) AS BIGINT)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = current_schema() AND c.relkind = 'r'";
        one(&self.query(sql, &[])?)
    }

    fn has_tables(&mut self) -> Result<bool> {
        let sql = "SELECT 1 FROM pg_tables
                   WHERE schemaname = current_schema() AND tablename = 'meta'";
        Ok(!self.query(sql, &[])?.is_empty())
    }

    fn make_tables(&mut self, tables: &str) -> Result<()> {
        let text = tables
            .replace("{id}", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
            .replace("{text}", "TEXT COLLATE \"C\"")
            .replace("{bytes}", "BYTEA")
            .replace("{clustered}", "");
        self.with(async |talk| talk.client.batch_execute(&text).await)
    }

    /// From now on statements have the shorter timeout: recovery at the start may take long, but callers wait
    /// for what follows.
    fn settle(&mut self) -> Result<()> {
        self.statement_time = DATABASE_STATEMENT_TIME;
        match &self.session {
            Some(_) => {
                let sql = statement_time(self.statement_time);
                self.with(async |talk| talk.client.batch_execute(&sql).await)
            }
            None => Ok(()),
        }
    }
}

fn one(rows: &[Row]) -> Result<i64> {
    rows.first().ok_or_else(|| Error::internal("an answer of one row has none"))?.int(0)
}
