//! The rows of servers: each run of a server has one, from its start on.
//!
//! A row is alive, draining or dead, and a dead one is never alive again: a new run has a new id. Its count of commits
//! rises while the server is there; it is also the heartbeat. What follows from a death is read from the rows: a server
//! without a living row has no running operations and no pins, and the background work clears those away.
//!
//! A dead row is kept for [`SERVER_ROW_LIFE`](crate::limits::SERVER_ROW_LIFE), because a server that was stopped for a
//! while reads in it whether its last commit was made.

mod observer;

use std::time::Duration;

use uuid::Uuid;

pub use observer::{Observer, boot_time};

use crate::{
    error::Result,
    limits::{EXPIRE_ROWS, micros},
    model::OperationError,
    namespace::{
        migration::Purpose,
        operation, pin,
        schema::FORMAT,
        sql::{Row, Tx, params},
    },
};

/// The state of a row: the server runs.
const ALIVE: i64 = 1;
/// The state of a row: the server stops, and does no background work.
const DRAINING: i64 = 2;
/// The state of a row: the server has ended, or was declared dead.
const DEAD: i64 = 3;

/// A server that joins a store.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The id of this run.
    pub id: Uuid,
    /// An earlier run that has certainly ended.
    pub previous: Option<Uuid>,
    /// Whether an earlier run has found that the database has lost commits.
    pub has_lost_commits: bool,
    /// How long the count of the server may stand still before others declare it dead. `None`: no other server uses
    /// the store.
    pub lease: Option<Duration>,
    /// What the store is opened for.
    pub purpose: Purpose,
}

impl Joining {
    /// A server that has the store for itself.
    pub fn alone(id: Uuid) -> Self {
        Self { id, previous: None, has_lost_commits: false, lease: None, purpose: Purpose::Serve }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The id of the run.
    pub id: String,
    /// The number of its commits.
    pub batch: i64,
    /// Its lease in microseconds; 0: without.
    pub lease: i64,
    /// The newest format that its program knows.
    pub speaks: i64,
}

/// Adds the row of a server that starts. Declares its earlier run dead; and all others, if it has the store for itself.
/// Returns whether the database has lost commits: the earlier run has found that, or its row is missing.
pub fn register(tx: &mut Tx<'_>, joining: &Joining) -> Result<bool> {
    let now = tx.now()?;
    if joining.lease.is_none() {
        let sql = "UPDATE server SET state = $1, ended = $2 WHERE state <> $1";
        tx.execute(sql, params![DEAD, now])?;
    }
    // The claim shows that no server has the store for itself any more.
    let sql = "UPDATE server SET state = $1, ended = $2 WHERE lease = 0 AND state <> $1";
    tx.execute(sql, params![DEAD, now])?;
    let mut is_lost = joining.has_lost_commits;
    if let Some(previous) = joining.previous.map(|id| id.to_string()) {
        is_lost |= !tx.exists("SELECT 1 FROM server WHERE id = $1", params![&previous])?;
        end(tx, &previous)?;
    }
    tx.execute(
        "INSERT INTO server (id, batch, state, lease, speaks) VALUES ($1, 0, $2, $3, $4)",
        params![&joining.id.to_string(), ALIVE, joining.lease.map_or(0, micros), FORMAT],
    )?;
    Ok(is_lost)
}

/// Declares a server dead.
pub fn end(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let now = tx.now()?;
    let sql = "UPDATE server SET state = $1, ended = $2 WHERE id = $3 AND state <> $1";
    tx.execute(sql, params![DEAD, now, id]).map(drop)
}

/// Marks a server as one that stops: others do the background work.
pub fn drain(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let sql = "UPDATE server SET state = $1 WHERE id = $2 AND state = $3";
    tx.execute(sql, params![DRAINING, id, ALIVE]).map(drop)
}

/// The rows of all servers that are not dead, in the order of ids.
pub fn living(tx: &mut Tx<'_>) -> Result<Vec<Server>> {
    let sql = "SELECT id, batch, lease, speaks FROM server WHERE state <> $1 ORDER BY id";
    let rows = tx.all(sql, params![DEAD])?;
    let server = |row: &Row| {
        Ok(Server { id: row.text(0)?, batch: row.int(1)?, lease: row.int(2)?, speaks: row.int(3)? })
    };
    rows.iter().map(server).collect()
}

/// Whether a server is alive and the first of those that do not stop: that one does the background work of the store.
pub fn is_first(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    let sql = "SELECT id FROM server WHERE state = $1 ORDER BY id LIMIT 1";
    let first = tx.first(sql, params![ALIVE])?;
    Ok(first.map(|row| row.text(0)).transpose()?.as_deref() == Some(id))
}

/// Whether a server has a living row.
pub fn is_alive(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    tx.exists("SELECT 1 FROM server WHERE id = $1 AND state <> $2", params![id, DEAD])
}

/// The servers without a living row that have pins or running operations.
pub fn dead_owners(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let mut owners = pin::servers(tx)?;
    owners.extend(operation::owners(tx)?);
    owners.sort_unstable();
    owners.dedup();
    let mut dead = Vec::new();
    for owner in owners {
        if !is_alive(tx, &owner)? {
            dead.push(owner);
        }
    }
    Ok(dead)
}

/// Fails the running operations of a server without a living row, and drops a step of its pins. Returns the operations,
/// and whether there may be more pins.
pub fn clear(tx: &mut Tx<'_>, id: &str, error: &OperationError) -> Result<(u64, bool)> {
    if is_alive(tx, id)? {
        return Ok((0, false));
    }
    let failed = operation::fail_of(tx, id, error)?;
    Ok((failed, pin::unpin_of(tx, id)?))
}

/// Deletes one step of the rows of servers that died at least `life` microseconds ago. Returns whether there may be
/// more.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let deleted = tx.execute(
        "DELETE FROM server WHERE id IN (SELECT id FROM server WHERE ended <= $1 LIMIT $2)",
        params![before, EXPIRE_ROWS as i64],
    )?;
    Ok(deleted == EXPIRE_ROWS as u64)
}
