//! What a plan knows of the store: the entries on the paths of its files, their parts and contents.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    error::Result,
    model::{Digest, StorePath, Totals, folded},
    namespace::{
        entries::{self, Found, Target},
        group::{
            PlainFile,
            contents::{self, Stored},
            name_cache::NameCache,
        },
        schema::ROOT,
        sql::{Row, Rows, Tx},
        tree,
    },
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The entries of each folder, by their names. Nothing is at a name on the path of a file that is not here.
    pub(super) entries: HashMap<i64, HashMap<String, Found>>,
    /// What is stored of the parts and contents of the files, by the etags of the contents.
    pub(super) contents: HashMap<Digest, Stored>,
    /// The objects of the files that are marked for deletion.
    pub(super) dead: HashSet<String>,
    /// The totals of the store.
    pub(super) root: Totals,
}

impl Seen {
    /// Adds entries that were looked up, and keeps in the cache to which folders they lead.
    fn add(&mut self, rows: &[Row], cache: &mut NameCache) -> Result<()> {
        for row in rows {
            let (folder, name, found) = entries::found(row)?;
            if let Target::Folder(below) = found.target {
                cache.keep(folder, &name, below);
            }
            self.entries.entry(folder).or_default().insert(name, found);
        }
        Ok(())
    }

    /// The first name on a path that has to be looked up, and the folder above it.
    fn next<'a>(
        &self,
        path: &'a StorePath,
        asked: &BTreeSet<(i64, &str)>,
    ) -> Option<(i64, &'a str)> {
        let mut folder = ROOT;
        for name in path.names() {
            if !asked.contains(&(folder, name)) {
                return Some((folder, name));
            }
            match self.get(folder, name)? {
                Found { target: Target::Folder(below), is_shared: false, .. } => folder = *below,
                Found { .. } => return None,
            }
        }
        None
    }

    /// The entry of a name in a folder.
    pub(super) fn get(&self, folder: i64, name: &str) -> Option<&Found> {
        self.entries.get(&folder)?.get(name)
    }
}

/// Looks up the paths, parts and contents of files: in one round trip as far as the names are in the cache, and one more
/// for each further depth, as far as the paths lead through folders that are not shared.
pub(super) fn look(tx: &mut Tx<'_>, files: &[&PlainFile], cache: &mut NameCache) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut asked: BTreeSet<_> = files.iter().flat_map(|file| cache.follow(&file.path)).collect();
    let names = Names::new(asked.iter().copied());
    let contents = files.iter().map(|file| (&file.etag, file.part.as_ref()));
    let [entries, contents, root] =
        tx.run(&[names.look_up(), contents::look_up(contents), tree::look_up_totals([ROOT])])?;
    seen.add(&entries, cache)?;
    for row in contents {
        let mut stored = contents::stored(&row)?;
        seen.dead.extend(stored.dead.take());
        seen.contents.insert(stored.etag, stored);
    }
    if let Some(row) = root.first() {
        seen.root = Totals { files: row.count(0)?, bytes: row.count(1)? };
    }
    loop {
        let next = files.iter().filter_map(|file| seen.next(&file.path, &asked));
        let next: BTreeSet<_> = next.collect();
        if next.is_empty() {
            return Ok(seen);
        }
        let [entries] = tx.run(&[Names::new(next.iter().copied()).look_up()])?;
        seen.add(&entries, cache)?;
        asked.extend(next);
    }
}

/// Names to look up, each with the folder above it.
struct Names<'a>(Vec<(i64, String, &'a str)>);

impl<'a> Names<'a> {
    fn new(names: impl Iterator<Item = (i64, &'a str)>) -> Self {
        Self(names.map(|(folder, name)| (folder, folded(name), name)).collect())
    }

    fn look_up(&self) -> Rows<'_> {
        let names = self.0.iter();
        entries::look_up(names.map(|(folder, folded, name)| (*folder, folded.as_str(), *name)))
    }
}
