//! The plan: what each file becomes, as if the files were put one after the other.
//!
//! The ids of new folders and contents are negative until their rows are made: -1 is the first.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PlainFile,
    contents::{Stored, StoredContent, StoredPart},
    look::Seen,
};
use crate::{
    limits::TOTAL_MAX,
    model::{Digest, Found as At, StorePath, Totals, folded},
    namespace::{
        content::{Part, Place},
        entries::{File, Found, Target},
        schema::ROOT,
        tree::{Change, reach::Reach},
    },
};

/// A file that is put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put<'a> {
    pub(super) file: &'a PlainFile,
    pub(super) files_replaced: i64,
}

/// A content that is not stored, with the part that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewContent<'a> {
    pub(super) file: &'a PlainFile,
    /// The id of its part; `None` for a part of the plan, and without a part.
    pub(super) part: Option<i64>,
}

/// What is written. The version of a file is its number among the files that are put, from 1 on.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// What becomes of each file; `None` if it is left out.
    pub(super) puts: Vec<Option<Put<'a>>>,
    pub(super) folders: usize,
    pub(super) parts: Vec<&'a Part>,
    pub(super) contents: Vec<NewContent<'a>>,
    /// The new targets, by folder, folded name and name.
    pub(super) entries: BTreeMap<(i64, String, &'a str), Target>,
    pub(super) changes: BTreeMap<i64, Change>,
    /// The contents that lose an entry.
    pub(super) replaced: BTreeSet<i64>,
}

/// Plans files on what was seen of the store.
pub(super) fn plan<'a>(seen: Seen, files: &[&'a PlainFile]) -> Plan<'a> {
    let mut planner = Planner { seen, ..Planner::default() };
    for file in files {
        let put = planner.put(file);
        if put.is_none() {
            planner.left_out.push(&file.path);
        }
        planner.plan.puts.push(put);
    }
    planner.plan
}

/// A plan that is being made, and the store as it is after what is planned so far.
#[derive(Debug, Default)]
struct Planner<'a> {
    seen: Seen,
    plan: Plan<'a>,
    left_out: Vec<&'a StorePath>,
    /// The number of files that are put.
    put: i64,
}

/// The way to the place of a file.
#[derive(Debug)]
struct Way<'a> {
    /// The folders that are there, from the root on.
    chain: Vec<i64>,
    /// The names of those that are not.
    missing: Vec<&'a str>,
    name: &'a str,
    /// The file that is there.
    old: Option<(File, Option<Digest>)>,
}

/// How a content is stored, or its part.
#[derive(Clone, Copy, Debug)]
enum Stock {
    /// Under this id; in the plan if it is negative.
    Stored(i64),
    /// Not yet, and its part under this id.
    New(Option<i64>),
}

impl<'a> Planner<'a> {
    /// Plans a file; `None` if it is left out.
    fn put(&mut self, file: &'a PlainFile) -> Option<Put<'a>> {
        let path = &file.path;
        if self
            .left_out
            .iter()
            .any(|other| *other == path || path.is_below(other) || other.is_below(path))
        {
            return None;
        }
        let way = self.walk(path)?;
        let at =
            way.old.map_or(At::Nothing, |(file, etag)| At::File { etag, modified: file.modified });
        file.conditions.check(path, &at).ok()?;
        let stock = self.stock(file)?;
        let old = way.old.map(|(file, _)| file);
        let delta = Totals {
            files: i64::from(old.is_none()),
            bytes: file.size() - old.map_or(0, |old| old.size),
        };
        let root = &mut self.seen.root;
        let totals = Totals { files: root.files + delta.files, bytes: root.bytes + delta.bytes };
        if totals.files > TOTAL_MAX || totals.bytes > TOTAL_MAX {
            return None;
        }
        *root = totals;
        self.put += 1;
        let content = match stock {
            Stock::Stored(content) => content,
            Stock::New(part) => self.add_content(file, part),
        };
        let version = self.put;
        // The time is not known yet; a condition on it is for a job of its own.
        let new = File { content, size: file.size(), version, modified: i64::MAX };
        self.add_entry(file, way, new, delta);
        self.plan.replaced.extend(old.map(|old| old.content));
        Some(Put { file, files_replaced: i64::from(old.is_some()) })
    }

    /// The way to the place of a file; `None` if it leads through a shared folder or a file, or ends at a folder.
    fn walk(&self, path: &'a StorePath) -> Option<Way<'a>> {
        let (above, name) = path.split_last()?;
        let mut names = above.into_iter();
        let (mut chain, mut missing, mut folder) = (vec![ROOT], Vec::new(), ROOT);
        for next in names.by_ref() {
            match self.seen.get(folder, next) {
                None => {
                    missing.push(next);
                    missing.extend(names);
                    return Some(Way { chain, missing, name, old: None });
                }
                Some(Found { target: Target::Folder(child), is_shared: false, .. }) => {
                    folder = *child;
                    chain.push(folder);
                }
                Some(_) => return None,
            }
        }
        let old = match self.seen.get(folder, name) {
            None => None,
            Some(Found { target: Target::File(file), etag, .. }) => Some((*file, *etag)),
            Some(_) => return None,
        };
        Some(Way { chain, missing, name, old })
    }

    /// How the content of a file is stored; `None` if it is stored in another way than its upload stores it.
    fn stock(&self, file: &PlainFile) -> Option<Stock> {
        let made = self.plan.contents.iter().position(|made| made.file.etag == file.etag);
        if let Some((at, made)) = made.and_then(|at| Some((at, self.plan.contents.get(at)?))) {
            let is_same = match (&made.file.part, &file.part) {
                (None, None) => true,
                (Some(one), Some(other)) => is_same_place(one, other),
                _ => false,
            };
            return is_same.then_some(Stock::Stored(-1 - at as i64));
        }
        let Stored { part: stored, content, .. } = self.seen.contents.get(&file.etag)?;
        let part = match (&file.part, stored) {
            (Some(part), Some(stored)) if is_stored(part, stored) => Some(stored.id),
            (Some(part), None) if self.is_new(part) => None,
            (Some(_), _) => return None,
            (None, _) => None,
        };
        match content {
            None => Some(Stock::New(part)),
            Some(content) if is_content(file, part, content) => Some(Stock::Stored(content.id)),
            Some(_) => None,
        }
    }

    /// Whether a part that is not stored can be: it has its bytes, or an object that is not being deleted.
    fn is_new(&self, part: &Part) -> bool {
        match &part.place {
            Place::Inline(_) => true,
            Place::Object(object) => !self.seen.dead.contains(object),
            Place::Stored => false,
        }
    }

    /// Adds the content of a file, and its part if that is not stored under an id. Returns its id.
    fn add_content(&mut self, file: &'a PlainFile, part: Option<i64>) -> i64 {
        self.plan.parts.extend(file.part.as_ref().filter(|_| part.is_none()));
        self.plan.contents.push(NewContent { file, part });
        -(self.plan.contents.len() as i64)
    }

    /// Adds the entry of a file and the folders above it, and counts it in all folders of its path.
    fn add_entry(&mut self, file: &PlainFile, way: Way<'a>, new: File, delta: Totals) {
        let Way { mut chain, missing, name, .. } = way;
        let mut folder = chain.last().copied().unwrap_or(ROOT);
        for name in missing {
            self.plan.folders += 1;
            let made = -(self.plan.folders as i64);
            let target = Target::Folder(made);
            self.add(folder, name, Found { target, is_shared: false, etag: None });
            chain.push(made);
            folder = made;
        }
        let target = Target::File(new);
        self.add(folder, name, Found { target, is_shared: false, etag: Some(file.etag) });
        let mut reach = Reach::default();
        for (folder, name) in chain.iter().rev().zip(file.path.names().rev()) {
            reach = reach.under(name);
            self.plan.changes.entry(*folder).or_default().add(delta, reach);
        }
    }

    fn add(&mut self, folder: i64, name: &'a str, found: Found) {
        self.plan.entries.insert((folder, folded(name), name), found.target);
        self.seen.entries.entry(folder).or_default().insert(name.to_owned(), found);
    }
}

/// Whether two files of a plan bring a part in the same place.
fn is_same_place(one: &Part, other: &Part) -> bool {
    match (&one.place, &other.place) {
        (Place::Inline(_), Place::Inline(_)) => true,
        (Place::Object(one), Place::Object(other)) => one == other,
        _ => false,
    }
}

/// Whether a part is stored as its upload would store it.
fn is_stored(part: &Part, stored: &StoredPart) -> bool {
    match &part.place {
        Place::Inline(bytes) => stored.bytes.as_ref() == Some(bytes) && stored.object.is_none(),
        Place::Object(object) => stored.object.as_ref() == Some(object),
        Place::Stored => true,
    }
}

/// Whether a stored content is that of a file whose part is stored under an id.
fn is_content(file: &PlainFile, part: Option<i64>, stored: &StoredContent) -> bool {
    (stored.size, stored.digest) == (file.size(), Some(file.digest()))
        && (stored.parts, stored.first) == (i64::from(file.part.is_some()), part)
}
