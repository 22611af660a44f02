//! The second phase of a filtered copy: it builds the new versions of the folders that change.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use crate::{
    error::Result,
    limits::{FILTER_PAGE_ROWS, FILTER_STEP_ROWS, STEP},
    model::{Progress, SkipFiles, Totals},
    namespace::{
        entries::{self, Folders, Key, above},
        filter::{Changed, add, skipped::Skipped, subtract, times},
        garbage::Ref,
        pin::{self, Owner},
        reach,
        sql::Tx,
        tree::{self, Target},
    },
};

/// The state of one folder that is being built.
#[derive(Debug)]
struct FolderBuild {
    from: i64,
    to: i64,
    /// The first key that was not processed yet.
    next: Key,
    skipped: Skipped,
    folders: Folders,
    /// The next special entries that were read, in order: skipped files and their sizes,
    files: VecDeque<(Key, i64)>,
    /// and sub-folders that change.
    children: VecDeque<(Key, i64)>,
    /// The totals of its own files and of the sub-folders that do not change.
    done: Totals,
    left_out: Totals,
}

/// An entry that is not copied as it is.
enum Special {
    /// A skipped file and its size.
    File(Key, i64),
    /// A sub-folder that changes.
    Folder(Key, i64),
}

impl Special {
    fn key(&self) -> &Key {
        match self {
            Self::File(key, _) | Self::Folder(key, _) => key,
        }
    }
}

impl FolderBuild {
    fn new(from: i64, to: i64, (root, after): (i64, Totals)) -> Self {
        Self {
            from,
            to,
            next: Key::default(),
            skipped: Skipped::new(from, from == root),
            folders: Folders::new(from),
            files: VecDeque::new(),
            children: VecDeque::new(),
            done: after,
            left_out: Totals::default(),
        }
    }

    /// Reads more entries if the next special entry is unknown. Returns whether it is known now.
    fn look(
        &mut self,
        tx: &mut Tx<'_>,
        skip: &SkipFiles,
        changed: &HashMap<i64, Changed>,
    ) -> Result<bool> {
        if self.files.is_empty() && !self.skipped.is_done() {
            self.files.extend(self.skipped.page(tx, skip)?);
        } else if self.children.is_empty() && !self.folders.is_done() {
            let page = self.folders.page(tx, FILTER_PAGE_ROWS)?.into_iter();
            self.children.extend(page.filter(|(_, id)| changed.contains_key(id)));
        }
        Ok((self.skipped.is_done() || !self.files.is_empty())
            && (self.folders.is_done() || !self.children.is_empty()))
    }

    /// The next special entry; `None` if there are no more.
    fn special(&self) -> Option<Special> {
        let file = self.files.front().map(|(key, size)| Special::File(key.clone(), *size));
        let folder = self.children.front().map(|(key, id)| Special::Folder(key.clone(), *id));
        match (file, folder) {
            (Some(file), Some(folder)) if file.key() < folder.key() => Some(file),
            (file, folder) => folder.or(file),
        }
    }
}

/// The build of the folders that change.
#[derive(Debug)]
pub struct Build {
    root: i64,
    skip: SkipFiles,
    changed: HashMap<i64, Changed>,
    /// The folders that remain to be built, the next one last: parents before their children.
    order: Vec<i64>,
    inside: Option<FolderBuild>,
}

/// The pins of a filtered copy: on the source and on the new root.
pub const BUILD_PINS: usize = 2;

impl Build {
    /// Begins with the folders that change. In `order`, children come before their parents.
    pub(super) fn new(
        root: i64,
        skip: SkipFiles,
        mut changed: HashMap<i64, Changed>,
        order: Vec<i64>,
    ) -> Self {
        if let Some(root) = changed.get_mut(&root) {
            root.times = 1;
        }
        Self { root, skip, changed, order, inside: None }
    }

    /// How many pins the owner must hold before the next step.
    pub fn pins(&self) -> usize {
        if self.made(self.root).is_some() { BUILD_PINS } else { 1 }
    }

    /// Continues for one bounded transaction, in which the caller has checked its [`pins`](Self::pins). Returns the
    /// new root once everything is built.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(
        &mut self,
        tx: &mut Tx<'_>,
        owner: &Owner,
        progress: &mut Progress,
    ) -> Result<Option<i64>> {
        let started = Instant::now();
        if self.made(self.root).is_none() {
            let root = self.make(tx, self.root)?;
            pin::pin(tx, owner, Ref::folder(root))?;
        }
        while let Some(inside) = self.inside.take().or_else(|| self.enter()) {
            let (inside, is_filled) = self.fill(tx, inside, started)?;
            if !is_filled {
                self.inside = Some(inside);
                return Ok(None);
            }
            self.count(&inside, progress);
            if started.elapsed() >= STEP {
                break;
            }
        }
        Ok(if self.order.is_empty() { self.made(self.root) } else { None })
    }

    fn made(&self, from: i64) -> Option<i64> {
        self.changed.get(&from)?.made
    }

    /// The next folder to fill. A folder without a new version is passed over: no parent that was built
    /// refers to it.
    fn enter(&mut self) -> Option<FolderBuild> {
        while let Some(from) = self.order.pop() {
            if let Some(Changed { made: Some(to), after, .. }) = self.changed.get(&from) {
                return Some(FolderBuild::new(from, *to, (self.root, *after)));
            }
        }
        None
    }

    fn make(&mut self, tx: &mut Tx<'_>, from: i64) -> Result<i64> {
        let totals = self.changed.get(&from).map(|changed| changed.after).unwrap_or_default();
        let reach = reach::below(tx, &Target::Folder(from))?;
        let to = tree::new_folder(tx, totals, reach)?;
        self.changed.entry(from).or_default().made = Some(to);
        Ok(to)
    }

    /// Copies the entries of a folder: the ranges between special entries as they are, at most
    /// [`FILTER_STEP_ROWS`] at once; the special entries one by one. Returns the state, and whether the
    /// folder is complete; it is not if the time of the step is up.
    fn fill(
        &mut self,
        tx: &mut Tx<'_>,
        mut inside: FolderBuild,
        started: Instant,
    ) -> Result<(FolderBuild, bool)> {
        loop {
            if inside.look(tx, &self.skip, &self.changed)? {
                let special = inside.special();
                let before = special.as_ref().map(Special::key);
                let folders = (inside.from, inside.to);
                let next =
                    entries::copy_range(tx, folders, &inside.next, before, FILTER_STEP_ROWS)?;
                match (next, special) {
                    (Some(next), _) => inside.next = next,
                    (None, Some(special)) => self.pass(tx, &mut inside, special)?,
                    (None, None) => return Ok((inside, true)),
                }
            }
            if started.elapsed() >= STEP {
                return Ok((inside, false));
            }
        }
    }

    /// Processes a special entry: leaves out a skipped file; gives a sub-folder that changes an entry for its
    /// new version, unless the new version would be empty.
    fn pass(&mut self, tx: &mut Tx<'_>, inside: &mut FolderBuild, special: Special) -> Result<()> {
        let key = match special {
            Special::File(key, bytes) => {
                inside.files.pop_front();
                inside.left_out = add(inside.left_out, Totals { files: 1, bytes });
                key
            }
            Special::Folder(key, child) => {
                inside.children.pop_front();
                let below = self.changed.get(&child).copied().unwrap_or_default();
                if below.after.files == 0 {
                    inside.left_out = add(inside.left_out, add(below.after, below.less));
                } else {
                    let made = match below.made {
                        Some(made) => made,
                        None => self.make(tx, child)?,
                    };
                    entries::put(tx, inside.to, &key.1, &Target::Folder(made))?;
                    inside.done = subtract(inside.done, below.after);
                    let above = self.changed.get(&inside.from).map_or(0, |above| above.times);
                    let below = self.changed.entry(child).or_default();
                    below.times = below.times.saturating_add(above);
                }
                key
            }
        };
        inside.next = above(key);
        Ok(())
    }

    /// Adds a complete folder to the progress, as often as it occurs.
    fn count(&self, inside: &FolderBuild, progress: &mut Progress) {
        let occurs = self.changed.get(&inside.from).map_or(0, |changed| changed.times);
        let done = times(inside.done, occurs);
        let left_out = times(inside.left_out, occurs);
        let sum = |sum: &mut i64, one: i64| *sum = sum.saturating_add(one);
        sum(&mut progress.files_done, done.files);
        sum(&mut progress.bytes_done, done.bytes);
        sum(&mut progress.files_skipped, left_out.files);
        sum(&mut progress.bytes_skipped, left_out.bytes);
    }
}
