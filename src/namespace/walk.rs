//! Depth-first walk over the distinct folders below a folder: each folder once, children before parents.
//!
//! The search of a filter, backups, and the verification of a copy use it, each with its own step size. The
//! folder is pinned, so that it does not change between the steps.
//!
//! **Memory.** One page of sub-folders for each open folder, of which there are at most as many as a path has
//! names, and a set of the ids of all visited folders, some bits each.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use roaring::RoaringTreemap;

use crate::{
    error::Result,
    model::StorePath,
    namespace::{entries::Folders, sql::Tx},
};

/// A step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A folder that is visited for the first time. The visits below it follow, then its `Leave`.
    Enter(i64),
    /// A sub-folder of the current folder that was visited before.
    Again(i64),
    /// A folder below which everything was visited. It is the current folder until the next call.
    Leave(i64),
}

/// A folder that was entered and not left yet.
#[derive(Debug)]
struct Open {
    id: i64,
    /// Its name in the folder above.
    name: String,
    folders: Folders,
    /// Sub-folders that were read and not visited yet.
    ready: VecDeque<(String, i64)>,
}

/// The state of a walk.
#[derive(Debug)]
pub struct Walk {
    /// The first folder, until it is entered.
    root: Option<i64>,
    /// The number of sub-folders that are read at once.
    page_rows: usize,
    seen: RoaringTreemap,
    open: Vec<Open>,
    /// Whether the last open folder was left, so that the next call removes it.
    is_left: bool,
}

impl Walk {
    /// Begins at a folder. Reads at most `page_rows` sub-folders at once.
    pub fn new(root: i64, page_rows: usize) -> Self {
        let seen = RoaringTreemap::new();
        Self { root: Some(root), page_rows, seen, open: Vec::new(), is_left: false }
    }

    /// Goes to the next visit; `None` after the last one. Runs at most two statements.
    ///
    /// # Errors
    /// Those of the engine; the walk cannot be continued then.
    pub fn next(&mut self, tx: &mut Tx<'_>) -> Result<Option<Visit>> {
        if let Some(root) = self.root.take() {
            return Ok(Some(self.meet(String::new(), root)));
        }
        if std::mem::take(&mut self.is_left) {
            self.open.pop();
        }
        while let Some(open) = self.open.last_mut() {
            if let Some((name, id)) = open.ready.pop_front() {
                return Ok(Some(self.meet(name, id)));
            }
            if open.folders.is_done() {
                self.is_left = true;
                return Ok(Some(Visit::Leave(open.id)));
            }
            let page = open.folders.page(tx, self.page_rows)?;
            open.ready = page.into_iter().map(|((_, name), id)| (name, id)).collect();
        }
        Ok(None)
    }

    /// The distinct sub-folders of the current folder that the next calls of [`Walk::next`] enter, once for each page
    /// of them. Runs at most one statement.
    ///
    /// # Errors
    /// Those of the engine; the walk cannot be continued then.
    pub fn ahead(&mut self, tx: &mut Tx<'_>) -> Result<Vec<i64>> {
        if std::mem::take(&mut self.is_left) {
            self.open.pop();
        }
        let Some(open) = self.open.last_mut() else { return Ok(Vec::new()) };
        if !open.ready.is_empty() || open.folders.is_done() {
            return Ok(Vec::new());
        }
        let page = open.folders.page(tx, self.page_rows)?;
        open.ready = page.into_iter().map(|((_, name), id)| (name, id)).collect();
        let ids: BTreeSet<i64> = open.ready.iter().map(|(_, id)| *id).collect();
        Ok(ids.into_iter().filter(|id| !self.seen.contains(id.cast_unsigned())).collect())
    }

    /// Counts a folder as visited, with everything below it.
    pub fn pass_over(&mut self, id: i64) {
        self.seen.insert(id.cast_unsigned());
    }

    fn meet(&mut self, name: String, id: i64) -> Visit {
        if !self.seen.insert(id.cast_unsigned()) {
            return Visit::Again(id);
        }
        let folders = Folders::new(id);
        self.open.push(Open { id, name, folders, ready: VecDeque::new() });
        Visit::Enter(id)
    }

    /// Whether the visit before was the last one.
    pub fn is_over(&self) -> bool {
        self.root.is_none() && self.open.len() <= usize::from(self.is_left)
    }

    /// The path of the current folder, relative to the first folder.
    pub fn path(&self) -> StorePath {
        let names = self.open.iter().skip(1).map(|open| &open.name);
        names.fold(StorePath::root(), |path, name| path.child(name))
    }

    /// The parent of the current folder, and the name of the current folder in it; `None` for the first
    /// folder.
    pub fn above(&self) -> Option<(i64, &str)> {
        let [.., above, open] = self.open.as_slice() else { return None };
        Some((above.id, &open.name))
    }
}
