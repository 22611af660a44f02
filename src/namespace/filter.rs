//! The filtered copy of a folder, for `SkipFiles`.
//!
//! First it is found which folders have a skipped file anywhere below: one look-up for each distinct
//! folder and name, never a scan of files. Then those folders, and no others, are built anew beside
//! the tree, the upper ones first; what has no skipped file below is referred to. Emptied folders are
//! left out.
//!
//! The source is pinned, so it does not change between the steps. A folder that occurs many times is
//! looked at once and built once; what it counts for is its number of occurrences times.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{FILTER_STEP_ROWS, STEP},
    model::{MARK_FILE, Progress, SkipFiles, Totals},
    namespace::{
        garbage::Ref,
        pin::{self, Owner},
        reach,
        sql::{Row, Tx, params},
        tree::{self, Target},
    },
};

/// The key of an entry in its folder.
type Key = (String, String);

/// What was found out about one distinct folder.
#[derive(Debug, Default)]
struct Seen {
    /// Its totals in the source.
    before: Totals,
    /// Its totals without what is skipped.
    after: Totals,
    /// Its own skipped files.
    skipped: Totals,
    /// The entries that need a hand, in order: skipped files, and folders that change.
    special: Vec<(Key, Option<i64>)>,
}

impl Seen {
    fn is_affected(&self) -> bool {
        !self.special.is_empty()
    }
}

/// A folder on the way down.
#[derive(Debug)]
struct Open {
    id: i64,
    children: Vec<(Key, i64)>,
    next: usize,
}

/// Finds the folders that change.
#[derive(Debug)]
pub struct Search {
    root: i64,
    skip: SkipFiles,
    /// Folded names by which a file is left out.
    matched: HashSet<String>,
    seen: HashMap<i64, Seen>,
    /// The affected folders, the deeper ones first.
    order: Vec<i64>,
    path: Vec<Open>,
}

impl Search {
    /// Begins below a folder that is pinned.
    pub fn new(root: i64, skip: SkipFiles) -> Self {
        let (seen, order, path) = (HashMap::new(), Vec::new(), Vec::new());
        Self { root, skip, matched: HashSet::new(), seen, order, path }
    }

    /// Goes on for about [`STEP`]. Returns whether it is done.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        let started = Instant::now();
        if self.seen.is_empty() {
            self.open(tx, self.root)?;
        }
        while let Some(open) = self.path.last_mut() {
            if let Some((_, child)) = open.children.get(open.next) {
                let child = *child;
                open.next += 1;
                if !self.seen.contains_key(&child) {
                    self.open(tx, child)?;
                }
            } else if let Some(open) = self.path.pop() {
                self.close(open);
            }
            if started.elapsed() >= STEP {
                return Ok(self.path.is_empty());
            }
        }
        Ok(true)
    }

    /// Looks for skipped files of one folder, and for its folders.
    fn open(&mut self, tx: &mut Tx<'_>, id: i64) -> Result<()> {
        let before = tree::totals(tx, &Target::Folder(id))?;
        let mut seen = Seen { before, after: before, ..Seen::default() };
        for name in self.skip.names() {
            let sql = "SELECT folded, name, size FROM entry
                       WHERE folder = $1 AND folded = $2 AND content IS NOT NULL ORDER BY name";
            for row in tx.all(sql, params![id, name])? {
                let key = key(&row)?;
                // The mark of the source itself always goes along.
                if id == self.root && key.1 == MARK_FILE {
                    continue;
                }
                seen.skipped.files += 1;
                seen.skipped.bytes = seen.skipped.bytes.saturating_add(row.count(2)?);
                if !self.matched.contains(name) {
                    self.matched.insert(name.to_owned());
                }
                seen.special.push((key, None));
            }
        }
        let sql = "SELECT folded, name, child FROM entry
                   WHERE folder = $1 AND child IS NOT NULL ORDER BY folded, name";
        let rows = tx.all(sql, params![id])?;
        let children =
            rows.iter().map(|row| Ok((key(row)?, row.int(2)?))).collect::<Result<Vec<_>>>()?;
        self.seen.insert(id, seen);
        self.path.push(Open { id, children, next: 0 });
        Ok(())
    }

    /// Sums up a folder whose children are all known.
    fn close(&mut self, open: Open) {
        let mut changed = Vec::new();
        let mut less = Totals::default();
        for (key, child) in open.children {
            if let Some(below) = self.seen.get(&child)
                && below.is_affected()
            {
                less.files += below.before.files - below.after.files;
                less.bytes += below.before.bytes - below.after.bytes;
                changed.push((key, Some(child)));
            }
        }
        let Some(seen) = self.seen.get_mut(&open.id) else { return };
        seen.after.files -= seen.skipped.files + less.files;
        seen.after.bytes -= seen.skipped.bytes + less.bytes;
        seen.special.extend(changed);
        seen.special.sort();
        if seen.is_affected() {
            self.order.push(open.id);
        }
    }

    /// The names by which no file is left out, when it is done.
    pub fn unmatched(&self) -> Vec<String> {
        self.skip.unmatched(|name| self.matched.contains(name))
    }

    /// What to build; `None` where nothing is skipped.
    ///
    /// # Errors
    /// `FileNotFound` if nothing is left to copy.
    pub fn plan(mut self) -> Result<Option<Build>> {
        let Some(root) = self.seen.get(&self.root) else { return Ok(None) };
        if root.after.files == 0 {
            let message = "every file of the source is in skip_files, so nothing is left to copy";
            return Err(Error::new(Kind::FileNotFound, message).field("skip_files"));
        }
        if !root.is_affected() {
            return Ok(None);
        }
        self.seen.retain(|_, seen| seen.is_affected());
        self.order.reverse();
        Ok(Some(Build {
            root: self.root,
            seen: self.seen,
            order: self.order,
            made: HashMap::new(),
            occurrences: HashMap::from([(self.root, 1)]),
            at: 0,
            inside: None,
        }))
    }
}

/// Where the building of one folder stands.
#[derive(Debug)]
struct Inside {
    from: i64,
    to: i64,
    /// The first key that is still to do.
    next: Key,
    special: usize,
}

/// Builds the folders that change.
#[derive(Debug)]
pub struct Build {
    root: i64,
    seen: HashMap<i64, Seen>,
    /// Parents before their children.
    order: Vec<i64>,
    /// The new folder of an old one.
    made: HashMap<i64, i64>,
    /// How often an old folder occurs in the source.
    occurrences: HashMap<i64, i64>,
    at: usize,
    inside: Option<Inside>,
}

/// The pins that a filtered copy has: the source, and what it builds.
pub const BUILD_PINS: usize = 2;

impl Build {
    /// Goes on for one bounded transaction. Returns the root of what was built when it is done.
    ///
    /// # Errors
    /// `Cancelled` if a pin is gone.
    pub fn step(
        &mut self,
        tx: &mut Tx<'_>,
        owner: &Owner,
        progress: &mut Progress,
    ) -> Result<Option<i64>> {
        let started = Instant::now();
        let built = self.made.get(&self.root).copied();
        pin::check(tx, &owner.id, if built.is_some() { BUILD_PINS } else { 1 })?;
        if built.is_none() {
            let root = self.make(tx, self.root)?;
            pin::pin(tx, owner, Ref::folder(root))?;
        }
        while let Some(from) = self.order.get(self.at).copied() {
            // A folder that no copy of its parents refers to was dropped with them.
            let Some(to) = self.made.get(&from).copied() else {
                self.at += 1;
                continue;
            };
            let inside = self.inside.take().unwrap_or_else(|| Inside {
                from,
                to,
                next: Key::default(),
                special: 0,
            });
            if let Some(unfinished) = self.fill(tx, inside, started)? {
                self.inside = Some(unfinished);
                return Ok(None);
            }
            self.count(from, progress);
            self.at += 1;
            if started.elapsed() >= STEP {
                break;
            }
        }
        let done = self.at >= self.order.len();
        Ok(if done { self.made.get(&self.root).copied() } else { None })
    }

    fn make(&mut self, tx: &mut Tx<'_>, from: i64) -> Result<i64> {
        let totals = self.seen.get(&from).map(|seen| seen.after).unwrap_or_default();
        let reach = reach::below(tx, &Target::Folder(from))?;
        let to = tree::new_folder(tx, totals, reach)?;
        self.made.insert(from, to);
        Ok(to)
    }

    /// Copies the entries of a folder: the runs between special entries as they are, at most
    /// [`FILTER_STEP_ROWS`] at once; the special ones one by one. Returns where it stands if its time
    /// is up.
    fn fill(
        &mut self,
        tx: &mut Tx<'_>,
        mut inside: Inside,
        started: Instant,
    ) -> Result<Option<Inside>> {
        loop {
            let special = self
                .seen
                .get(&inside.from)
                .and_then(|seen| seen.special.get(inside.special))
                .cloned();
            let before = special.as_ref().map(|(key, _)| key);
            if let Some(next) = copy_run(tx, &inside, before)? {
                inside.next = next;
            } else {
                let Some((key, child)) = special else { return Ok(None) };
                if let Some(child) = child {
                    self.refer(tx, inside.to, &key.1, child)?;
                }
                inside.next = above(key);
                inside.special += 1;
            }
            if started.elapsed() >= STEP {
                return Ok(Some(inside));
            }
        }
    }

    /// Makes the entry of a changed folder, unless nothing is left of it.
    fn refer(&mut self, tx: &mut Tx<'_>, to: i64, name: &str, child: i64) -> Result<()> {
        if self.seen.get(&child).is_none_or(|seen| seen.after.files == 0) {
            return Ok(());
        }
        let made = match self.made.get(&child) {
            Some(made) => *made,
            None => self.make(tx, child)?,
        };
        tree::insert_entry(tx, to, name, &Target::Folder(made))
    }

    /// Counts a finished folder, as often as it occurs, and passes that on to its children.
    fn count(&mut self, from: i64, progress: &mut Progress) {
        let Some(seen) = self.seen.get(&from) else { return };
        let times = self.occurrences.get(&from).copied().unwrap_or_default();
        let mut done = seen.after;
        let mut skipped = seen.skipped;
        for child in seen.special.iter().filter_map(|(_, child)| *child) {
            let Some(below) = self.seen.get(&child) else { continue };
            if below.after.files == 0 {
                skipped.files += below.before.files;
                skipped.bytes += below.before.bytes;
            } else {
                done.files -= below.after.files;
                done.bytes -= below.after.bytes;
                *self.occurrences.entry(child).or_default() += times;
            }
        }
        // Totals that are damaged may say anything.
        let add = |sum: &mut i64, one: i64| *sum = sum.saturating_add(one.saturating_mul(times));
        add(&mut progress.files_done, done.files);
        add(&mut progress.bytes_done, done.bytes);
        add(&mut progress.files_skipped, skipped.files);
        add(&mut progress.bytes_skipped, skipped.bytes);
    }
}

/// Copies the entries from where the building stands up to a key, which is left out, or to the last one;
/// at most [`FILTER_STEP_ROWS`]. Returns the first key that is still to do.
///
/// Both ends are bounds of the one index, whatever else the folder holds.
fn copy_run(tx: &mut Tx<'_>, inside: &Inside, before: Option<&Key>) -> Result<Option<Key>> {
    let from = &inside.next;
    let after_all = Key::default();
    let (folder, end) = before.map_or((inside.from + 1, &after_all), |key| (inside.from, key));
    let sql = "SELECT folded, name FROM entry
               WHERE (folder, folded, name) >= ($1, $2, $3) AND (folder, folded, name) < ($4, $5, $6)
               ORDER BY folder, folded, name LIMIT 1 OFFSET $7";
    let rows = FILTER_STEP_ROWS as i64;
    let next = tx
        .first(sql, params![inside.from, &from.0, &from.1, folder, &end.0, &end.1, rows])?
        .map(|row| key(&row))
        .transpose()?;
    let (folder, end) = next.as_ref().map_or((folder, end), |key| (inside.from, key));
    tx.execute(
        "INSERT INTO entry (folder, folded, name, child, content, size, version, modified)
         SELECT $1, folded, name, child, content, size, version, modified FROM entry
         WHERE (folder, folded, name) >= ($2, $3, $4) AND (folder, folded, name) < ($5, $6, $7)",
        params![inside.to, inside.from, &from.0, &from.1, folder, &end.0, &end.1],
    )?;
    Ok(next)
}

/// The smallest key that is above another one: no name has a control character.
fn above(key: Key) -> Key {
    (key.0, key.1 + "\u{1}")
}

fn key(row: &Row) -> Result<Key> {
    Ok((row.text(0)?, row.text(1)?))
}
