//! Objects that are marked for deletion.

use std::collections::HashSet;

use crate::{
    error::{Error, Kind, Result},
    namespace::{
        counted::Counted,
        sql::{Param, Rows, Set, Tx, params, set},
    },
};

/// Marks an object of `size` bytes for deletion, unless a part has it: a caller that marks an object it has
/// put cannot know whether the transaction that names the object was committed.
pub fn tombstone_object(tx: &mut Tx<'_>, object: &str, size: i64) -> Result<()> {
    if tx.exists("SELECT 1 FROM part WHERE object = $1", params![object])? {
        return Ok(());
    }
    let now = tx.now()?;
    let sql = "INSERT INTO dead_object (object, size, since) VALUES ($1, $2, $3)
               ON CONFLICT (object) DO NOTHING RETURNING size";
    if let Some(row) = tx.first(sql, params![object, size, now])? {
        tx.count(Counted::Dead, 1, row.count(0)?);
    }
    Ok(())
}

/// Removes the mark of an object, if there is one. Returns whether the object was claimed for deletion.
fn unmark(tx: &mut Tx<'_>, object: &str) -> Result<bool> {
    let sql = "DELETE FROM dead_object WHERE object = $1 RETURNING claimed, size";
    let Some(row) = tx.first(sql, params![object])? else { return Ok(false) };
    tx.count(Counted::Dead, -1, -row.count(1)?);
    Ok(row.int(0)? != 0)
}

/// An object that is marked for deletion, and since when, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadObject {
    /// When it was marked.
    pub since: i64,
    /// Its key.
    pub key: String,
}

/// Up to `limit` objects that have been marked for deletion for at least `hold` microseconds, the oldest first: those
/// after `after`.
pub fn dead_objects(
    tx: &mut Tx<'_>,
    after: &DeadObject,
    hold: i64,
    limit: usize,
) -> Result<Vec<DeadObject>> {
    let before = tx.now()?.saturating_sub(hold);
    let sql = "SELECT since, object FROM dead_object
               WHERE (since, object) > ($1, $2) AND since <= $3 ORDER BY since, object LIMIT $4";
    let rows = tx.all(sql, params![after.since, &after.key, before, limit as i64])?;
    rows.iter().map(|row| Ok(DeadObject { since: row.int(0)?, key: row.text(1)? })).collect()
}

/// Claims objects that are marked for deletion: from now on no part can name them. Returns the claimed ones.
/// An object that a part names loses its mark instead; an object without a mark is left out.
pub fn claim_objects(tx: &mut Tx<'_>, objects: Vec<String>) -> Result<Vec<String>> {
    let mut claimed = Vec::with_capacity(objects.len());
    for object in objects {
        if tx.exists("SELECT 1 FROM part WHERE object = $1", params![&object])? {
            unmark(tx, &object)?;
            continue;
        }
        let sql = "UPDATE dead_object SET claimed = 1 WHERE object = $1";
        if tx.execute(sql, params![&object])? > 0 {
            claimed.push(object);
        }
    }
    Ok(claimed)
}

/// Removes the mark of an object that a part is about to name.
///
/// # Errors
/// `Busy` if the object is claimed for deletion: its bytes must be put again, under another key.
pub fn remove_tombstone(tx: &mut Tx<'_>, object: &str) -> Result<()> {
    if unmark(tx, object)? {
        let message = "the bytes of a part were deleted as a leftover before they got their place; try \
                       again";
        return Err(Error::new(Kind::Busy, message));
    }
    Ok(())
}

/// Removes the marks of objects that were deleted.
pub fn forget_objects(tx: &mut Tx<'_>, objects: &[String]) -> Result<()> {
    for object in objects {
        unmark(tx, object)?;
    }
    Ok(())
}

const UNKNOWN: Set = set!(
    "SELECT r.asked FROM",
    ["$1" "asked" "TEXT"],
    "WHERE NOT EXISTS (SELECT 1 FROM part WHERE object = r.asked)
       AND NOT EXISTS (SELECT 1 FROM dead_object WHERE object = r.asked)"
);

/// Whether a part names an object or the object is marked for deletion. The sweep removes only others.
pub fn is_known_object(tx: &mut Tx<'_>, object: &str) -> Result<bool> {
    let [unknown] = tx.run(&[Rows::new(UNKNOWN, [[Param::from(object)]])])?;
    Ok(unknown.is_empty())
}

/// Those of the objects that [`is_known_object`] does not know.
pub fn unknown_objects(tx: &mut Tx<'_>, objects: &[String]) -> Result<HashSet<String>> {
    let asked = objects.iter().map(|object| [Param::from(object.as_str())]);
    let [rows] = tx.run(&[Rows::new(UNKNOWN, asked)])?;
    rows.iter().map(|row| row.text(0)).collect()
}
