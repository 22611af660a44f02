//! The expiry of sessions that no client continues.

use crate::{
    error::{Error, Result},
    limits::EXPIRE_ROWS,
    model::SessionId,
    namespace::{
        counted::Counted,
        session::{OPEN, commit::drop_some},
        sql::{Tx, params},
    },
};

/// Drops one step of pieces of the session that has been unchanged for the longest time, if that is at least
/// `life` microseconds, and its row with the last of them. Returns whether there was such a session.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let sql = "SELECT id, received, committed FROM upload_session WHERE modified <= $1
               ORDER BY modified LIMIT 1";
    let Some(row) = tx.first(sql, params![before])? else { return Ok(false) };
    let id = SessionId::parse(&row.text(0)?).map_err(Error::internal)?;
    let (received, is_staged) = (row.count(1)?, row.int(2)? == OPEN);
    // The pieces of a large session are dropped in steps; its row is deleted last.
    let (dropped, bytes) = drop_some(tx, id)?;
    let is_over = dropped < EXPIRE_ROWS;
    let left = if is_over { 0 } else { (received - bytes).max(0) };
    if is_over {
        tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    } else {
        let sql = "UPDATE upload_session SET pieces = pieces - $1, received = $2 WHERE id = $3";
        tx.execute(sql, params![dropped as i64, left, &id.to_string()])?;
    }
    if is_staged {
        tx.count(Counted::Staging, -i64::from(is_over), left - received);
    }
    Ok(true)
}
