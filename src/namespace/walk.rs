//! A walk over the distinct files below a folder that is pinned, for `verify`.
//!
//! A folder that occurs many times is walked once; its files then count as often as it occurs.

use std::{collections::HashMap, time::Instant};

use crate::{
    error::Result,
    limits::STEP,
    model::StorePath,
    namespace::{
        entries::{self, Key},
        sql::Tx,
        tree::Target,
    },
};

/// Entries that one step reads at most.
const STEP_ENTRIES: usize = 512;

/// A file of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedFile {
    /// Where it is, below the first place where its folder occurs.
    pub path: StorePath,
    /// Its content.
    pub content: i64,
    /// Its size.
    pub size: i64,
    /// How often it occurs.
    pub times: i64,
}

/// A distinct folder.
#[derive(Debug)]
struct Folder {
    path: StorePath,
    children: Vec<i64>,
    times: i64,
}

/// Where a walk stands.
#[derive(Debug)]
pub struct Walk {
    folders: HashMap<i64, Folder>,
    /// Folders on the way down, and the number of their children that are done.
    stack: Vec<(i64, usize)>,
    /// Parents before their children, once every folder is known.
    order: Vec<i64>,
    is_ordered: bool,
    at: usize,
    after: Key,
}

impl Walk {
    /// Begins at what is at `path`; a single file is its own walk.
    pub fn new(root: i64, path: StorePath) -> Self {
        let folder = Folder { path, children: Vec::new(), times: 1 };
        Self {
            folders: HashMap::from([(root, folder)]),
            stack: vec![(root, 0)],
            order: Vec::new(),
            is_ordered: false,
            at: 0,
            after: Default::default(),
        }
    }

    /// Goes on for about [`STEP`] or 512 entries. `None`: there are no more files.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Vec<WalkedFile>>> {
        if !self.is_ordered {
            self.find_folders(tx)?;
            return Ok(Some(Vec::new()));
        }
        let Some(id) = self.order.get(self.at) else { return Ok(None) };
        let Some(folder) = self.folders.get(id) else { return Ok(None) };
        let page = entries::links(tx, *id, &self.after, STEP_ENTRIES)?;
        let mut files = Vec::with_capacity(page.rows.len());
        for ((_, name), entry) in &page.rows {
            let Some(content) = entry.link.content else { continue };
            files.push(WalkedFile {
                path: folder.path.child(name),
                content,
                size: entry.size,
                times: folder.times,
            });
        }
        if page.next.is_none() {
            self.at += 1;
        }
        self.after = page.next.unwrap_or_default();
        Ok(Some(files))
    }

    /// Finds every distinct folder, and how often each occurs.
    fn find_folders(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let started = Instant::now();
        while let Some((id, next)) = self.stack.last_mut() {
            let (id, first) = (*id, *next == 0);
            let at = *next;
            *next += 1;
            if first {
                self.read_children(tx, id)?;
            }
            match self.folders.get(&id).and_then(|folder| folder.children.get(at)).copied() {
                // A folder that has an entry of its own in the order, or is on its way there, is known.
                Some(child) if self.folders.get(&child).is_some_and(|f| f.times == 0) => {
                    self.stack.push((child, 0));
                }
                Some(_) => {}
                None => {
                    self.order.push(id);
                    self.stack.pop();
                }
            }
            if started.elapsed() >= STEP {
                return Ok(());
            }
        }
        self.order.reverse();
        self.count();
        self.is_ordered = true;
        Ok(())
    }

    /// Reads the folders of a folder; new ones have no times yet.
    fn read_children(&mut self, tx: &mut Tx<'_>, id: i64) -> Result<()> {
        let Some(folder) = self.folders.get_mut(&id) else { return Ok(()) };
        // It is being walked; the times are counted when all are known.
        folder.times = 1;
        let path = folder.path.clone();
        let mut children = Vec::new();
        let mut after = Some(Key::default());
        while let Some(key) = after {
            let page = entries::folders(tx, id, &key, STEP_ENTRIES)?;
            for ((_, name), child) in page.rows {
                children.push(child);
                self.folders.entry(child).or_insert_with(|| Folder {
                    path: path.child(&name),
                    children: Vec::new(),
                    times: 0,
                });
            }
            after = page.next;
        }
        if let Some(folder) = self.folders.get_mut(&id) {
            folder.children = children;
        }
        Ok(())
    }

    fn count(&mut self) {
        let root = self.order.first().copied();
        for (id, folder) in &mut self.folders {
            folder.times = i64::from(Some(*id) == root);
        }
        for id in &self.order {
            let Some(folder) = self.folders.get_mut(id) else { continue };
            let times = folder.times;
            for child in std::mem::take(&mut folder.children) {
                if let Some(child) = self.folders.get_mut(&child) {
                    child.times += times;
                }
            }
        }
    }
}

/// The walk of a target, or the one file that it is.
pub fn begin(target: &Target, path: &StorePath) -> Result<Walk, WalkedFile> {
    match target {
        Target::Folder(root) => Ok(Walk::new(*root, path.clone())),
        Target::File(file) => {
            Err(WalkedFile { path: path.clone(), content: file.content, size: file.size, times: 1 })
        }
    }
}
