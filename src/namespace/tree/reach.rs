//! Reach: the depth and length of the longest paths below a folder. It keeps copies of copies from making
//! paths that are too long to be named.
//!
//! A folder stores an upper bound of the depth and length of the paths below it. A write raises the bound
//! along its path. A removal does not lower it, since that would need a search for the longest remaining
//! path. Before a bound makes a copy fail, it is counted anew, in folders of up to [`REACH_FILES_MAX`] files;
//! in a larger folder, removed long paths still count.

use crate::{
    error::{Error, Kind, Result},
    limits::{PATH_BYTES_MAX, PATH_DEPTH_MAX, REACH_FILES_MAX},
    model::StorePath,
    namespace::{
        entries,
        sql::{Tx, params},
        tree::{self, Target},
    },
};

/// The reach of a folder: upper bounds of the paths below it. Both are 0 for a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The number of names of the deepest path.
    pub depth: i64,
    /// The bytes of the longest path, including the separators between its names.
    pub length: i64,
}

impl Reach {
    /// The reach of a folder that has this one under `name`.
    #[must_use]
    pub fn under(self, name: &str) -> Self {
        let below = if self.length > 0 { self.length + 1 } else { 0 };
        Self { depth: self.depth + 1, length: name.len() as i64 + below }
    }

    /// The maximum of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { depth: self.depth.max(other.depth), length: self.length.max(other.length) }
    }
}

/// The stored reach of a target.
pub fn below(tx: &mut Tx<'_>, target: &Target) -> Result<Reach> {
    let Target::Folder(id) = target else { return Ok(Reach::default()) };
    let row = tx.one("SELECT depth, length FROM folder WHERE id = $1", params![*id])?;
    Ok(Reach { depth: row.count(0)?, length: row.count(1)? })
}

/// Refuses a target at a path if paths below it would be deeper or longer than a path may be, so that no
/// request could name them. Returns the reach of the target.
///
/// # Errors
/// `PathTooLong`.
pub fn check(
    tx: &mut Tx<'_>,
    path: &StorePath,
    target: &Target,
    field: &'static str,
) -> Result<Reach> {
    let far = |reach| path.names().rev().fold(reach, Reach::under);
    let fits =
        |far: Reach| far.depth <= PATH_DEPTH_MAX as i64 && far.length <= PATH_BYTES_MAX as i64;
    let mut reach = below(tx, target)?;
    if !fits(far(reach)) {
        reach = count(tx, target, reach)?;
    }
    let far = far(reach);
    if fits(far) {
        return Ok(reach);
    }
    let message = format!(
        "at \"{path}\" there would be paths of up to {} names and {} bytes; a path has at most \
         {PATH_DEPTH_MAX} and {PATH_BYTES_MAX}",
        far.depth, far.length
    );
    Err(Error::new(Kind::PathTooLong, message).field(field).with("path", path.as_str()))
}

/// Counts the reach of a folder anew, unless it has too many files for that.
fn count(tx: &mut Tx<'_>, target: &Target, known: Reach) -> Result<Reach> {
    let Target::Folder(folder) = target else { return Ok(known) };
    let totals = tree::totals(tx, target)?;
    if totals.files > REACH_FILES_MAX {
        return Ok(known);
    }
    let (depth, length) = entries::farthest(tx, *folder)?;
    let counted = Reach { depth, length };
    tree::set_sums(tx, *folder, totals, counted)?;
    Ok(counted)
}

/// Raises the reach of the folders of a path. `below` is the reach of the target at its end.
pub fn raise(tx: &mut Tx<'_>, path: &StorePath, chain: &[i64], below: Reach) -> Result<()> {
    let mut reach = below;
    for (folder, name) in chain.iter().rev().zip(path.names().rev()) {
        reach = reach.under(name);
        tx.execute(
            "UPDATE folder SET depth = CASE WHEN depth < $1 THEN $1 ELSE depth END,
               length = CASE WHEN length < $2 THEN $2 ELSE length END
             WHERE id = $3 AND (depth < $1 OR length < $2)",
            params![reach.depth, reach.length, *folder],
        )?;
    }
    Ok(())
}
