//! Where the names of folders led when they were looked up last.
//!
//! The row of a name is found by the id of the folder above it, which is in the row of the name before. With the ids from
//! the last time, the rows of a whole path are read in one statement instead of one for each name.
//!
//! **Invariant:** the cache only says which rows are read together. A path is followed by the rows that the transaction
//! has read, so an entry that is no longer true costs at most one more statement for each name below it, and changes nothing.

use std::collections::HashMap;

use crate::{limits::NAME_CACHE_MAX, model::StorePath, namespace::schema::ROOT};

/// The folders to which names led, by the folder above and the name.
#[derive(Debug, Default)]
pub struct NameCache {
    folders: HashMap<i64, HashMap<String, i64>>,
    names: usize,
}

impl NameCache {
    /// The names on a path, each with the folder above it, as far as the folders are known.
    pub(super) fn follow<'a>(&self, path: &'a StorePath) -> Vec<(i64, &'a str)> {
        let mut found = Vec::new();
        let mut above = Some(ROOT);
        for name in path.names() {
            let Some(folder) = above else { break };
            found.push((folder, name));
            above = self.folders.get(&folder).and_then(|names| names.get(name)).copied();
        }
        found
    }

    /// Keeps to which folder a name leads. A full cache starts anew.
    pub(super) fn keep(&mut self, above: i64, name: &str, folder: i64) {
        if let Some(known) = self.folders.get_mut(&above).and_then(|names| names.get_mut(name)) {
            *known = folder;
            return;
        }
        if self.names == NAME_CACHE_MAX {
            *self = Self::default();
        }
        self.names += 1;
        self.folders.entry(above).or_default().insert(name.to_owned(), folder);
    }
}
