//! The repairs, where they are safe.
//!
//! The verdict was found in an earlier snapshot. A repair looks at its row again only as far as it needs, so
//! that it blocks writers only for a few rows. A count is repaired by adding the difference that was found: a
//! writer changes the count and the rows by the same amount, so the difference stays the same.
//!
//! **Invariants:** a repair never removes anything that has a path. Totals are repaired only in folders that
//! the root leads to, because an unfinished copy has folders whose totals are ahead of their entries. Targets
//! without a reference are queued with [`enqueue_garbage`]; reclamation checks them again before it deletes
//! anything.

use crate::{
    error::Result,
    limits::{CHECK_REPAIR_ROWS, TOTAL_MAX},
    model::{Totals, folded},
    namespace::{
        check::folders,
        counted::Counted,
        entries,
        garbage::{Ref, enqueue_garbage, is_garbage, is_referenced},
        reach::Reach,
        sql::{Tx, params},
        tree,
    },
};

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Queues a target for reclamation, as nothing refers to it.
    Release(Ref),
    /// Moves an entry that is under a wrong folded name: its folder, that folded name, its name.
    Rekey(i64, String, String),
    /// Corrects a folder: its id, the totals and reach in its row, and those of its entries.
    Recount(i64, (Totals, Reach), (Totals, Reach)),
    /// Corrects a session: its id, the bytes in its row, and the bytes of its chunks.
    Received(String, i64, i64),
    /// Removes the chunks of a missing session.
    Chunks(String),
}

/// The result of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairResult {
    /// It is done.
    Yes,
    /// It has more rows to process.
    More,
    /// It is impossible, or no longer needed.
    No,
}

impl RepairResult {
    fn when(is_mended: bool) -> Self {
        if is_mended { Self::Yes } else { Self::No }
    }
}

/// Runs a repair, or a step of a few rows.
///
/// # Errors
/// Those of the engine; nothing is changed then.
pub fn repair(tx: &mut Tx<'_>, repair: &Repair) -> Result<RepairResult> {
    match repair {
        Repair::Release(target) => {
            if is_referenced(tx, *target)? || is_garbage(tx, *target)? {
                return Ok(RepairResult::No);
            }
            enqueue_garbage(tx, *target)?;
            Ok(RepairResult::Yes)
        }
        Repair::Rekey(folder, filed, name) => rekey(tx, (*folder, filed, name)),
        Repair::Recount(folder, said, is) => recount(tx, *folder, *said, *is),
        Repair::Received(session, said, is) => received(tx, session, (*said, *is)),
        Repair::Chunks(session) => chunks(tx, session),
    }
}

/// Moves an entry to the folded form of its name, unless there is an entry of the same name already.
fn rekey(tx: &mut Tx<'_>, (folder, filed, name): (i64, &str, &str)) -> Result<RepairResult> {
    let is_filed = entries::rekey(tx, folder, (filed, name), &folded(name))?;
    if is_filed {
        tree::count_change(tx, folder)?;
    }
    Ok(RepairResult::when(is_filed))
}

/// Adds the difference that was found to the totals of a folder, and corrects its reach.
fn recount(
    tx: &mut Tx<'_>,
    folder: i64,
    said: (Totals, Reach),
    is: (Totals, Reach),
) -> Result<RepairResult> {
    let Some((totals, reach)) = folders::sums(tx, folder)? else { return Ok(RepairResult::No) };
    let totals = Totals {
        files: moved(totals.files, said.0.files, is.0.files),
        bytes: moved(totals.bytes, said.0.bytes, is.0.bytes),
    };
    // The reach is an upper bound, so one that was raised since is kept.
    let is_untouched = reach == said.1 || !folders::is_possible(reach);
    let reach = if is_untouched { is.1 } else { reach.or(is.1) };
    tree::set_sums(tx, folder, totals, reach)?;
    tree::count_change(tx, folder)?;
    Ok(RepairResult::Yes)
}

/// The right value of a count that was `said` when `is` was right, and is `now` after later changes.
fn moved(now: i64, said: i64, is: i64) -> i64 {
    let since = now.saturating_sub(said);
    is.saturating_add(since).clamp(0, TOTAL_MAX)
}

fn received(tx: &mut Tx<'_>, session: &str, (said, is): (i64, i64)) -> Result<RepairResult> {
    let sql = "SELECT received FROM upload_session WHERE id = $1 AND committed = 0";
    let Some(row) = tx.first(sql, params![session])? else { return Ok(RepairResult::No) };
    let right = moved(row.int(0)?, said, is);
    tx.count(Counted::Staging, 0, right - row.count(0)?);
    let sql = "UPDATE upload_session SET received = $1 WHERE id = $2";
    tx.execute(sql, params![right, session])?;
    Ok(RepairResult::Yes)
}

/// Removes one step of the chunks of a missing session.
fn chunks(tx: &mut Tx<'_>, session: &str) -> Result<RepairResult> {
    if tx.exists("SELECT 1 FROM upload_session WHERE id = $1", params![session])? {
        return Ok(RepairResult::No);
    }
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part",
        params![session, CHECK_REPAIR_ROWS],
    )?;
    for row in &rows {
        enqueue_garbage(tx, Ref::part(row.int(0)?))?;
    }
    let is_over = (rows.len() as i64) < CHECK_REPAIR_ROWS;
    Ok(if is_over { RepairResult::Yes } else { RepairResult::More })
}
