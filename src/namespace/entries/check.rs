//! Entries together with their targets, for the check.

use crate::{
    error::Result,
    model::{Digest, Totals},
    namespace::{
        entries::{Key, Link},
        sql::{Row, Tx, count, params, sum},
    },
};

/// The columns of [`Checked`] and their tables.
macro_rules! checked {
    () => {
        "SELECT e.folder, e.folded, e.name, e.child, e.content, e.size,
           f.files, f.bytes, f.depth, f.length, c.size, c.etag
         FROM entry e LEFT JOIN folder f ON f.id = e.child LEFT JOIN content c ON c.id = e.content "
    };
}

/// An entry and what the row of its target says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The folder of the entry.
    pub folder: i64,
    /// Its key in that folder.
    pub key: Key,
    /// The ids of its target.
    pub link: Link,
    /// The size that the entry itself has.
    pub size: i64,
    /// The totals and reach in the row of the target folder; `None` if there is no such row.
    pub below: Option<Below>,
    /// The size and etag in the row of the target content; `None` if there is no such row.
    pub content: Option<(i64, Option<Digest>)>,
}

/// The totals and reach in the row of a folder, bounded as [`Row::count`] bounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// The number of files, and their bytes.
    pub totals: Totals,
    /// The number of names of the deepest path.
    pub depth: i64,
    /// The bytes of the longest path.
    pub length: i64,
}

impl Checked {
    fn read(row: &Row) -> Result<Self> {
        let below = match row.opt_count(6)? {
            None => None,
            Some(files) => Some(Below {
                totals: Totals { files, bytes: row.count(7)? },
                depth: row.count(8)?,
                length: row.count(9)?,
            }),
        };
        let content = match row.opt_int(10)? {
            None => None,
            Some(size) => Some((size, row.opt_digest(11)?)),
        };
        Ok(Self {
            folder: row.int(0)?,
            key: (row.text(1)?, row.text(2)?),
            link: Link::from_row(row, 3)?,
            size: row.int(5)?,
            below,
            content,
        })
    }
}

/// A page of the entries of all folders, in the order of folder and key: those after `after`, at most
/// `limit`.
///
/// # Errors
/// Those of the engine.
pub fn scan(tx: &mut Tx<'_>, after: &(i64, Key), limit: i64) -> Result<Vec<Checked>> {
    let sql = concat!(
        checked!(),
        "WHERE (e.folder, e.folded, e.name) > ($1, $2, $3)
         ORDER BY e.folder, e.folded, e.name LIMIT $4"
    );
    let (folder, (folded, name)) = after;
    let rows = tx.all(sql, params![*folder, folded, name, limit])?;
    rows.iter().map(Checked::read).collect()
}

/// The entry of a name under a folded name, which may be the wrong one.
///
/// # Errors
/// Those of the engine.
pub fn get_checked(
    tx: &mut Tx<'_>,
    folder: i64,
    folded: &str,
    name: &str,
) -> Result<Option<Checked>> {
    let sql = concat!(checked!(), "WHERE e.folder = $1 AND e.folded = $2 AND e.name = $3");
    let row = tx.first(sql, params![folder, folded, name])?;
    row.as_ref().map(Checked::read).transpose()
}

/// What a folder should say, by its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    /// The number of entries.
    pub entries: i64,
    /// The number of files in the folder and below, and their bytes.
    pub totals: Totals,
    /// The number of names of the deepest path.
    pub depth: i64,
    /// The bytes of the longest path.
    pub length: i64,
    /// The number of entries whose target folder is missing, so that the totals lack its files.
    pub lost: i64,
}

/// Recounts a folder from its entries and from the rows of its sub-folders.
///
/// # Errors
/// Those of the engine.
pub fn recount(tx: &mut Tx<'_>, folder: i64) -> Result<Recount> {
    let row = tx.one(
        concat!(
            "SELECT COUNT(*), ", sum!("CASE WHEN e.child IS NULL THEN 1 ELSE f.files END"), ", ",
            sum!("CASE WHEN e.child IS NULL THEN e.size ELSE f.bytes END"), ",
               CAST(COALESCE(SUM(CASE WHEN e.child IS NOT NULL AND f.id IS NULL THEN 1 ELSE 0 END), 0)
                 AS BIGINT),
               COALESCE(MAX(1 + COALESCE(", count!("f.depth"), ", 0)), 0),
               COALESCE(MAX(OCTET_LENGTH(e.name) + COALESCE(1 + ", count!("f.length"), ", 0)), 0)
             FROM entry e LEFT JOIN folder f ON f.id = e.child WHERE e.folder = $1"
        ),
        params![folder],
    )?;
    Ok(Recount {
        entries: row.int(0)?,
        totals: Totals { files: row.int(1)?, bytes: row.int(2)? },
        depth: row.int(4)?,
        length: row.int(5)?,
        lost: row.int(3)?,
    })
}

/// Moves an entry from the folded name `filed` to the folded name `right`, unless that key has an entry
/// already. Returns whether it was moved.
///
/// # Errors
/// Those of the engine.
pub fn rekey(
    tx: &mut Tx<'_>,
    folder: i64,
    (filed, name): (&str, &str),
    right: &str,
) -> Result<bool> {
    let sql = "SELECT 1 FROM entry WHERE folder = $1 AND folded = $2 AND name = $3";
    if tx.exists(sql, params![folder, right, name])? {
        return Ok(false);
    }
    let sql = "UPDATE entry SET folded = $1 WHERE folder = $2 AND folded = $3 AND name = $4";
    Ok(tx.execute(sql, params![right, folder, filed, name])? > 0)
}
