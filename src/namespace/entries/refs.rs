//! The references of entries to folders and contents.

use crate::{
    error::Result,
    namespace::sql::{Tx, params},
};

/// The SQL condition that an entry refers to a folder.
macro_rules! has_folder_ref {
    ($id:literal) => {
        concat!("EXISTS (SELECT 1 FROM entry e WHERE e.child = ", $id, ")")
    };
}
pub(in crate::namespace) use has_folder_ref;

/// The SQL condition that an entry refers to a content.
macro_rules! has_content_ref {
    ($id:literal) => {
        concat!("EXISTS (SELECT 1 FROM entry e WHERE e.content = ", $id, ")")
    };
}
pub(in crate::namespace) use has_content_ref;

/// The SQL condition that a folder has an entry.
macro_rules! has_entry {
    ($id:literal) => {
        concat!("EXISTS (SELECT 1 FROM entry e WHERE e.folder = ", $id, ")")
    };
}
pub(in crate::namespace) use has_entry;

/// The SQL query for the ids of the folders that have an entry for a folder.
macro_rules! folders_above {
    ($id:literal) => {
        concat!("SELECT e.folder FROM entry e WHERE e.child = ", $id)
    };
}
pub(in crate::namespace) use folders_above;

/// The number of entries that refer to a folder, counted up to 2.
///
/// # Errors
/// Those of the engine.
pub fn folder_refs(tx: &mut Tx<'_>, folder: i64) -> Result<usize> {
    Ok(tx.all("SELECT 1 FROM entry WHERE child = $1 LIMIT 2", params![folder])?.len())
}

/// Whether an entry refers to a content.
///
/// # Errors
/// Those of the engine.
pub fn is_content_used(tx: &mut Tx<'_>, content: i64) -> Result<bool> {
    tx.exists("SELECT 1 FROM entry WHERE content = $1 LIMIT 1", params![content])
}

/// The entries that refer to a folder: their folders and names, at most `limit`.
///
/// # Errors
/// Those of the engine.
pub fn folder_places(tx: &mut Tx<'_>, folder: i64, limit: usize) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT folder, name FROM entry WHERE child = $1
               ORDER BY folder, folded, name LIMIT $2";
    places(tx, sql, folder, limit)
}

/// The entries that refer to a content: their folders and names, at most `limit`.
///
/// # Errors
/// Those of the engine.
pub fn content_places(tx: &mut Tx<'_>, content: i64, limit: usize) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT folder, name FROM entry WHERE content = $1
               ORDER BY folder, folded, name LIMIT $2";
    places(tx, sql, content, limit)
}

fn places(tx: &mut Tx<'_>, sql: &'static str, id: i64, limit: usize) -> Result<Vec<(i64, String)>> {
    let rows = tx.all(sql, params![id, limit as i64])?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}
