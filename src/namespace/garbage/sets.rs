//! Contents that are queued for reclamation together.

use super::count_waiting;
use crate::{
    error::Result,
    namespace::{
        entries,
        sql::{Param, Row, Rows, Set, Tx, count, set},
    },
};

const LOOK_UP: Set = set!(
    concat!(
        "SELECT r.target,
           (SELECT ",
        count!("c.size"),
        " FROM content c WHERE c.id = r.target AND NOT ",
        entries::has_content_ref!("c.id"),
        "),
           (SELECT g.bytes FROM garbage g WHERE g.kind = 2 AND g.id = r.target)
         FROM"
    ),
    ["$1" "target" "BIGINT"],
    ""
);

/// Looks up what contents free that have lost an entry, for [`enqueue_contents`].
pub fn look_up_contents<'a>(contents: impl IntoIterator<Item = i64>) -> Rows<'a> {
    Rows::new(LOOK_UP, contents.into_iter().map(|content| [Param::from(content)]))
}

const WRITE: Set = set!(
    "INSERT INTO garbage (kind, id, since, bytes) SELECT 2, r.target, r.lost, r.frees FROM",
    ["$1" "target" "BIGINT", "$2" "lost" "BIGINT", "$3" "frees" "BIGINT"],
    "WHERE 1 = 1 ON CONFLICT (kind, id) DO UPDATE SET bytes = excluded.bytes, since =
       CASE WHEN excluded.since > garbage.since THEN excluded.since ELSE garbage.since END"
);

/// Queues contents that have lost an entry, whether other references are left or not. `rows` are those of
/// [`look_up_contents`], each content once.
///
/// # Errors
/// Those of the engine.
pub fn enqueue_contents(tx: &mut Tx<'_>, rows: &[Row]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let now = tx.now()?;
    let mut queued = Vec::with_capacity(rows.len());
    for row in rows {
        let (bytes, before) = (row.opt_count(1)?, row.opt_count(2)?);
        count_waiting(tx, before, bytes);
        queued.push([Param::from(row.int(0)?), Param::from(now), Param::from(bytes)]);
    }
    tx.run(&[Rows::new(WRITE, queued)]).map(drop)
}
