//! The PostgreSQL driver.
//!
//! A write transaction takes one advisory lock as its first statement, at READ COMMITTED: a transaction that
//! waited for the lock sees what its holder committed, and never has to be repeated, as it would after a
//! serialization failure. A read transaction is REPEATABLE READ READ ONLY: one snapshot.
//!
//! The writing connection also holds an advisory lock of its session, the claim: exclusive, or shared with other
//! servers. A server that has the store for itself fails the operations of all others. Both locks are per schema: a
//! database can hold one store in each of its schemas (`?options=-c%20search_path%3DNAME`).
//!
//! **Invariants:** nothing is written without the claim. A connection is dropped, and its transaction with
//! it, after any failure other than an error response of the database; the next transaction begins on a new
//! connection. A password is in no error, log line or `Debug`. Every statement has a timeout in the database,
//! and a longer one in the client, which only a rollback does not wait for; a handshake has one in the client
//! ([`session`]).
//!
//! **Deliberately absent:** poolers that share a connection between clients: neither prepared statements nor
//! session locks work with them.

mod proof;
mod registration;
mod session;
mod tls;
mod url;
mod values;

pub(super) use session::Claim;
pub use url::PostgresUrl;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    limits::{DATABASE_SAVEPOINTS_MAX, DATABASE_START_TIME, DATABASE_STATEMENT_TIME},
    namespace::{
        expelled::Expelled,
        postgres::{
            registration::{Registration, count, unknown},
            session::{PreparedClient, Session, statement_time},
            values::{as_params, row},
        },
        sql::{Connection, Mode, Param, Row, Rows},
    },
};

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock(1229801299, hashtext(current_schema()))";

/// The clock of the database, in microseconds since 1970.
const NOW: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A connection to a PostgreSQL database; a lost one is replaced at the next transaction.
pub(super) struct PostgresConnection {
    url: PostgresUrl,
    /// The claim that this connection takes.
    claim: Option<Claim>,
    /// `None` after the connection was lost, until the next transaction begins.
    session: Option<Session>,
    reconnects: u64,
    in_transaction: bool,
    /// The time at which this write transaction had the write lock, by the clock of the database.
    began: Option<i64>,
    /// The row of this server, once it has one.
    registration: Option<Registration>,
    /// How long the database may take for one statement.
    statement_time: Duration,
    /// The error of a statement that did not end in time, since the last begin.
    stalled: Option<Error>,
    /// Drives the connection while a statement waits. `None` only during the drop.
    runtime: Option<Runtime>,
}

impl PostgresConnection {
    /// Connects. A connection with a claim writes, and its statements have more time until [`Connection::settle`].
    ///
    /// # Errors
    /// `Busy` if the database does not respond or another server has it, `InvalidArgument` if it cannot hold
    /// a store, `Internal` if it refuses the connection.
    pub(super) fn open(url: &PostgresUrl, claim: Option<Claim>) -> Result<Self> {
        let statement_time = match claim {
            Some(_) => DATABASE_START_TIME,
            None => DATABASE_STATEMENT_TIME,
        };
        if claim.is_some() && url.tls.trusts_anyone() {
            tracing::warn!(
                "sslmode=require takes any certificate of the database; verify-full does not"
            );
        }
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(Error::internal)?;
        let mut connection = Self {
            url: url.clone(),
            claim,
            session: None,
            reconnects: 0,
            in_transaction: false,
            began: None,
            registration: None,
            statement_time,
            stalled: None,
            runtime: Some(runtime),
        };
        let runtime = connection.runtime.as_ref().ok_or_else(no_runtime)?;
        let session = match claim {
            Some(claim) => runtime.block_on(proof::connect(url, claim, statement_time)),
            None => runtime.block_on(Session::connect(url, None, statement_time)),
        };
        connection.session = Some(session?);
        Ok(connection)
    }

    fn connect(&mut self) -> Result<()> {
        let runtime = self.runtime.as_ref().ok_or_else(no_runtime)?;
        let connect = Session::connect(&self.url, self.claim, self.statement_time);
        self.session = Some(runtime.block_on(connect)?);
        self.reconnects += 1;
        Ok(())
    }

    /// Begins a transaction, on a new connection if the old one is lost. A write transaction takes the write lock, and
    /// counts in the row of the server. Returns whether the commit that was in doubt has been made.
    fn try_begin(&mut self, mode: Mode) -> Result<bool> {
        if let Some(why) = self.expelled() {
            return Err(why.error());
        }
        if self.session.is_none() {
            self.connect().map_err(busy_without_files)?;
            tracing::info!("connected to the database again");
        }
        let registration = match mode {
            Mode::Read => None,
            Mode::Write => self.registration.take(),
        };
        let Some(mut registration) = registration else {
            let sql = if mode == Mode::Write { BEGIN_WRITE } else { BEGIN_READ };
            return self.with(async |talk| talk.client.batch_execute(sql).await).map(|()| false);
        };
        let begun = self.with(async |talk| talk.client.simple_query(registration.begin()).await);
        let was_made = begun.and_then(|answers| {
            if let Some((count, now)) = count(&answers)? {
                self.began = now;
                return registration.found(count);
            }
            let rows =
                self.with(async |talk| talk.client.simple_query(registration.row()).await)?;
            Err(registration.missed(count(&rows)?.map(|(count, _)| count)))
        });
        self.registration = Some(registration);
        if self.expelled().is_some() {
            // Its claim must not keep the next server out.
            self.session = None;
        }
        was_made
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
        let was_connected = self.session.is_some();
        self.stalled = None;
        self.began = None;
        let mut begun = self.try_begin(mode);
        // A connection that died while it was idle is noticed only here, where a new one can replace it.
        let was_lost = was_connected && self.session.is_none() && self.expelled().is_none();
        if begun.is_err() && was_lost && self.stalled.is_none() {
            tracing::warn!(error = ?begun.as_ref().err(), "the connection to the database was lost");
            begun = self.try_begin(mode);
        }
        match &begun {
            Ok(_) => {}
            // What the connection was left in is not known, for example because a rollback was cancelled.
            Err(error) if error.kind() == Kind::Internal => self.session = None,
            // The first of the two statements of a begin may have succeeded.
            Err(_) => self.rollback(),
        }
        self.in_transaction = begun.is_ok();
        begun.map(|_| ())
    }

    fn commit(&mut self) -> Result<()> {
        self.in_transaction = false;
        // Without a connection nothing is sent, and the database has rolled the transaction back.
        let is_sent = self.session.is_some();
        let committed = self.with(async |talk| talk.client.batch_execute("COMMIT").await);
        let registration = self.registration.as_mut();
        match committed {
            Ok(()) => {
                registration.into_iter().for_each(Registration::committed);
                Ok(())
            }
            // The database has answered, and rolled the transaction back.
            Err(error) if self.session.is_some() || !is_sent => Err(error),
            Err(error) => match registration {
                Some(registration) => {
                    registration.in_doubt();
                    self.verdict(error)
                }
                None => Err(unknown(error)),
            },
        }
    }

    fn register(&mut self, server: Uuid) {
        self.registration = Some(Registration::new(&server, 0));
    }

    fn reconnects(&self) -> u64 {
        self.reconnects
    }

    fn disconnect(&mut self) {
        self.session = None;
    }

    fn expelled(&self) -> Option<Expelled> {
        self.registration.as_ref().and_then(Registration::expelled)
    }

    fn rollback(&mut self) {
        self.in_transaction = false;
        let (Some(session), Some(runtime)) = (&mut self.session, &self.runtime) else { return };
        // Nobody waits for the answer: what follows on this connection comes after it.
        if let Err(error) = runtime.block_on(session.send("ROLLBACK")) {
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
        if let Some(began) = self.began {
            return Ok(began);
        }
        one(&self.query(NOW, &[])?)
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

    fn keep_in_rows(&mut self, table: &'static str) -> Result<()> {
        // The largest target that PostgreSQL takes. A value above it costs two more rows of another table and its index.
        let sql = format!("ALTER TABLE {table} SET (toast_tuple_target = 8160)");
        self.with(async |talk| talk.client.batch_execute(&sql).await)
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
