//! Finding the folders that change.

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

/// A folder on the way down.
#[derive(Debug)]
struct Open {
    skipped: Skipped,
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
    walk: Walk,
    changed: HashMap<i64, Changed>,
    /// The changed folders, the deeper ones first.
    order: Vec<i64>,
    /// The open folders of the walk.
    path: Vec<Open>,
}

impl Search {
    /// Begins below a folder that is pinned.
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

    /// Goes on for about [`STEP`]. Returns whether it is done.
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

    /// Goes on to the next folder; of one that was looked at it is known what changes.
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

    /// Remembers a folder that changes, all of which is known.
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
