//! The entries of folders: the names in a folder and their targets.
//!
//! Only this module has statements on the table `entry`, so that another representation of folders changes
//! one module. The exception are the steps that upgrade a store, which use the table as it was. A statement
//! of another module that asks about entries takes that part of its text from the macros here.
//!
//! **Invariant:** the entries of a folder are ordered by folded name, then name; every page follows that
//! order.
//!
//! **Deliberately absent:** the effects of an entry on the folders above it and on its old target. The
//! callers see to these, above all [`tree`](super::tree).

mod check;
mod pages;
mod path;
mod refs;
mod sets;

pub use check::{Below, Checked, Recount, get_checked, recount, rekey, scan};
pub use pages::{Folders, Link, Linked, Listed, Page, Taken, links, list, take, targets};
pub use path::follow;
pub use refs::{content_places, folder_places, folder_refs, is_content_used};
pub(super) use refs::{folders_above, has_content_ref, has_entry, has_folder_ref};
pub use sets::{Found, found, look_up, write};

use crate::{
    error::Result,
    model::folded,
    namespace::sql::{Row, Tx, params},
};

/// The table, with the placeholders of [`make_tables`](super::sql::Connection::make_tables).
///
/// The index `entry_subfolder` lists the sub-folders of a folder without a scan of its files; `entry_child`
/// shows whether a folder is shared.
macro_rules! table {
    () => {
        "
CREATE TABLE entry (
  folder BIGINT NOT NULL, folded {text} NOT NULL, name {text} NOT NULL,
  child BIGINT, content BIGINT, size BIGINT NOT NULL, version BIGINT NOT NULL,
  modified BIGINT NOT NULL,
  PRIMARY KEY (folder, folded, name)){clustered};
CREATE INDEX entry_child ON entry (child) WHERE child IS NOT NULL;
CREATE INDEX entry_content ON entry (content) WHERE content IS NOT NULL;
CREATE INDEX entry_subfolder ON entry (folder, folded, name, child) WHERE child IS NOT NULL;"
    };
}
pub(super) use table;

/// The key of an entry in its folder: its folded name and its name. The default key is before all others.
pub type Key = (String, String);

/// The smallest key after another one, as no name has a control character.
#[must_use]
pub fn above(key: Key) -> Key {
    (key.0, key.1 + "\u{1}")
}

/// The target of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A folder, by its id.
    Folder(i64),
    /// A file.
    File(File),
}

/// A file, as its entry describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// The id of its content.
    pub content: i64,
    /// Its size in bytes.
    pub size: i64,
    /// The number of its version.
    pub version: i64,
    /// When it was uploaded, in microseconds since 1970.
    pub modified: i64,
}

impl Target {
    /// Reads the columns `child, content, size, version, modified`, from `column` on.
    fn from_row(row: &Row, column: usize) -> Result<Self> {
        if let Some(child) = row.opt_int(column)? {
            return Ok(Self::Folder(child));
        }
        Ok(Self::File(File {
            content: row.int(column + 1)?,
            size: row.count(column + 2)?,
            version: row.int(column + 3)?,
            modified: row.int(column + 4)?,
        }))
    }
}

/// Looks up one name in one folder.
///
/// # Errors
/// Those of the engine.
pub fn get(tx: &mut Tx<'_>, folder: i64, name: &str) -> Result<Option<Target>> {
    let sql = "SELECT child, content, size, version, modified FROM entry
               WHERE folder = $1 AND folded = $2 AND name = $3";
    tx.first(sql, params![folder, &folded(name), name])?
        .map(|row| Target::from_row(&row, 0))
        .transpose()
}

/// Makes an entry or repoints an existing one. The caller releases the old target.
///
/// # Errors
/// Those of the engine.
pub fn put(tx: &mut Tx<'_>, folder: i64, name: &str, target: &Target) -> Result<()> {
    let (child, file) = match target {
        Target::Folder(id) => (Some(*id), None),
        Target::File(file) => (None, Some(*file)),
    };
    tx.execute(
        "INSERT INTO entry (folder, folded, name, child, content, size, version, modified)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (folder, folded, name) DO UPDATE SET
           child = excluded.child, content = excluded.content, size = excluded.size,
           version = excluded.version, modified = excluded.modified",
        params![
            folder,
            &folded(name),
            name,
            child,
            file.map(|file| file.content),
            file.map_or(0, |file| file.size),
            file.map_or(0, |file| file.version),
            file.map_or(0, |file| file.modified),
        ],
    )?;
    Ok(())
}

/// Removes an entry, which must exist. Returns its target, which the caller releases.
///
/// # Errors
/// Those of the engine.
pub fn remove(tx: &mut Tx<'_>, folder: i64, name: &str) -> Result<Link> {
    let sql = "DELETE FROM entry WHERE folder = $1 AND folded = $2 AND name = $3
               RETURNING child, content";
    Link::from_row(&tx.one(sql, params![folder, &folded(name), name])?, 0)
}

/// Removes all entries of a folder. The caller has copied them, or releases their targets.
///
/// # Errors
/// Those of the engine.
pub fn remove_all(tx: &mut Tx<'_>, folder: i64) -> Result<()> {
    tx.execute("DELETE FROM entry WHERE folder = $1", params![folder]).map(drop)
}

/// Whether a folder has no entries.
///
/// # Errors
/// Those of the engine.
pub fn is_empty(tx: &mut Tx<'_>, folder: i64) -> Result<bool> {
    Ok(!tx.exists("SELECT 1 FROM entry WHERE folder = $1 LIMIT 1", params![folder])?)
}

/// Copies all entries of a folder into another one, which must have none of their names.
///
/// # Errors
/// Those of the engine.
pub fn copy_all(tx: &mut Tx<'_>, from: i64, to: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO entry (folder, folded, name, child, content, size, version, modified)
         SELECT $1, folded, name, child, content, size, version, modified FROM entry
         WHERE folder = $2",
        params![to, from],
    )?;
    Ok(())
}

/// Copies a range of entries from the first of two folders into the second, which must have none of their
/// names: those from `start` on and before `before`, or to the end; at most `limit`. Returns the key to
/// continue at, or `None` after the last entry of the range.
///
/// Both ends of the range are bounds in the primary key, so the cost does not depend on the size of the
/// folder.
///
/// # Errors
/// Those of the engine.
pub fn copy_range(
    tx: &mut Tx<'_>,
    (from, to): (i64, i64),
    start: &Key,
    before: Option<&Key>,
    limit: usize,
) -> Result<Option<Key>> {
    let after_all = Key::default();
    let (folder, end) = before.map_or((from + 1, &after_all), |key| (from, key));
    let sql = "SELECT folded, name FROM entry
               WHERE (folder, folded, name) >= ($1, $2, $3) AND (folder, folded, name) < ($4, $5, $6)
               ORDER BY folder, folded, name LIMIT 1 OFFSET $7";
    let range = params![from, &start.0, &start.1, folder, &end.0, &end.1, limit as i64];
    let next = tx.first(sql, range)?.map(|row| key(&row)).transpose()?;
    let (folder, end) = next.as_ref().map_or((folder, end), |key| (from, key));
    tx.execute(
        "INSERT INTO entry (folder, folded, name, child, content, size, version, modified)
         SELECT $1, folded, name, child, content, size, version, modified FROM entry
         WHERE (folder, folded, name) >= ($2, $3, $4) AND (folder, folded, name) < ($5, $6, $7)",
        params![to, from, &start.0, &start.1, folder, &end.0, &end.1],
    )?;
    Ok(next)
}

/// Counts the reach of a folder: the names of the deepest path below it, and the bytes of the longest one,
/// including separators. Reads everything below the folder.
///
/// # Errors
/// Those of the engine.
pub fn farthest(tx: &mut Tx<'_>, folder: i64) -> Result<(i64, i64)> {
    let row = tx.one(
        "WITH RECURSIVE below (id, depth, length) AS (
           SELECT CAST($1 AS BIGINT), CAST(0 AS BIGINT), CAST(0 AS BIGINT)
           UNION SELECT e.child, b.depth + 1, b.length + OCTET_LENGTH(e.name) + 1
           FROM below b JOIN entry e ON e.folder = b.id WHERE e.child IS NOT NULL)
         SELECT MAX(b.depth + 1), MAX(b.length + OCTET_LENGTH(e.name))
         FROM below b JOIN entry e ON e.folder = b.id",
        params![folder],
    )?;
    Ok((row.opt_int(0)?.unwrap_or_default(), row.opt_int(1)?.unwrap_or_default()))
}

/// Reads the key from the columns `folded, name`, which are the first two.
fn key(row: &Row) -> Result<Key> {
    Ok((row.text(0)?, row.text(1)?))
}
