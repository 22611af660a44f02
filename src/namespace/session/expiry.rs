//! The end of sessions that nobody goes on with.

use crate::{
    error::{Error, Result},
    limits::EXPIRE_ROWS,
    model::SessionId,
    namespace::{
        garbage::{Ref, let_go_if_last},
        sql::{Tx, params},
    },
};

/// Forgets a few sessions that nobody has touched for `life`. Returns whether more may be due.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let sql = "SELECT id FROM upload_session WHERE modified <= $1 ORDER BY modified LIMIT 1";
    let Some(row) = tx.first(sql, params![before])? else { return Ok(false) };
    let id = SessionId::parse(&row.text(0)?).map_err(Error::internal)?;
    // The pieces of a large session go in steps; the session last.
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part, size",
        params![&id.to_string(), EXPIRE_ROWS as i64],
    )?;
    for row in &rows {
        let_go_if_last(tx, Ref::part(row.int(0)?))?;
        let sql = "UPDATE upload_session SET pieces = pieces - 1,
                     received = CASE WHEN received > $1 THEN received - $1 ELSE 0 END WHERE id = $2";
        tx.execute(sql, params![row.count(1)?, &id.to_string()])?;
    }
    if rows.len() < EXPIRE_ROWS {
        tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    }
    Ok(true)
}
