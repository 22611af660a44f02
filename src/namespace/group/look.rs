//! What a plan knows of the store: the entries on the paths of its files, their parts and contents.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    error::Result,
    model::{Digest, Totals, folded},
    namespace::{
        entries::{self, Found, Target},
        group::{
            PlainFile,
            contents::{self, Stored},
        },
        schema::ROOT,
        sql::Tx,
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
    /// The entry of a name in a folder.
    pub(super) fn get(&self, folder: i64, name: &str) -> Option<&Found> {
        self.entries.get(&folder)?.get(name)
    }
}

/// Looks up the paths, parts and contents of files: one statement for the names of each depth, as far as the paths
/// lead through folders that are not shared, and one round trip for the rest.
pub(super) fn look(tx: &mut Tx<'_>, files: &[&PlainFile]) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut walks: Vec<_> = files.iter().map(|file| (ROOT, file.path.names())).collect();
    loop {
        let mut next = Vec::with_capacity(walks.len());
        for (folder, mut names) in walks {
            if let Some(name) = names.next() {
                next.push((folder, name, names));
            }
        }
        if next.is_empty() {
            break;
        }
        look_up(tx, &mut seen, next.iter().map(|(folder, name, _)| (*folder, *name)).collect())?;
        let into = |(folder, name, names)| match seen.get(folder, name)? {
            Found { target: Target::Folder(child), is_shared: false, .. } => Some((*child, names)),
            Found { .. } => None,
        };
        walks = next.into_iter().filter_map(into).collect();
    }
    let contents = files.iter().map(|file| (&file.etag, file.part.as_ref()));
    let [contents, root] = tx.run(&[contents::look_up(contents), tree::look_up_totals([ROOT])])?;
    for row in contents {
        let mut stored = contents::stored(&row)?;
        seen.dead.extend(stored.dead.take());
        seen.contents.insert(stored.etag, stored);
    }
    if let Some(row) = root.first() {
        seen.root = Totals { files: row.count(0)?, bytes: row.count(1)? };
    }
    Ok(seen)
}

/// Looks up the names of one depth.
fn look_up(tx: &mut Tx<'_>, seen: &mut Seen, keys: BTreeSet<(i64, &str)>) -> Result<()> {
    let keys: Vec<_> =
        keys.into_iter().map(|(folder, name)| (folder, folded(name), name)).collect();
    let keys = keys.iter().map(|(folder, folded, name)| (*folder, folded.as_str(), *name));
    let [rows] = tx.run(&[entries::look_up(keys)])?;
    for row in rows {
        let (folder, name, found) = entries::found(&row)?;
        seen.entries.entry(folder).or_default().insert(name, found);
    }
    Ok(())
}
