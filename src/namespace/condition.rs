//! The conditions of a write, checked in its transaction.

use crate::{
    error::Result,
    model::{Conditions, Found, Replaces, StorePath},
    namespace::{
        content,
        sql::Tx,
        tree::{self, Target},
    },
};

/// Checks the conditions of a write or delete at a path against what is at the path now. Without conditions
/// nothing is read.
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

/// Checks the conditions of a write of a file. Errors that do not depend on the conditions take precedence.
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
