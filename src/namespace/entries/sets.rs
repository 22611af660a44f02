//! Entries of many folders, looked up and written together.

use crate::{
    error::Result,
    model::Digest,
    namespace::{
        entries::Target,
        sql::{Param, Row, Rows, Set, set},
    },
};

/// An entry that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its target.
    pub target: Target,
    /// Whether the target is a folder that another entry or a pin refers to, too.
    pub is_shared: bool,
    /// The entity tag of the target, if it is a file.
    pub etag: Option<Digest>,
}

const LOOK_UP: Set = set!(
    "SELECT e.folder, e.name, e.child, e.content, e.size, e.version, e.modified,
       CASE WHEN e.child IS NULL THEN 0
         WHEN EXISTS (SELECT 1 FROM entry o WHERE o.child = e.child
                      AND (o.folder <> e.folder OR o.name <> e.name)) THEN 1
         WHEN EXISTS (SELECT 1 FROM pin p WHERE p.kind = 1 AND p.target = e.child) THEN 1
         ELSE 0 END,
       (SELECT c.etag FROM content c WHERE c.id = e.content)
     FROM",
    ["$1" "of" "BIGINT", "$2" "folds" "TEXT", "$3" "named" "TEXT"],
    "JOIN entry e ON e.folder = r.of AND e.folded = r.folds AND e.name = r.named"
);

/// Looks up names in folders. `keys` are the folders, folded names and names.
pub fn look_up<'a>(keys: impl IntoIterator<Item = (i64, &'a str, &'a str)>) -> Rows<'a> {
    let row =
        |(folder, folded, name)| [Param::from(folder), Param::from(folded), Param::from(name)];
    Rows::new(LOOK_UP, keys.into_iter().map(row))
}

/// Reads a row of [`look_up`]: the folder, the name, and what is there.
///
/// # Errors
/// `Internal` for a damaged row.
pub fn found(row: &Row) -> Result<(i64, String, Found)> {
    let (target, is_shared) = (Target::from_row(row, 2)?, row.int(7)? != 0);
    Ok((row.int(0)?, row.text(1)?, Found { target, is_shared, etag: row.opt_digest(8)? }))
}

const WRITE: Set = set!(
    "INSERT INTO entry (folder, folded, name, child, content, size, version, modified)
     SELECT r.of, r.folds, r.named, r.below, r.made, r.long, r.numbered, r.put FROM",
    ["$1" "of" "BIGINT", "$2" "folds" "TEXT", "$3" "named" "TEXT", "$4" "below" "BIGINT",
     "$5" "made" "BIGINT", "$6" "long" "BIGINT", "$7" "numbered" "BIGINT", "$8" "put" "BIGINT"],
    "WHERE 1 = 1 ON CONFLICT (folder, folded, name) DO UPDATE SET
       child = excluded.child, content = excluded.content, size = excluded.size,
       version = excluded.version, modified = excluded.modified"
);

/// Makes entries or repoints existing ones; no two have the same folder and name. `entries` are the folders,
/// folded names, names and targets. The caller releases the old targets.
pub fn write<'a>(entries: impl IntoIterator<Item = (i64, &'a str, &'a str, Target)>) -> Rows<'a> {
    let row = |(folder, folded, name, target): (i64, &'a str, &'a str, Target)| {
        let (child, file) = match target {
            Target::Folder(id) => (Some(id), None),
            Target::File(file) => (None, Some(file)),
        };
        [
            Param::from(folder),
            Param::from(folded),
            Param::from(name),
            Param::from(child),
            Param::from(file.map(|file| file.content)),
            Param::from(file.map_or(0, |file| file.size)),
            Param::from(file.map_or(0, |file| file.version)),
            Param::from(file.map_or(0, |file| file.modified)),
        ]
    };
    Rows::new(WRITE, entries.into_iter().map(row))
}
