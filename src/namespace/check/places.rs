//! The paths that lead from the root to a row.
//!
//! They are searched upward, along the entries that refer to a folder, so that the cost depends on the number
//! of paths and not on the size of the store.

use std::{collections::HashSet, fmt};

use crate::{
    error::Result,
    limits::{CHECK_CLIMB_MAX, CHECK_PATHS_MAX, PATH_DEPTH_MAX},
    model::StorePath,
    namespace::{
        entries,
        schema::ROOT,
        sql::{Tx, params},
    },
};

/// Paths that lead to a row.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// At most [`CHECK_PATHS_MAX`].
    pub(super) paths: Vec<StorePath>,
    /// Whether there are more.
    pub(super) more: bool,
    /// The number of entries that may still be followed.
    left: usize,
    /// Folders that no path from the root leads to.
    dead: HashSet<i64>,
}

impl Places {
    fn new() -> Self {
        Self { left: CHECK_CLIMB_MAX, ..Self::default() }
    }

    /// The paths of an entry.
    pub(super) fn of_entry(tx: &mut Tx<'_>, folder: i64, name: &str) -> Result<Self> {
        let mut places = Self::new();
        places.climb(tx, folder, name, 0)?;
        Ok(places)
    }

    /// The paths of a folder.
    pub(super) fn of_folder(tx: &mut Tx<'_>, folder: i64) -> Result<Self> {
        let mut places = Self::new();
        places.climb(tx, folder, "", 0)?;
        Ok(places)
    }

    /// The paths of the files with a content.
    pub(super) fn of_content(tx: &mut Tx<'_>, content: i64) -> Result<Self> {
        let mut places = Self::new();
        places.add_content(tx, content)?;
        Ok(places)
    }

    /// The paths of the files and upload sessions with a part.
    pub(super) fn of_part(tx: &mut Tx<'_>, part: i64) -> Result<Self> {
        let mut places = Self::new();
        let sql = "SELECT DISTINCT content FROM content_part WHERE part = $1 LIMIT $2";
        for row in tx.all(sql, params![part, places.left as i64])? {
            places.add_content(tx, row.int(0)?)?;
        }
        let sql =
            "SELECT DISTINCT s.path FROM upload_chunk c JOIN upload_session s ON s.id = c.session
                   WHERE c.part = $1 LIMIT $2";
        for row in tx.all(sql, params![part, places.left as i64])? {
            places.add(StorePath::root().child(&row.text(0)?));
        }
        Ok(places)
    }

    fn add_content(&mut self, tx: &mut Tx<'_>, content: i64) -> Result<()> {
        let entries = entries::content_places(tx, content, self.left)?;
        self.climb_all(tx, &entries, "", 0).map(drop)
    }

    /// Follows the entries that refer to a folder, up to the root. Returns whether a path from the root leads
    /// to it.
    fn climb(&mut self, tx: &mut Tx<'_>, folder: i64, below: &str, depth: usize) -> Result<bool> {
        if folder == ROOT {
            self.add(StorePath::root().child(below));
            return Ok(true);
        }
        // No path is that deep, not even the paths of a format 1 store that are too deep for a request, so
        // this is a cycle.
        if self.is_enough() || depth > 2 * PATH_DEPTH_MAX || self.dead.contains(&folder) {
            return Ok(false);
        }
        let entries = entries::folder_places(tx, folder, self.left)?;
        let is_live = self.climb_all(tx, &entries, below, depth + 1)?;
        if !is_live {
            self.dead.insert(folder);
        }
        Ok(is_live)
    }

    fn climb_all(
        &mut self,
        tx: &mut Tx<'_>,
        entries: &[(i64, String)],
        below: &str,
        depth: usize,
    ) -> Result<bool> {
        let mut is_live = false;
        for (folder, name) in entries {
            if self.is_enough() {
                break;
            }
            self.left -= 1;
            let slash = if below.is_empty() { "" } else { "/" };
            let path = format!("{name}{slash}{below}");
            is_live |= self.climb(tx, *folder, &path, depth)?;
        }
        Ok(is_live)
    }

    fn is_enough(&self) -> bool {
        self.more || self.left == 0
    }

    fn add(&mut self, path: StorePath) {
        if self.paths.len() < CHECK_PATHS_MAX {
            self.paths.push(path);
        } else {
            self.more = true;
        }
    }

    /// Whether a path from the root leads to the row.
    pub(super) fn is_live(&self) -> bool {
        !self.paths.is_empty()
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.paths.as_slice() {
            [] => f.write_str("what no path refers to"),
            [path] if path.is_root() => f.write_str("the root"),
            [path] => write!(f, "\"{path}\""),
            [path, _] if !self.more => write!(f, "\"{path}\" and 1 more path"),
            [path, more @ ..] if !self.more => {
                write!(f, "\"{path}\" and {} more paths", more.len())
            }
            [path, more @ ..] => write!(f, "\"{path}\" and more than {} more paths", more.len()),
        }
    }
}
