//! The first phase of a filtered copy: the search for the folders that change.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{FILTER_PAGE_ROWS, STEP},
    model::{SkipFiles, Totals},
    namespace::{
        filter::{Build, Changed, add, skipped::Skipped, subtract},
        sql::Tx,
        tree::{self, Target},
        walk::{Visit, Walk},
    },
};

/// A folder that the walk has entered and not left yet.
#[derive(Debug)]
struct Open {
    skipped: Skipped,
    /// The totals of the skipped files found so far in it and below.
    less: Totals,
    is_changed: bool,
}

impl Open {
    fn count(&mut self, less: Totals) {
        self.less = add(self.less, less);
        self.is_changed = true;
    }
}

/// The search for the folders that change.
#[derive(Debug)]
pub struct Search {
    root: i64,
    skip: SkipFiles,
    /// The folded names that have matched a file so far.
    matched: HashSet<String>,
    walk: Walk,
    changed: HashMap<i64, Changed>,
    /// The folders that change; children come before their parents.
    order: Vec<i64>,
    /// The open folders of the walk, from the root down.
    path: Vec<Open>,
}

impl Search {
    /// Begins at a folder, which must be pinned.
    pub fn new(root: i64, skip: SkipFiles) -> Self {
        Self {
            root,
            skip,
            matched: HashSet::new(),
            walk: Walk::new(root, FILTER_PAGE_ROWS),
            changed: HashMap::new(),
            order: Vec::new(),
            path: Vec::new(),
        }
    }

    /// Continues for about [`STEP`]. Returns whether the search is done.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        let started = Instant::now();
        while !self.walk.is_over() {
            match self.path.last_mut() {
                Some(open) if !open.skipped.is_done() => {
                    for ((folded, _), size) in open.skipped.page(tx, &self.skip)? {
                        open.count(Totals { files: 1, bytes: size });
                        self.matched.insert(folded);
                    }
                }
                _ => self.visit(tx)?,
            }
            if started.elapsed() >= STEP {
                break;
            }
        }
        Ok(self.walk.is_over())
    }

    /// Goes to the next visit of the walk. For a folder that was visited before, the result is known.
    fn visit(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        match self.walk.next(tx)? {
            Some(Visit::Enter(id)) => self.path.push(Open {
                skipped: Skipped::new(id, id == self.root),
                less: Totals::default(),
                is_changed: false,
            }),
            Some(Visit::Again(id)) => {
                if let Some(below) = self.changed.get(&id)
                    && let Some(above) = self.path.last_mut()
                {
                    above.count(below.less);
                }
            }
            Some(Visit::Leave(id)) => {
                if let Some(open) = self.path.pop().filter(|open| open.is_changed) {
                    self.close(tx, id, open.less)?;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Records a folder that changes, below which everything was searched.
    fn close(&mut self, tx: &mut Tx<'_>, id: i64, less: Totals) -> Result<()> {
        let before = tree::totals(tx, &Target::Folder(id))?;
        let after = subtract(before, less);
        self.changed.insert(id, Changed { after, less, ..Changed::default() });
        self.order.push(id);
        if let Some(above) = self.path.last_mut() {
            above.count(less);
        }
        Ok(())
    }

    /// The names of the skip list that have matched no file. Complete once the search is done.
    pub fn unmatched(&self) -> Vec<String> {
        self.skip.unmatched(|name| self.matched.contains(name))
    }

    /// The build that follows the search; `None` if no file is skipped.
    ///
    /// # Errors
    /// `FileNotFound` if every file is skipped.
    pub fn plan(self) -> Result<Option<Build>> {
        let Some(root) = self.changed.get(&self.root) else { return Ok(None) };
        if root.after.files == 0 {
            let message = "every file of the source is in skip_files, so nothing is left to copy";
            return Err(Error::new(Kind::FileNotFound, message).field("skip_files"));
        }
        Ok(Some(Build::new(self.root, self.skip, self.changed, self.order)))
    }
}
