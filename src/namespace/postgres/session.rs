//! One connection to the database, and the timeouts of its statements and handshake.
//!
//! The database is told the timeouts, and ends a statement that exceeds one with an error response. If no
//! response arrives, the client gives up a little later and closes the connection; it is then unknown what
//! became of the statement.

use std::{
    collections::HashMap,
    error::Error as _,
    future::poll_fn,
    io,
    pin::Pin,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Error as PgError, NoTls, Statement,
    error::{DbError, Severity, SqlState},
    types::Type,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::{Error, Kind, Result},
    limits::{
        DATABASE_CONNECT_TIME, DATABASE_GRACE, DATABASE_IDLE_TIME, DATABASE_LOCK_TIME,
        DATABASE_STATEMENT_TIME,
    },
    namespace::{
        postgres::{PostgresUrl, values::param_type},
        sql::Param,
    },
};

/// The settings of every connection. Scans are off: each statement has its index, but a plan may be made
/// while the tables are small or have no statistics, and a scan that is right then is wrong when they have
/// grown. So are the joins that read a table as a whole; SQLite has none either. The just-in-time compiler is off, because without scans the cost estimates mean nothing to it.
///
/// The database checks within half a minute whether a silent client still exists: the session of a dead
/// client keeps the claim, by default for hours. These settings have no effect on a Unix socket.
const SETTINGS: &str = "SET synchronous_commit = on; SET enable_seqscan = off; SET jit = off;
    SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4;
    SET tcp_user_timeout = '30s'";

/// Why the database cannot hold a store, else NULL.
const REFUSALS: &str = "SELECT CASE
    WHEN current_schema() IS NULL THEN
      'the database has no schema for the store: its search_path names none that exists; create one'
    WHEN current_setting('server_encoding') <> 'UTF8' THEN
      'the database does not hold all of Unicode; create one with ENCODING ''UTF8'''
    WHEN pg_is_in_recovery() THEN
      'the database is a standby, or recovers, and takes no writes; name the primary one'
    WHEN current_setting('default_transaction_read_only') = 'on' THEN
      'the database is read-only: its setting default_transaction_read_only is on; name a writable one'
    WHEN NOT has_schema_privilege(current_schema(), 'CREATE') THEN
      'the role ' || current_user || ' may not create tables in the schema ' || current_schema()
      || ' of the database; give it the right: GRANT CREATE ON SCHEMA'
    END";

/// What a connection that writes keeps others from, as long as its session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::namespace) enum Claim {
    /// No other server, of this program or an older one.
    Exclusive,
    /// No server that wants the store for itself, as those of older programs do.
    Shared,
}

impl Claim {
    /// The statement that takes the claim. Waits for it as for every lock, since the other server may be about to end.
    const fn sql(self) -> &'static str {
        match self {
            Self::Exclusive => "SELECT pg_advisory_lock(1229801300, hashtext(current_schema()))",
            Self::Shared => {
                "SELECT pg_advisory_lock_shared(1229801300, hashtext(current_schema()))"
            }
        }
    }
}

/// The statement that sets the timeout after which the database ends a statement.
pub(super) fn statement_time(time: Duration) -> String {
    format!("SET statement_timeout = {}", time.as_millis())
}

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database did not respond in time.
    TimedOut(Duration),
    /// The database responded with an error, or the connection broke.
    Driver(PgError),
}

impl Fault {
    /// Whether the connection is unusable: it broke, the database closes it, or does not respond.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Driver(error) => match error.as_db_error().map(DbError::parsed_severity) {
                None => true,
                Some(severity) => matches!(severity, Some(Severity::Fatal | Severity::Panic)),
            },
        }
    }

    /// Whether the statement took too long: the next one would as well.
    pub(super) fn is_stall(&self) -> bool {
        let slow = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE];
        match self {
            Self::TimedOut(_) => true,
            Self::Driver(error) => error.code().is_some_and(|code| slow.contains(code)),
        }
    }

    /// The error for the caller.
    pub(super) fn translate(&self) -> Error {
        match self {
            Self::TimedOut(time) => {
                let seconds = time.as_secs();
                let message = format!("the database did not answer within {seconds} s; try again");
                Error::new(Kind::Busy, message)
            }
            Self::Driver(error) => translate(error),
        }
    }
}

/// An open connection.
pub(super) struct Session {
    talk: PreparedClient,
    /// The I/O of the connection, which happens while this is polled. `None` after the connection has ended.
    connection: Option<ConnectionTask>,
}

type ConnectionTask = Pin<Box<dyn Future<Output = Result<(), PgError>> + Send>>;

/// The client that statements are sent with, and its prepared statements.
pub(super) struct PreparedClient {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl Session {
    /// Connects and sets up the session; takes a claim. `time` is the timeout of later
    /// statements.
    pub(super) async fn connect(
        url: &PostgresUrl,
        claim: Option<Claim>,
        time: Duration,
    ) -> Result<Self> {
        let tls = url.tls.is_enabled().then(|| url.tls.connector()).transpose()?;
        let mut session = Self::open(&url.config, tls).await.map_err(|fault| {
            let error = fault.translate();
            match fault {
                // The database refuses the login or does not exist: the operator sees the cause at the start.
                Fault::Driver(cause) if error.kind() == Kind::Internal => {
                    Error::new(Kind::Internal, "the database refuses the connection").because(cause)
                }
                Fault::TimedOut(_) | Fault::Driver(_) => error,
            }
        })?;
        let settings = format!(
            "{SETTINGS}; {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
            statement_time(time),
            DATABASE_LOCK_TIME.as_millis(),
            DATABASE_IDLE_TIME.as_millis()
        );
        let told = |fault: Fault| fault.translate();
        session
            .ask(DATABASE_STATEMENT_TIME, async |talk| talk.client.batch_execute(&settings).await)
            .await
            .map_err(told)?;
        let refused = session
            .ask(DATABASE_STATEMENT_TIME, async |talk| {
                let row = talk.client.query_one(REFUSALS, &[]).await?;
                row.try_get::<_, Option<String>>(0)
            })
            .await
            .map_err(told)?;
        if let Some(why) = refused {
            return Err(Error::invalid("database", why));
        }
        if let Some(claim) = claim {
            session.claim(claim).await?;
        }
        Ok(session)
    }

    /// Connects, including the handshake.
    async fn open(config: &Config, tls: Option<MakeRustlsConnect>) -> Result<Self, Fault> {
        // The timeout of the configuration is for the TCP connection to one address only.
        let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
        let each = config.get_connect_timeout().copied().unwrap_or(DATABASE_CONNECT_TIME);
        let time = each.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX));
        let connecting = async {
            let (client, connection): (_, ConnectionTask) = if let Some(tls) = tls {
                let (client, connection) = config.connect(tls).await?;
                (client, Box::pin(connection))
            } else {
                let (client, connection) = config.connect(NoTls).await?;
                (client, Box::pin(connection))
            };
            Ok((client, connection))
        };
        let connected = timeout(time, connecting).await;
        let (client, connection) =
            connected.map_err(|_| Fault::TimedOut(time))?.map_err(Fault::Driver)?;
        let talk = PreparedClient { client, statements: HashMap::new() };
        Ok(Self { talk, connection: Some(connection) })
    }

    /// Takes a claim.
    pub(super) async fn claim(&mut self, claim: Claim) -> Result<()> {
        let claimed = self
            .ask(DATABASE_STATEMENT_TIME, async |talk| talk.client.batch_execute(claim.sql()).await)
            .await;
        claimed.map_err(|fault| match &fault {
            Fault::Driver(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let message = "another server has the database open; stop it, or choose another \
                               --database";
                Error::new(Kind::Busy, message)
            }
            Fault::TimedOut(_) | Fault::Driver(_) => fault.translate(),
        })
    }

    /// Sends a statement that needs no answer. The response is passed over before that of the next statement.
    ///
    /// # Errors
    /// That of the connection, if it has ended.
    pub(super) async fn send(&mut self, sql: &str) -> Result<(), PgError> {
        let Self { talk, connection } = self;
        let mut answer = pin!(talk.client.batch_execute(sql));
        poll_fn(|cx| {
            let answered = answer.as_mut().poll(cx);
            // Sends what the statement has queued.
            drive(connection, cx)?;
            Poll::Ready(if let Poll::Ready(answered) = answered { answered } else { Ok(()) })
        })
        .await
    }

    /// Sends statements and waits for their response: `time`, which the database may take for one, and
    /// [`DATABASE_GRACE`].
    pub(super) async fn ask<T>(
        &mut self,
        time: Duration,
        run: impl AsyncFnOnce(&mut PreparedClient) -> Result<T, PgError>,
    ) -> Result<T, Fault> {
        let Self { talk, connection } = self;
        let mut answer = pin!(run(talk));
        let answered = poll_fn(|cx| {
            // The last error of the database says more than that the connection is closed.
            drive(connection, cx)?;
            answer.as_mut().poll(cx)
        });
        let time = time + DATABASE_GRACE;
        timeout(time, answered).await.map_err(|_| Fault::TimedOut(time))?.map_err(Fault::Driver)
    }
}

/// Does the I/O of a connection. Fails with the error with which it has ended.
fn drive(connection: &mut Option<ConnectionTask>, cx: &mut Context<'_>) -> Result<(), PgError> {
    let Some(Poll::Ready(ended)) = connection.as_mut().map(|task| task.as_mut().poll(cx)) else {
        return Ok(());
    };
    *connection = None;
    ended
}

impl PreparedClient {
    /// The prepared statement of a text, prepared once for each connection.
    pub(super) async fn statement(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Statement, PgError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        // Every integer has 64 bits, even where the database would infer fewer.
        let types: Vec<Type> = params.iter().map(param_type).collect();
        let statement = self.client.prepare_typed(sql, &types).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Sends all statements, each with its columns, and then waits for their rows.
    pub(super) async fn all(
        &self,
        asked: Vec<(Statement, Vec<Vec<Param<'_>>>)>,
    ) -> Result<Vec<Vec<tokio_postgres::Row>>, PgError> {
        let answers = asked.iter().map(async |(statement, columns)| {
            let columns: Vec<_> = columns.iter().map(|column| column as _).collect();
            self.client.query(statement, &columns).await
        });
        try_join_all(answers).await
    }
}

/// The error of the operating system that broke a connection.
fn io_error(error: &PgError) -> Option<&io::Error> {
    error.source().and_then(<dyn std::error::Error>::downcast_ref)
}

/// Whether the handshake of TLS failed, for example because a certificate is being renewed.
fn is_tls(error: &PgError) -> bool {
    let inner = io_error(error).and_then(io::Error::get_ref);
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// Converts an error of the database to one for the caller.
fn translate(error: &PgError) -> Error {
    let cause = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if is_tls(error) {
        let message = "the database and this server do not agree on TLS; try again";
        return Error::new(Kind::Busy, message).because(cause);
    }
    let Some(code) = error.code() else {
        if error.is_closed() || io_error(error).is_some() {
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
        SqlState::QUERY_CANCELED,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    // SQLSTATE class 08: connection exceptions.
    if passing.contains(code) || code.code().starts_with("08") {
        return Error::new(Kind::Busy, "the database is busy; try again").because(cause);
    }
    Error::internal(cause)
}
