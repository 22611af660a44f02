//! The folder of a package, and the walk over everything below it.
//!
//! The folder is pinned, so that writers clone what they change, and the walk can read it in pages, each in a read
//! transaction of its own. Unlike [`walk`](super::walk), this walk goes to a folder as often as a path leads to it,
//! and in the order of listings.

use std::{collections::VecDeque, time::Instant};

use crate::{
    error::{Error, Kind, Result},
    limits::{PACKAGE_FILES_MAX, PACKAGE_PAGE_ROWS, PATH_DEPTH_MAX, STEP},
    model::{MARK_FILE, StorePath, Totals},
    namespace::{
        entries::{self, Key},
        garbage::Ref,
        pin::{self, Owner},
        reach::{self, Reach},
        sql::Tx,
        tree::{self, File, Target},
    },
};

/// The folder of a package, which is pinned.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its id.
    pub folder: i64,
    /// The totals of everything below it.
    pub totals: Totals,
    /// Its change tag: the same tag, the same package.
    pub change_tag: String,
    /// How deep and how long the paths below it are.
    pub reach: Reach,
}

/// Looks up the folder of a package, and pins it.
///
/// # Errors
/// `FolderNotFound` if nothing or a file is at the path, `TooLarge` for more than [`PACKAGE_FILES_MAX`] files.
pub fn take(tx: &mut Tx<'_>, owner: &Owner, path: &StorePath) -> Result<Root> {
    let missing = |message: String| {
        Error::new(Kind::FolderNotFound, message).field("path").with("path", path.as_str())
    };
    let folder = match tree::resolve(tx, path)? {
        Some(Target::Folder(folder)) => folder,
        Some(Target::File(_)) => {
            let message =
                format!("\"{path}\" is a file, and a package is a folder; download the file");
            return Err(missing(message));
        }
        None => return Err(missing(format!("there is no folder \"{path}\""))),
    };
    let target = Target::Folder(folder);
    let totals = tree::totals(tx, &target)?;
    if totals.files > PACKAGE_FILES_MAX {
        let files = totals.files;
        let message = format!(
            "\"{path}\" has {files} files; a package has at most {PACKAGE_FILES_MAX}; name a folder below it"
        );
        return Err(Error::new(Kind::TooLarge, message).field("path").with("path", path.as_str()));
    }
    let (change_tag, reach) = (tree::change_tag(tx, folder)?, reach::below(tx, &target)?);
    pin::pin(tx, owner, Ref::folder(folder))?;
    Ok(Root { folder, totals, change_tag, reach })
}

/// An entry of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path, relative to the folder of the package.
    pub path: String,
    /// The file; `None` for an empty folder.
    pub file: Option<File>,
    /// When it was uploaded, in microseconds since 1970; for an empty folder, that of its mark file.
    pub modified: i64,
}

/// A folder that is being read.
#[derive(Debug)]
struct Open {
    id: i64,
    /// The length of the path of its parent, with the separator.
    begin: usize,
    /// The last key that was read; `None` after the last page.
    after: Option<Key>,
    rows: VecDeque<(String, Target)>,
    /// Whether it has an entry beside its mark file.
    is_filled: bool,
    /// When its mark file was uploaded.
    marked: Option<i64>,
}

impl Open {
    fn new(id: i64, begin: usize) -> Self {
        let after = Some(Key::default());
        Self { id, begin, after, rows: VecDeque::new(), is_filled: false, marked: None }
    }
}

/// The state of a walk. Its memory is one page of entries for each open folder.
#[derive(Debug)]
pub struct Walk {
    open: Vec<Open>,
    /// The path of the current folder, with a separator at its end; empty for the first folder.
    path: String,
}

impl Walk {
    /// Begins at a folder, which must be pinned.
    pub fn new(folder: i64) -> Self {
        Self { open: vec![Open::new(folder, 0)], path: String::new() }
    }

    /// The next entries, at most [`PACKAGE_PAGE_ROWS`], after about [`STEP`] fewer or none; `None` after the last one.
    /// Mark files are left out. Of the folders only those have an entry that contain nothing else.
    ///
    /// # Errors
    /// `Corrupt` for a folder that is deeper than any path; those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Vec<Item>>> {
        let started = Instant::now();
        if self.open.is_empty() {
            return Ok(None);
        }
        let mut items = Vec::new();
        while !self.open.is_empty() && items.len() < PACKAGE_PAGE_ROWS && started.elapsed() < STEP {
            items.extend(self.next(tx)?);
        }
        Ok(Some(items))
    }

    /// Goes to the next entry, or reads the next page.
    fn next(&mut self, tx: &mut Tx<'_>) -> Result<Option<Item>> {
        let depth = self.open.len();
        let Some(open) = self.open.last_mut() else { return Ok(None) };
        if let Some((name, target)) = open.rows.pop_front() {
            return match target {
                Target::Folder(id) => {
                    open.is_filled = true;
                    if depth > PATH_DEPTH_MAX {
                        let message = format!("\"{}{name}\" is deeper than any path", self.path);
                        return Err(Error::new(Kind::Corrupt, message));
                    }
                    let begin = self.path.len();
                    self.path.push_str(&name);
                    self.path.push('/');
                    self.open.push(Open::new(id, begin));
                    Ok(None)
                }
                Target::File(file) if name == MARK_FILE => {
                    open.marked = Some(file.modified);
                    Ok(None)
                }
                Target::File(file) => {
                    open.is_filled = true;
                    let path = format!("{}{name}", self.path);
                    Ok(Some(Item { path, file: Some(file), modified: file.modified }))
                }
            };
        }
        if let Some(after) = open.after.take() {
            let page = entries::targets(tx, open.id, &after, PACKAGE_PAGE_ROWS)?;
            open.rows.extend(page.rows.into_iter().map(|((_, name), target)| (name, target)));
            open.after = page.next;
            return Ok(None);
        }
        let (is_filled, marked, begin) = (open.is_filled, open.marked.unwrap_or(0), open.begin);
        self.open.pop();
        let is_entry = !is_filled && !self.open.is_empty();
        let item = is_entry.then(|| Item {
            path: self.path.trim_end_matches('/').to_owned(),
            file: None,
            modified: marked,
        });
        self.path.truncate(begin);
        Ok(item)
    }
}
