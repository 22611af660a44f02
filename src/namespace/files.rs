//! The distinct files below a pinned folder, for `verify`.
//!
//! A walk first finds every folder. Then each folder is read, parents first. A folder that occurs many times is
//! read once, and its files count once for each occurrence.
//!
//! **Memory.** The name of each distinct folder and a few numbers; one page of entries.

use std::{collections::HashMap, time::Instant};

use crate::{
    error::Result,
    limits::{STEP, VERIFY_PAGE_ROWS},
    model::StorePath,
    namespace::{
        entries::{self, Key, Target},
        sql::Tx,
        walk::{Visit, Walk},
    },
};

/// A distinct file below the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedFile {
    /// A path of the file, through the first occurrence of its folder.
    pub path: StorePath,
    /// Its content.
    pub content: i64,
    /// Its size in bytes.
    pub size: i64,
    /// How often its folder occurs.
    pub times: i64,
}

/// A distinct folder.
#[derive(Debug)]
struct Folder {
    /// The folder above, in which it was found first, and its name there; `None` for the first folder.
    above: Option<(i64, Box<str>)>,
    /// How often it occurs; complete once every folder above it is read.
    times: i64,
}

/// The state of the walk and the reading.
#[derive(Debug)]
pub struct Files {
    /// The path of the first folder.
    path: StorePath,
    walk: Walk,
    folders: HashMap<i64, Folder>,
    /// The folders that remain to be read, the next one last: parents before their children.
    order: Vec<i64>,
    /// The folder that is being read, and the key after which its next page begins.
    at: Option<(i64, Key)>,
}

impl Files {
    /// Begins at a folder, whose path is `path`.
    pub fn new(root: i64, path: StorePath) -> Self {
        Self {
            path,
            walk: Walk::new(root, VERIFY_PAGE_ROWS),
            folders: HashMap::new(),
            order: Vec::new(),
            at: None,
        }
    }

    /// Continues for about [`STEP`] or for [`VERIFY_PAGE_ROWS`] entries. `None`: there are no more files.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Vec<WalkedFile>>> {
        if !self.walk.is_over() {
            self.find_folders(tx)?;
            return Ok(Some(Vec::new()));
        }
        let begun = self.at.take();
        let Some((id, after)) = begun.or_else(|| Some((self.order.pop()?, Key::default()))) else {
            return Ok(None);
        };
        let times = self.folders.get(&id).map_or(0, |folder| folder.times);
        let path = self.path(id);
        let page = entries::links(tx, id, &after, VERIFY_PAGE_ROWS)?;
        let mut files = Vec::with_capacity(page.rows.len());
        for ((_, name), entry) in page.rows {
            if let Some(child) = entry.link.child.and_then(|id| self.folders.get_mut(&id)) {
                child.times = child.times.saturating_add(times);
            }
            if let Some(content) = entry.link.content {
                files.push(WalkedFile {
                    path: path.child(&name),
                    content,
                    size: entry.size,
                    times,
                });
            }
        }
        self.at = page.next.map(|after| (id, after));
        Ok(Some(files))
    }

    /// Continues the walk that finds every distinct folder.
    fn find_folders(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let started = Instant::now();
        while let Some(visit) = self.walk.next(tx)? {
            match visit {
                Visit::Enter(id) => {
                    let above = self.walk.above().map(|(above, name)| (above, name.into()));
                    let times = i64::from(above.is_none());
                    self.folders.insert(id, Folder { above, times });
                }
                Visit::Again(_) => {}
                Visit::Leave(id) => self.order.push(id),
            }
            if started.elapsed() >= STEP {
                break;
            }
        }
        Ok(())
    }

    /// The path of a folder.
    fn path(&self, mut id: i64) -> StorePath {
        let mut names = Vec::new();
        while let Some(Folder { above: Some((above, name)), .. }) = self.folders.get(&id) {
            names.push(name);
            id = *above;
        }
        names.iter().rev().fold(self.path.clone(), |path, name| path.child(name))
    }
}

/// The walk over the files below a folder; or, as the error, the one file that the target is.
pub fn begin(target: &Target, path: &StorePath) -> Result<Files, WalkedFile> {
    match target {
        Target::Folder(root) => Ok(Files::new(*root, path.clone())),
        Target::File(file) => {
            Err(WalkedFile { path: path.clone(), content: file.content, size: file.size, times: 1 })
        }
    }
}
