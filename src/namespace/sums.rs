//! The sums that the store keeps of its own rows, so that reading them needs no recount.
//!
//! **Invariant:** a function that adds, changes or removes a counted row reports this through [`Tx::count`],
//! and the engine adds the report to the sums in the same transaction. So the error of a sum is its
//! difference from a recount in the same snapshot, and does not change while others write.

use crate::{
    error::Result,
    model::Usage,
    namespace::{
        counted::{Counted, Sums},
        sql::{Param, Rows, Set, Tx, count, set, sum},
    },
};

/// Reads the sums.
///
/// # Errors
/// Those of the engine.
pub fn kept(tx: &mut Tx<'_>) -> Result<Sums> {
    let mut sums = Sums::default();
    for row in tx.all("SELECT kind, number, bytes FROM sums", &[])? {
        let kind = row.int(0)?;
        if let Some(what) = Counted::ALL.iter().copied().find(|what| *what as i64 == kind) {
            sums.add(what, Usage { count: row.count(1)?, bytes: row.count(2)? });
        }
    }
    Ok(sums)
}

const ADD: Set = set!(
    "INSERT INTO sums (kind, number, bytes) SELECT r.what, r.rows, r.size FROM",
    ["$1" "what" "BIGINT", "$2" "rows" "BIGINT", "$3" "size" "BIGINT"],
    concat!(
        "WHERE 1 = 1 ON CONFLICT (kind) DO UPDATE SET number = ",
        count!("sums.number"),
        " + excluded.number, bytes = ",
        count!("sums.bytes"),
        " + excluded.bytes"
    )
);

/// Adds changes to the sums.
///
/// # Errors
/// Those of the engine.
pub fn keep(tx: &mut Tx<'_>, changes: &Sums) -> Result<()> {
    let rows = changes.iter().map(|(what, change)| {
        [Param::from(what as i64), Param::from(change.count), Param::from(change.bytes)]
    });
    let rows = Rows::new(ADD, rows);
    if rows.is_empty() {
        return Ok(());
    }
    tx.run(&[rows]).map(drop)
}

/// Counts the rows of a kind anew.
///
/// # Errors
/// Those of the engine.
pub fn recount(tx: &mut Tx<'_>, what: Counted) -> Result<Usage> {
    let sql = match what {
        Counted::Folders => "SELECT COUNT(*), CAST(0 AS BIGINT) FROM folder",
        Counted::Contents => "SELECT COUNT(*), CAST(0 AS BIGINT) FROM content",
        Counted::Inline => {
            concat!("SELECT COUNT(*), ", sum!("size"), " FROM part WHERE object IS NULL")
        }
        Counted::Objects => {
            concat!("SELECT COUNT(*), ", sum!("size"), " FROM part WHERE object IS NOT NULL")
        }
        Counted::Dead => concat!("SELECT COUNT(*), ", sum!("size"), " FROM dead_object"),
        Counted::Waiting => {
            concat!("SELECT COUNT(*), ", sum!("bytes"), " FROM garbage WHERE bytes IS NOT NULL")
        }
        Counted::Staging => {
            concat!(
                "SELECT COUNT(*), ",
                sum!("received"),
                " FROM upload_session WHERE committed = 0"
            )
        }
    };
    let row = tx.one(sql, &[])?;
    Ok(Usage { count: row.int(0)?, bytes: row.int(1)? })
}
