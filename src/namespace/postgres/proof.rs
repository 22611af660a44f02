//! The proof at the start that a database keeps what the store relies on.
//!
//! Two connections show it by what they see, whatever the database calls itself: that each has a session of its own,
//! that the second waits for the write lock of the first, and that it then sees what the first has committed. Engines
//! that speak the protocol of PostgreSQL differ in these: locks that are accepted and do nothing, or a snapshot under
//! the name READ COMMITTED.

use std::time::Duration;

use tokio::{
    select,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    limits::{DATABASE_STATEMENT_TIME, LOCK_PROOF_EVERY, LOCK_PROOF_TIME, POOLER_PROOF_TIME},
    namespace::postgres::{
        BEGIN_WRITE, PostgresUrl,
        session::{Claim, Fault, Session},
    },
};

/// Opens the connection that writes, which takes a claim and has `time` for each statement.
///
/// # Errors
/// `InvalidArgument` for a database that does not keep what the store relies on, and the errors of
/// [`Session::connect`].
pub(super) async fn connect(url: &PostgresUrl, claim: Claim, time: Duration) -> Result<Session> {
    let mut first = Session::connect(url, None, time).await?;
    let mut second = Session::connect(url, None, DATABASE_STATEMENT_TIME).await?;
    // Before the claim, which a pooler would keep.
    let pid = own_session(&mut first, &mut second).await?;
    first.claim(claim).await?;
    let table = format!("proof_{}", Uuid::new_v4().simple());
    let make = format!("CREATE TABLE {table} (value BIGINT); INSERT INTO {table} VALUES (0)");
    run(&mut first, &make).await?;
    let proven = locks(&mut first, &mut second, &table, pid).await;
    // Ends a transaction that a refusal has left, and with it the locks on the table.
    drop(second);
    run(&mut first, "ROLLBACK").await?;
    run(&mut first, &format!("DROP TABLE {table}")).await?;
    proven.map(|()| first)
}

/// Proves that each connection has a session of its own, and returns the process of the second one. A pooler that shares
/// sessions gives a client another one while the session of its last statement is in a transaction.
async fn own_session(first: &mut Session, second: &mut Session) -> Result<i32> {
    let before = pid(second).await?;
    run(first, "BEGIN").await?;
    let after = timeout(POOLER_PROOF_TIME, pid(second)).await;
    if !matches!(after, Ok(Ok(after)) if after == before) {
        return Err(refused(
            "a pooler shares its sessions between clients, so that settings and locks of a session are \
             lost; name the database itself, or a pooler in session mode",
        ));
    }
    run(first, "ROLLBACK").await?;
    Ok(before)
}

/// Proves that `second`, whose process is `pid`, waits for the write lock of `first`, and sees then what `first` has
/// committed.
async fn locks(first: &mut Session, second: &mut Session, table: &str, pid: i32) -> Result<()> {
    run(first, BEGIN_WRITE).await?;
    run(first, &format!("UPDATE {table} SET value = 1")).await?;
    {
        let begin = run(second, BEGIN_WRITE);
        tokio::pin!(begin);
        select! {
            begun = &mut begin => {
                begun?;
                return Err(refused(
                    "its write lock does not keep a second writer out; the store needs PostgreSQL, or an \
                     engine whose locks do the same",
                ));
            }
            waits = waits(first, pid) => waits?,
        }
        run(first, "COMMIT").await?;
        begin.await?;
    }
    let value: i64 = one(second, &format!("SELECT value FROM {table}")).await?;
    if value == 1 {
        return Ok(());
    }
    Err(refused(
        "a writer that waited for the write lock does not see what its holder committed; the store needs the \
         isolation READ COMMITTED of PostgreSQL",
    ))
}

/// Waits until the process `pid` waits for a lock, or for [`LOCK_PROOF_TIME`] where the database does not tell.
async fn waits(session: &mut Session, pid: i32) -> Result<()> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE pid = {pid} AND NOT granted)");
    let asking = async {
        while !one::<bool>(session, &sql).await? {
            sleep(LOCK_PROOF_EVERY).await;
        }
        Ok(())
    };
    timeout(LOCK_PROOF_TIME, asking).await.unwrap_or(Ok(()))
}

async fn pid(session: &mut Session) -> Result<i32> {
    one(session, "SELECT pg_backend_pid()").await
}

/// Runs statements without parameters.
async fn run(session: &mut Session, sql: &str) -> Result<()> {
    let done =
        session.ask(DATABASE_STATEMENT_TIME, async |talk| talk.client.batch_execute(sql).await);
    done.await.map_err(|fault: Fault| fault.translate())
}

/// The one value of a query.
async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    session: &mut Session,
    sql: &str,
) -> Result<T> {
    let asked = session.ask(DATABASE_STATEMENT_TIME, async |talk| {
        talk.client.query_one(sql, &[]).await?.try_get(0)
    });
    asked.await.map_err(|fault: Fault| fault.translate())
}

fn refused(why: &str) -> Error {
    Error::invalid("database", format!("the database cannot hold a store: {why}"))
}
