//! The snapshot of a backup, and the walk over everything in it.
//!
//! A snapshot is a pinned clone of the root. Writers clone the folders that they change below it, so
//! everything that the snapshot refers to stays unchanged. It is read afterwards in pages, each in a read
//! transaction of its own. So no transaction takes longer for a larger store, except the clone of the root.
//!
//! The walk visits every distinct folder, content and part once, children before parents. Folders with many
//! entries are read in pages.
//!
//! The walk for a copy asks about folders before it enters them, and passes over those that the copy has. A folder is
//! known by its id and the number of its changes ([`tree::change_tag`]).
//!
//! **Memory.** The numbers of all visited folders, contents and parts.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use crate::{
    error::{Error, Kind, Result},
    limits::{BACKUP_PAGE_ROWS, STEP},
    model::{
        BackupEntry, BackupRecord, BackupTarget, CopySource, FolderTag, StorePath, Taken, Totals,
    },
    namespace::{
        content::{self, PartRow},
        counted::Counted,
        entries::{self, Key},
        garbage::Ref,
        pin::{self, Owner},
        schema::{self, ROOT},
        sql::{Tx, params},
        sums,
        tree::{self, File, Target},
        walk::{self, Visit},
    },
};

/// Takes a snapshot and pins it. Returns its folder and its description.
///
/// # Errors
/// Those of the engine.
pub fn take(tx: &mut Tx<'_>, owner: &Owner) -> Result<(i64, Taken)> {
    let folder = tree::clone(tx, ROOT)?;
    pin::pin(tx, owner, Ref::folder(folder))?;
    let number = schema::meta(tx, "version")?;
    let version = tree::file_version(tx, number)?;
    let totals = tree::totals(tx, &Target::Folder(folder))?;
    Ok((folder, Taken { at: tx.now()?, version, totals }))
}

/// Says of which store a copy is made, and its state. Called in the transaction of [`take`].
///
/// # Errors
/// Those of the engine.
pub fn source(tx: &mut Tx<'_>) -> Result<CopySource> {
    let changes = tree::tag(tx, ROOT)?.changes;
    Ok(CopySource { store: schema::meta(tx, "store")?, changes })
}

/// An estimate of the contents and the bytes of parts in a backup: those of the whole store.
///
/// # Errors
/// Those of the engine.
pub fn expected(tx: &mut Tx<'_>) -> Result<Totals> {
    let sums = sums::kept(tx)?;
    let bytes = sums.of(Counted::Inline).bytes + sums.of(Counted::Objects).bytes;
    Ok(Totals { files: sums.of(Counted::Contents).count, bytes })
}

/// The result of a step of the walk.
#[derive(Debug, Default)]
pub struct Batch {
    /// New parts, at most [`BACKUP_PAGE_ROWS`], each with the path of a file that contains it.
    pub parts: Vec<(StorePath, PartRow)>,
    /// The records that follow these parts in the stream.
    pub records: Vec<BackupRecord>,
    /// The folders that are entered next, at most [`BACKUP_PAGE_ROWS`], unless [`Walk::pass_over`] is told of them before
    /// the next step.
    pub folders: Vec<FolderTag>,
}

/// A folder whose entries are being read. All folders below it have their numbers.
#[derive(Debug)]
struct FolderRead {
    id: i64,
    path: StorePath,
    /// The last key that was read; `None` after the last page.
    after: Option<Key>,
    rows: VecDeque<(String, Target)>,
    /// The offset up to which the parts of the first row's content were listed.
    listed: i64,
    done: Vec<BackupEntry>,
}

/// The state of the walk, with the numbers of all visited folders, contents and parts by their ids.
#[derive(Debug)]
pub struct Walk {
    below: walk::Walk,
    /// Whether the walk is for a copy.
    is_copy: bool,
    /// Whether it asks about the folders that it enters.
    asks: bool,
    inside: Option<FolderRead>,
    folders: HashMap<i64, u64>,
    contents: HashMap<i64, u64>,
    parts: HashMap<i64, u64>,
}

impl Walk {
    /// Begins at a folder, which must be pinned. The walk for a copy asks about folders and tags them.
    pub fn new(root: i64, is_copy: bool) -> Self {
        Self {
            below: walk::Walk::new(root, BACKUP_PAGE_ROWS),
            is_copy,
            asks: is_copy,
            inside: None,
            folders: HashMap::new(),
            contents: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// Passes over a folder of the last batch, which gets the next number.
    pub fn pass_over(&mut self, folder: &FolderTag) {
        self.below.pass_over(folder.id);
        self.folders.insert(folder.id, self.folders.len() as u64);
    }

    /// Enters all folders from now on without asking.
    pub fn stop_asking(&mut self) {
        self.asks = false;
    }

    fn is_over(&self) -> bool {
        self.inside.is_none() && self.below.is_over()
    }

    /// Continues for about [`STEP`] or [`BACKUP_PAGE_ROWS`] parts. `None`: the walk has ended.
    ///
    /// # Errors
    /// `Corrupt`, with a path, if a row is missing; those of the engine.
    pub fn step(&mut self, tx: &mut Tx<'_>) -> Result<Option<Batch>> {
        let started = Instant::now();
        let mut batch = Batch::default();
        if self.is_over() {
            return Ok(None);
        }
        while !self.is_over() {
            if let Some(mut inside) = self.inside.take() {
                if self.entries(tx, &mut inside, &mut batch)? {
                    self.folders.insert(inside.id, self.folders.len() as u64);
                } else {
                    self.inside = Some(inside);
                }
            } else {
                if self.asks {
                    let ahead = self.below.ahead(tx)?;
                    if !ahead.is_empty() {
                        batch.folders = tree::tags(tx, &ahead)?;
                        break;
                    }
                }
                if let Some(Visit::Leave(id)) = self.below.next(tx)? {
                    self.inside = Some(FolderRead::new(id, self.below.path()));
                }
            }
            if batch.parts.len() >= BACKUP_PAGE_ROWS || started.elapsed() >= STEP {
                break;
            }
        }
        Ok(Some(batch))
    }

    /// Processes the next entry of a folder, or reads its next page. Returns whether the folder is complete.
    fn entries(
        &mut self,
        tx: &mut Tx<'_>,
        inside: &mut FolderRead,
        batch: &mut Batch,
    ) -> Result<bool> {
        let Some((name, target)) = inside.rows.pop_front() else {
            if !inside.done.is_empty() {
                batch.records.push(BackupRecord::Entries(std::mem::take(&mut inside.done)));
            }
            if inside.next_page(tx)? {
                return Ok(false);
            }
            let totals = tree::totals(tx, &Target::Folder(inside.id))?;
            batch.records.push(BackupRecord::Folder(totals));
            if self.is_copy {
                batch.records.push(BackupRecord::Tag(tree::tag(tx, inside.id)?));
            }
            return Ok(true);
        };
        let path = inside.path.child(&name);
        let number = match &target {
            Target::Folder(id) => {
                let number = self.folders.get(id).copied();
                number.map(BackupTarget::Folder).ok_or_else(|| corrupt(&path))?
            }
            Target::File(file) => {
                let Some(content) = self.content(tx, (&path, file), &mut inside.listed, batch)?
                else {
                    inside.rows.push_front((name, target));
                    return Ok(false);
                };
                inside.listed = 0;
                BackupTarget::File { content, version: file.version, modified: file.modified }
            }
        };
        inside.done.push(BackupEntry { name, target: number });
        Ok(false)
    }

    /// The number of the content of a file; `None` while more of its parts must be listed.
    fn content(
        &mut self,
        tx: &mut Tx<'_>,
        (path, file): (&StorePath, &File),
        listed: &mut i64,
        batch: &mut Batch,
    ) -> Result<Option<u64>> {
        if let Some(number) = self.contents.get(&file.content) {
            return Ok(Some(*number));
        }
        if *listed < file.size {
            let mut numbers = Vec::new();
            for row in content::parts(tx, file.content, *listed)? {
                if row.start != *listed {
                    return Err(corrupt(path));
                }
                let next = self.parts.len() as u64;
                let number = match self.parts.get(&row.id) {
                    Some(number) => *number,
                    None if batch.parts.len() >= BACKUP_PAGE_ROWS => break,
                    None => {
                        self.parts.insert(row.id, next);
                        *listed += row.size;
                        numbers.push(next);
                        batch.parts.push((path.clone(), row));
                        continue;
                    }
                };
                *listed += row.size;
                numbers.push(number);
            }
            // The caller never passes a full batch, so there is a number before each break.
            if numbers.is_empty() {
                return Err(corrupt(path));
            }
            batch.records.push(BackupRecord::List(numbers));
            if *listed < file.size {
                return Ok(None);
            }
        }
        let sql = "SELECT size, digest FROM content WHERE id = $1 AND etag IS NOT NULL";
        let row = tx.first(sql, params![file.content])?.ok_or_else(|| corrupt(path))?;
        let (size, digest) = (row.int(0)?, row.opt_digest(1)?);
        if size != *listed || size != file.size {
            return Err(corrupt(path));
        }
        batch.records.push(BackupRecord::Content { digest, size });
        let number = self.contents.len() as u64;
        self.contents.insert(file.content, number);
        Ok(Some(number))
    }
}

impl FolderRead {
    fn new(id: i64, path: StorePath) -> Self {
        let (rows, done) = (VecDeque::new(), Vec::new());
        Self { id, path, after: Some(Key::default()), rows, listed: 0, done }
    }

    /// Reads the next page of entries. Returns whether there was one.
    fn next_page(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        let Some(after) = self.after.take() else { return Ok(false) };
        let page = entries::targets(tx, self.id, &after, BACKUP_PAGE_ROWS)?;
        self.rows.extend(page.rows.into_iter().map(|((_, name), target)| (name, target)));
        self.after = page.next;
        Ok(true)
    }
}

fn corrupt(path: &StorePath) -> Error {
    let message = format!("\"{path}\" is damaged in the store; upload it again or delete it");
    Error::new(Kind::Corrupt, message).with("path", path.as_str())
}
