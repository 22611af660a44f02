//! Finding the folders that change.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use roaring::RoaringTreemap;

use crate::{
    error::{Error, Kind, Result},
    limits::STEP,
    model::{SkipFiles, Totals},
    namespace::{
        filter::{
            Build, Changed, add,
            cursor::{Folders, Skipped},
            subtract,
        },
        sql::Tx,
        tree::{self, Target},
    },
};

/// A folder on the way down.
#[derive(Debug)]
struct Open {
    id: i64,
    skipped: Skipped,
    folders: Folders,
    /// The folders of the page that is looked at, the next one last.
    page: Vec<i64>,
    /// What is skipped in it and below, as far as it is known.
    less: Totals,
    is_changed: bool,
}

impl Open {
    fn count(&mut self, less: Totals) {
        self.less = add(self.less, less);
        self.is_changed = true;
    }
}

/// Finds the folders that change.
#[derive(Debug)]
pub struct Search {
    root: i64,
    skip: SkipFiles,
    /// Folded names by which a file is left out.
    matched: HashSet<String>,
    /// The folders that were looked at.
    seen: RoaringTreemap,
    changed: HashMap<i64, Changed>,
    /// The changed folders, the deeper ones first.
    order: Vec<i64>,
    path: Vec<Open>,
}

impl Search {
    /// Begins below a folder that is pinned.
    pub fn new(root: i64, skip: SkipFiles) -> Self {
        let mut search = Self {
            root,
            skip,
            matched: HashSet::new(),
            seen: RoaringTreemap::new(),
            changed: HashMap::new(),
            order: Vec::new(),
            path: Vec::new(),
        };
        search.visit(root);
        search
    }

    /// Goes on for about [`STEP`]. Returns whether it is done.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        let started = Instant::now();
        while let Some(open) = self.path.last_mut() {
            if !open.skipped.is_done() {
                for ((folded, _), size) in open.skipped.page(tx, &self.skip)? {
                    open.count(Totals { files: 1, bytes: size });
                    self.matched.insert(folded);
                }
            } else if let Some(child) = open.page.pop() {
                self.visit(child);
            } else if !open.folders.is_done() {
                open.page = open.folders.page(tx)?.into_iter().rev().map(|(_, id)| id).collect();
            } else if let Some(open) = self.path.pop() {
                self.close(tx, &open)?;
            }
            if started.elapsed() >= STEP {
                return Ok(self.path.is_empty());
            }
        }
        Ok(true)
    }

    /// Goes down into a folder that was not looked at; of another one it is known what it is.
    fn visit(&mut self, id: i64) {
        if self.seen.insert(id.cast_unsigned()) {
            self.path.push(Open {
                id,
                skipped: Skipped::new(id, id == self.root),
                folders: Folders::new(id),
                page: Vec::new(),
                less: Totals::default(),
                is_changed: false,
            });
        } else if let Some(below) = self.changed.get(&id)
            && let Some(above) = self.path.last_mut()
        {
            above.count(below.less);
        }
    }

    /// Remembers a folder that changes, all of which is known.
    fn close(&mut self, tx: &mut Tx<'_>, open: &Open) -> Result<()> {
        if !open.is_changed {
            return Ok(());
        }
        let before = tree::totals(tx, &Target::Folder(open.id))?;
        let (after, less) = (subtract(before, open.less), open.less);
        self.changed.insert(open.id, Changed { after, less, ..Changed::default() });
        self.order.push(open.id);
        if let Some(above) = self.path.last_mut() {
            above.count(less);
        }
        Ok(())
    }

    /// The names by which no file is left out, when it is done.
    pub fn unmatched(&self) -> Vec<String> {
        self.skip.unmatched(|name| self.matched.contains(name))
    }

    /// What to build; `None` where nothing is skipped.
    ///
    /// # Errors
    /// `FileNotFound` if nothing is left to copy.
    pub fn plan(self) -> Result<Option<Build>> {
        let Some(root) = self.changed.get(&self.root) else { return Ok(None) };
        if root.after.files == 0 {
            let message = "every file of the source is in skip_files, so nothing is left to copy";
            return Err(Error::new(Kind::FileNotFound, message).field("skip_files"));
        }
        Ok(Some(Build::new(self.root, self.skip, self.changed, self.order)))
    }
}
