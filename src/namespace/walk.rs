//! Depth-first walk over the distinct folders below a folder: each folder once, children before parents.
//!
//! The search of a filter, backups, and the verification of a copy use it, each with its own step size. The
//! folder is pinned, so that it does not change between the steps.
//!
//! **Memory.** One page of sub-folders for each open folder, of which there are at most as many as a path has
//! names, and a set of the ids of all visited folders, some bits each.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use roaring::RoaringTreemap;

use crate::{
    error::Result,
    model::StorePath,
    namespace::{entries::Folders, sql::Tx},
};

/// What a walk comes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A folder that is met for the first time. What is below it comes next, then its `Leave`.
    Enter(i64),
    /// A folder in the open one that was met before.
    Again(i64),
    /// A folder below which everything was visited. It is the open one until the walk goes on.
    Leave(i64),
}

/// A folder on the way down.
#[derive(Debug)]
struct Open {
    id: i64,
    /// Its name in the folder above.
    name: String,
    folders: Folders,
    /// The folders of the page that was read.
    ready: VecDeque<(String, i64)>,
}

/// Where a walk stands.
#[derive(Debug)]
pub struct Walk {
    /// The folder to begin at, until that is entered.
    root: Option<i64>,
    /// The folders of one folder that are read at once.
    page_rows: usize,
    seen: RoaringTreemap,
    open: Vec<Open>,
    /// Whether the last open folder is to be closed.
    is_left: bool,
}

impl Walk {
    /// Begins at a folder. Reads at most `page_rows` folders of one at once.
    pub fn new(root: i64, page_rows: usize) -> Self {
        let seen = RoaringTreemap::new();
        Self { root: Some(root), page_rows, seen, open: Vec::new(), is_left: false }
    }

    /// Goes on to the next visit; nothing after the last one. Two statements at most.
    ///
    /// # Errors
    /// Those of the engine; the walk is of no more use then.
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

    fn meet(&mut self, name: String, id: i64) -> Visit {
        if !self.seen.insert(id.cast_unsigned()) {
            return Visit::Again(id);
        }
        let folders = Folders::new(id);
        self.open.push(Open { id, name, folders, ready: VecDeque::new() });
        Visit::Enter(id)
    }

    /// Whether the last visit was the last one.
    pub fn is_over(&self) -> bool {
        self.root.is_none() && self.open.len() <= usize::from(self.is_left)
    }

    /// Where the open folder is, below the one that the walk began at.
    pub fn path(&self) -> StorePath {
        let names = self.open.iter().skip(1).map(|open| &open.name);
        names.fold(StorePath::root(), |path, name| path.child(name))
    }

    /// The folder above the open one, and the name of the open one in it; nothing for the first one.
    pub fn above(&self) -> Option<(i64, &str)> {
        let [.., above, open] = self.open.as_slice() else { return None };
        Some((above.id, &open.name))
    }
}
