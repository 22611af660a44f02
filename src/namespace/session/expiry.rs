//! The end of sessions that nobody goes on with.

use crate::{
    error::{Error, Result},
    limits::EXPIRE_ROWS,
    model::SessionId,
    namespace::{
        counted::Counted,
        garbage::{Ref, let_go_if_last},
        sql::{Tx, params},
    },
};

/// Forgets a few sessions that nobody has touched for `life`. Returns whether more may be due.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let sql = "SELECT id, received, committed FROM upload_session WHERE modified <= $1
               ORDER BY modified LIMIT 1";
    let Some(row) = tx.first(sql, params![before])? else { return Ok(false) };
    let id = SessionId::parse(&row.text(0)?).map_err(Error::internal)?;
    let (received, is_staged) = (row.count(1)?, row.int(2)? == 0);
    // The pieces of a large session go in steps; the session last.
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part, size",
        params![&id.to_string(), EXPIRE_ROWS as i64],
    )?;
    let mut left = received;
    for row in &rows {
        let_go_if_last(tx, Ref::part(row.int(0)?))?;
        left = (left - row.count(1)?).max(0);
    }
    let is_over = rows.len() < EXPIRE_ROWS;
    if is_over {
        left = 0;
        tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    } else {
        let sql = "UPDATE upload_session SET pieces = pieces - $1, received = $2 WHERE id = $3";
        tx.execute(sql, params![rows.len() as i64, left, &id.to_string()])?;
    }
    if is_staged {
        tx.count(Counted::Staging, -i64::from(is_over), left - received);
    }
    Ok(true)
}
