//! The conditions of a write, judged in its transaction.

use crate::{
    error::Result,
    model::{Conditions, Found, Replaces, StorePath},
    namespace::{
        content,
        sql::Tx,
        tree::{self, Target},
    },
};

/// Judges the conditions of a write that puts something at a path, or removes what is there. Without
/// conditions nothing is read.
///
/// # Errors
/// `PreconditionFailed`.
pub fn check(tx: &mut Tx<'_>, path: &StorePath, conditions: &Conditions) -> Result<()> {
    if conditions.is_empty() {
        return Ok(());
    }
    let found = match tree::resolve(tx, path)? {
        None => Found::Nothing,
        Some(Target::Folder(_)) => Found::Folder,
        Some(Target::File(file)) => {
            Found::File { etag: content::digests(tx, file.content)?.0, modified: file.modified }
        }
    };
    conditions.check(path, &found)
}

/// The same for a file. What refuses it anyway comes first.
///
/// # Errors
/// Those of [`tree::check_file_fits`], then `PreconditionFailed`.
pub fn check_file(
    tx: &mut Tx<'_>,
    (path, replaces): (&StorePath, Replaces),
    conditions: &Conditions,
) -> Result<()> {
    tree::check_file_fits(tx, path, replaces)?;
    check(tx, path, conditions)
}
