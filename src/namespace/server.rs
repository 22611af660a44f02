//! The rows of servers: each run of a server has one, from its start on.
//!
//! A row is alive or dead, and a dead one is never alive again: a new run has a new id. A dead row is kept for
//! [`SERVER_ROW_LIFE`](crate::limits::SERVER_ROW_LIFE), because a server that was stopped for a while reads in it whether
//! its last commit was made.

use crate::{
    error::Result,
    limits::EXPIRE_ROWS,
    namespace::{
        schema::FORMAT,
        sql::{Tx, params},
    },
};

/// The state of a row: the server runs.
const ALIVE: i64 = 1;
/// The state of a row: the server has ended, or was declared dead.
const DEAD: i64 = 3;

/// Adds the row of a server that starts, and declares all others dead: no other server uses the store.
pub fn register(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let now = tx.now()?;
    tx.execute("UPDATE server SET state = $1, ended = $2 WHERE state <> $1", params![DEAD, now])?;
    tx.execute(
        "INSERT INTO server (id, batch, state, speaks) VALUES ($1, 0, $2, $3)",
        params![id, ALIVE, FORMAT],
    )?;
    Ok(())
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
