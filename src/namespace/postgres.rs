//! The PostgreSQL driver.
//!
//! A write transaction takes one advisory lock as its first statement, at READ COMMITTED: whoever
//! waited for the lock sees what its holder committed, and nothing is to be repeated, as it would be
//! after a serialization failure. A reader is REPEATABLE READ READ ONLY: one snapshot.
//!
//! The writing connection also holds a session's advisory lock, the claim, so that a second server
//! is refused instead of ending the operations of the first. Both locks are of the current schema:
//! a database can hold a store in each of its schemas (`?options=-c%20search_path%3DNAME`).
//!
//! **Invariants:** nothing is written without the claim. A connection that failed otherwise than by
//! an orderly answer is dropped, and its transaction with it; the next transaction begins on a new
//! one. A password is in no error, log line or `Debug`.
//!
//! **Deliberately absent:** TLS, so `sslmode=require` is refused; poolers that share a connection
//! between clients, for which neither prepared statements nor session locks work.

use std::{collections::HashMap, error::Error as _};

use bytes::{BufMut, BytesMut};
use postgres::{
    Client, NoTls, Statement,
    config::SslMode,
    error::{Severity, SqlState},
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::{
    error::{Error, Kind, Result, Source},
    limits::{DATABASE_CONNECT_TIME, DATABASE_KEEP_ALIVE},
    namespace::sql::{Connection, Mode, Param, Row, Value},
};

/// What every connection sets. Each statement has its index, but plans are made while the tables are
/// small or not yet counted, and a scan that is right then is wrong when they have grown. Without
/// scans the estimates mean nothing to the just-in-time compiler.
///
/// The database looks after half a minute whether a silent client is still there: the session of one
/// that is gone keeps the claim, by default for hours. On a Unix socket these settings mean nothing.
const SETTINGS: &str = "SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off;
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4;
    SET tcp_user_timeout = '30s'";

/// Takes the claim; the wait is for a server that is just ending. `lock_timeout` is as before when
/// this succeeds or fails.
const CLAIM: &str = "SET lock_timeout = '5s';
    SELECT pg_advisory_lock(1229801300, hashtext(current_schema()));
    RESET lock_timeout";

const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT pg_advisory_xact_lock(1229801299, hashtext(current_schema()))";

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Where a PostgreSQL database is, and how to log in. `Debug` hides the password.
#[derive(Clone, Debug)]
pub struct PostgresUrl(postgres::Config);

impl PostgresUrl {
    /// Reads a URL such as `postgres://user:password@host:5432/database`.
    ///
    /// # Errors
    /// `InvalidArgument`, without the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let refused = |why: &str| Err(Error::invalid("database", why));
        let Ok(mut config) = url.parse::<postgres::Config>() else {
            return refused("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE");
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return refused("expected a host: postgres://USER:PASSWORD@HOST:PORT/DATABASE");
        }
        if config.get_ssl_mode() == SslMode::Require {
            return refused(
                "sslmode=require is not supported; use a trusted network, a tunnel, or the \
                 database's Unix socket",
            );
        }
        config.ssl_mode(SslMode::Disable);
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
        Ok(Self(config))
    }
}

/// A connection to a PostgreSQL database, made again when it is lost.
pub(super) struct PostgresConnection {
    url: PostgresUrl,
    /// Whether it holds the claim.
    claims: bool,
    /// Nothing after it was lost, until the next transaction begins.
    session: Option<Session>,
    in_transaction: bool,
}

struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl PostgresConnection {
    /// Connects. The connection that will write takes the claim.
    ///
    /// # Errors
    /// `Busy` if the database does not answer or another server has it, `InvalidArgument` if it
    /// cannot hold a store, `Internal` if it refuses.
    pub(super) fn open(url: &PostgresUrl, mode: Mode) -> Result<Self> {
        let claims = mode == Mode::Write;
        let session = Some(connect(url, claims)?);
        Ok(Self { url: url.clone(), claims, session, in_transaction: false })
    }

    /// Begins a transaction, on a new connection where the old one is lost.
    fn try_begin(&mut self, sql: &str) -> Result<()> {
        if self.session.is_none() {
            self.session = Some(connect(&self.url, self.claims)?);
            tracing::info!("connected to the database again");
        }
        self.with(|session| session.client.batch_execute(sql))
    }

    /// Uses the connection. Whatever is not an orderly answer of the database ends it.
    fn with<T>(
        &mut self,
        run: impl FnOnce(&mut Session) -> Result<T, postgres::Error>,
    ) -> Result<T> {
        let Some(session) = &mut self.session else {
            return Err(Error::new(Kind::Busy, "the connection to the database was lost"));
        };
        run(session).map_err(|error| {
            if is_lost(&error) {
                self.session = None;
            }
            translate(&error)
        })
    }
}

/// Connects and prepares the session; takes the claim where asked to.
fn connect(url: &PostgresUrl, claims: bool) -> Result<Session> {
    let mut client = url.0.connect(NoTls).map_err(|error| {
        let translated = translate(&error);
        if translated.kind() != Kind::Internal {
            return translated;
        }
        // A login or a database that it does not know: the operator sees the cause at the start.
        Error::new(Kind::Internal, "the database refuses the connection").because(error)
    })?;
    client.batch_execute(SETTINGS).map_err(|error| translate(&error))?;
    let sql = "SELECT current_schema() IS NOT NULL, current_setting('server_encoding') = 'UTF8'";
    let row = client.query_one(sql, &[]).map_err(|error| translate(&error))?;
    let is = |column| row.try_get::<_, bool>(column).map_err(|error| translate(&error));
    if !is(0)? {
        let message = "the database has no schema for the store: its search_path names none that \
                       exists; create one";
        return Err(Error::invalid("database", message));
    }
    if !is(1)? {
        let message = "the database does not hold all of Unicode; create one with ENCODING 'UTF8'";
        return Err(Error::invalid("database", message));
    }
    if claims {
        client.batch_execute(CLAIM).map_err(|error| {
            if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
                let message = "another server has the database open; stop it, or choose another \
                               --database";
                return Error::new(Kind::Busy, message);
            }
            translate(&error)
        })?;
    }
    Ok(Session { client, statements: HashMap::new() })
}

impl Session {
    /// The statement of a text, prepared once for each connection.
    fn statement(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        // Every integer is one of 64 bits, also where the database would infer fewer.
        let types: Vec<Type> = params.iter().map(param_type).collect();
        let statement = self.client.prepare_typed(sql, &types)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Connection for PostgresConnection {
    fn begin(&mut self, mode: Mode) -> Result<()> {
        let sql = match mode {
            Mode::Read => BEGIN_READ,
            Mode::Write => BEGIN_WRITE,
        };
        let was_connected = self.session.is_some();
        let mut begun = self.try_begin(sql);
        // A connection that died while it was idle is noticed only now, when nothing depends on it.
        if begun.is_err() && was_connected && self.session.is_none() {
            tracing::warn!(error = ?begun.as_ref().err(), "the connection to the database was lost");
            begun = self.try_begin(sql);
        }
        self.in_transaction = begun.is_ok();
        begun
    }

    fn commit(&mut self) -> Result<()> {
        self.in_transaction = false;
        self.with(|session| session.client.batch_execute("COMMIT"))
    }

    fn rollback(&mut self) {
        self.in_transaction = false;
        if self.session.is_some()
            && let Err(error) = self.with(|session| session.client.batch_execute("ROLLBACK"))
        {
            // Without its connection a transaction is undone by the database.
            self.session = None;
            tracing::error!(?error, "a transaction cannot be rolled back");
        }
    }

    fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.with(|session| {
            let statement = session.statement(sql, params)?;
            session.client.execute(&statement, &as_params(params))
        })
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.with(|session| {
            let statement = session.statement(sql, params)?;
            let rows = session.client.query(&statement, &as_params(params))?;
            rows.iter().map(row).collect()
        })
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
        self.with(|session| session.client.batch_execute(&text))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

fn one(rows: &[Row]) -> Result<i64> {
    rows.first().ok_or_else(|| Error::internal("an answer of one row has none"))?.int(0)
}

fn param_type(param: &Param<'_>) -> Type {
    match param {
        // The database infers it from where it stands.
        Param::Null => Type::UNKNOWN,
        Param::Int(_) => Type::INT8,
        Param::Text(_) => Type::TEXT,
        Param::Bytes(_) => Type::BYTEA,
    }
}

fn as_params<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|param| param as _).collect()
}

fn row(row: &postgres::Row) -> Result<Row, postgres::Error> {
    (0..row.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>().map(Row)
}

impl ToSql for Param<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Source> {
        let given = param_type(self);
        if given != Type::UNKNOWN && given != *wanted {
            return Err(format!("the parameter is {given}, the statement wants {wanted}").into());
        }
        match *self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Int(value) => out.put_i64(value),
            Self::Text(value) => out.put_slice(value.as_bytes()),
            Self::Bytes(value) => out.put_slice(value),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl FromSql<'_> for Value {
    fn from_sql(found: &Type, raw: &[u8]) -> Result<Self, Source> {
        Ok(match *found {
            Type::INT8 => Self::Int(FromSql::from_sql(found, raw)?),
            Type::INT4 => Self::Int(<i32 as FromSql<'_>>::from_sql(found, raw)?.into()),
            Type::INT2 => Self::Int(<i16 as FromSql<'_>>::from_sql(found, raw)?.into()),
            Type::TEXT => Self::Text(FromSql::from_sql(found, raw)?),
            _ => Self::Bytes(FromSql::from_sql(found, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Source> {
        Ok(Self::Null)
    }

    fn accepts(found: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::INT2, Type::TEXT, Type::BYTEA].contains(found)
    }
}

/// Whether the connection is of no more use: it broke, or the database ends it.
fn is_lost(error: &postgres::Error) -> bool {
    let severity = |error: &postgres::error::DbError| error.parsed_severity();
    match error.as_db_error().map(severity) {
        None => true,
        Some(severity) => matches!(severity, Some(Severity::Fatal | Severity::Panic)),
    }
}

/// What an error of the database means to a caller.
fn translate(error: &postgres::Error) -> Error {
    let cause = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let is_io = || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let Some(code) = error.code() else {
        if error.is_closed() || is_io() {
            let message = "the database cannot be reached; try again";
            return Error::new(Kind::Busy, message).because(cause);
        }
        return Error::internal(cause);
    };
    if *code == SqlState::DISK_FULL {
        return Error::new(Kind::NoSpace, "the disk of the database is full").because(cause);
    }
    let passing = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    // Class 08: faults of the connection.
    if passing.contains(code) || code.code().starts_with("08") {
        return Error::new(Kind::Busy, "the database is busy; try again").because(cause);
    }
    Error::internal(cause)
}
