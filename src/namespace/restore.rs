//! The building of a restored store, which no path leads to until its last transaction.
//!
//! The parts, contents and folders of a backup are numbered in the order of the stream, and refer only to
//! earlier numbers. The transaction that adds one of them pins it; the transaction that first references it turns
//! the pin into that reference. At the end one pin is left, on the new root. A server that dies during a restore
//! therefore leaves only pins, which the next start drops, and a pin that was lost is noticed.
//!
//! The restore of a copy replaces what the store has: parts and folders that are there already are pinned instead of
//! being made ([`migration`]).
//!
//! **Invariant:** the store trusts nothing in a backup except the digest of a file of several parts, which only
//! its bytes as a whole could prove. Names, order, sizes and totals are checked: they are those that the store
//! itself would have made.

mod list;

#[cfg(test)]
mod tests;

use crate::{
    error::{Error, Kind, Result},
    limits::TOTAL_MAX,
    model::{
        BackupEntry, BackupPart, BackupRecord, BackupTarget, Digest, FolderTag, StorePath, Taken,
        Totals, folded,
    },
    namespace::{
        content::{self, Part, PartRow, Place},
        entries,
        garbage::Ref,
        migration::{self, Credentials},
        pin::{self, Owner},
        reach::{self, Reach},
        restore::list::List,
        schema::{self, ROOT},
        sql::Tx,
        tree::{self, File, Target},
    },
};

/// The next item of a backup.
#[derive(Clone, Debug)]
pub enum Step {
    /// A part. Its object, if it has one, is durable. A part that was stored already is pinned by the owner.
    Part(Part),
    /// A part that the store has already.
    Stored(BackupPart),
    /// A list, a content, entries or a folder.
    Record(BackupRecord),
}

/// A part or content of the backup that has its row.
#[derive(Clone, Copy, Debug)]
struct Made {
    id: i64,
    size: i64,
    digest: Option<Digest>,
    /// Whether its own pin still holds it.
    is_pinned: bool,
}

/// A folder of the backup that is complete or being filled.
#[derive(Clone, Debug)]
struct Folder {
    id: i64,
    totals: Totals,
    reach: Reach,
    is_pinned: bool,
    /// The key of its last entry.
    last: (String, String),
}

/// The state of a restore.
#[derive(Debug)]
pub struct Build {
    /// Whether it is the restore of a copy.
    pub is_copy: bool,
    owner: Owner,
    taken: Taken,
    parts: Vec<Made>,
    contents: Vec<Made>,
    folders: Vec<Folder>,
    /// The list of parts of the next content.
    list: List,
    /// The folder that is being filled, if its record has not come yet.
    open: Option<Folder>,
    /// How many items are held by a pin of their own.
    pinned: usize,
}

/// Refuses a store that has entries.
///
/// # Errors
/// `AlreadyExists`.
pub fn check_empty(tx: &mut Tx<'_>) -> Result<()> {
    if entries::is_empty(tx, ROOT)? {
        return Ok(());
    }
    let files = tree::totals(tx, &Target::Folder(ROOT))?.files;
    let message = format!(
        "the store holds files already, {files} of them; a backup is restored into an empty store"
    );
    Err(Error::new(Kind::AlreadyExists, message))
}

/// The error for a backup that no store can have written.
pub fn damaged(why: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the backup is damaged: {why}"))
}

impl Build {
    /// Begins with no items.
    pub fn new(owner: Owner, taken: Taken) -> Self {
        Self {
            is_copy: false,
            owner,
            taken,
            parts: Vec::new(),
            contents: Vec::new(),
            folders: Vec::new(),
            list: List::default(),
            open: None,
            pinned: 0,
        }
    }

    /// Adds the next item.
    ///
    /// # Errors
    /// `InvalidArgument` for an item that no store can have written, `Busy` if a pin is gone. The build
    /// cannot be continued then.
    pub fn add(&mut self, tx: &mut Tx<'_>, step: &Step) -> Result<()> {
        match step {
            Step::Part(part) => {
                let id = content::find_or_insert_part(tx, part)?;
                if !matches!(part.place, Place::Stored) {
                    pin::pin(tx, &self.owner, Ref::part(id))?;
                }
                self.pinned += 1;
                let (size, digest) = (part.size, Some(part.digest));
                self.parts.push(Made { id, size, digest, is_pinned: true });
                Ok(())
            }
            Step::Stored(part) => {
                let row = content::pin_part(tx, &self.owner, &part.digest)?;
                let row = row.filter(|row| row.size == part.size);
                let PartRow { id, size, digest, .. } = row.ok_or_else(|| gone("a part"))?;
                self.pinned += 1;
                self.parts.push(Made { id, size, digest: Some(digest), is_pinned: true });
                Ok(())
            }
            Step::Record(BackupRecord::List(parts)) => {
                for number in parts {
                    let number = index(*number, self.parts.len())?;
                    let made = (self.parts.as_mut_slice(), &mut self.pinned);
                    self.list.add(tx, number, made, &self.owner)?;
                }
                Ok(())
            }
            Step::Record(BackupRecord::Content { digest, size }) => {
                self.content(tx, *digest, *size)
            }
            Step::Record(BackupRecord::Entries(entries)) => {
                let mut open = self.open(tx)?;
                for entry in entries {
                    self.entry(tx, &mut open, entry)?;
                }
                // The totals must match the entries at any time: reclamation of an unfinished folder
                // subtracts from them.
                tree::set_sums(tx, open.id, open.totals, open.reach)?;
                self.open = Some(open);
                Ok(())
            }
            Step::Record(BackupRecord::Folder(totals)) => self.folder(tx, *totals),
            Step::Record(BackupRecord::Known(tag)) => self.known(tx, tag),
            Step::Record(BackupRecord::Tag(tag)) => {
                let folder = self.folders.last().ok_or_else(|| damaged("a tag has no folder"))?;
                migration::record_folder(tx, tag, folder.id)
            }
            Step::Record(
                BackupRecord::Header(_) | BackupRecord::Part(_) | BackupRecord::Footer(_),
            ) => Err(damaged("a record comes where none of its kind can be")),
        }
    }

    fn content(&mut self, tx: &mut Tx<'_>, digest: Option<Digest>, size: i64) -> Result<()> {
        let list = std::mem::take(&mut self.list);
        let made = (self.parts.as_mut_slice(), &mut self.pinned);
        let id = list.end(tx, (digest, size), made, &self.owner)?;
        self.contents.push(Made { id, size, digest, is_pinned: true });
        Ok(())
    }

    /// The folder that is being filled, or a new one.
    fn open(&mut self, tx: &mut Tx<'_>) -> Result<Folder> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let (totals, reach) = (Totals::default(), Reach::default());
        let id = tree::new_folder(tx, totals, reach)?;
        pin::pin(tx, &self.owner, Ref::folder(id))?;
        self.pinned += 1;
        Ok(Folder { id, totals, reach, is_pinned: true, last: Default::default() })
    }

    fn entry(&mut self, tx: &mut Tx<'_>, open: &mut Folder, entry: &BackupEntry) -> Result<()> {
        let key = (folded(&entry.name), entry.name.clone());
        // Spaces at the ends of a name are kept only in the middle of a path.
        let around = format!("-/{}/-", entry.name);
        let path = StorePath::parse(&around, "name").map_err(|error| damaged(error.message()))?;
        if path.depth() != 3 || path.as_str() != around || key <= open.last {
            return Err(damaged("the names in a folder are not those of a store"));
        }
        let (target, totals, reach, is_pinned) = match entry.target {
            BackupTarget::Folder(number) => {
                let number = index(number, self.folders.len())?;
                let folder = self.folders.get_mut(number).ok_or_else(|| damaged("no folder"))?;
                let pinned = std::mem::take(&mut folder.is_pinned);
                (Target::Folder(folder.id), folder.totals, folder.reach, pinned)
            }
            BackupTarget::File { content, version, modified } => {
                let number = index(content, self.contents.len())?;
                let made = self.contents.get_mut(number).ok_or_else(|| damaged("no content"))?;
                if version > self.taken.version.number {
                    return Err(damaged("a file is newer than the snapshot"));
                }
                let file = File { content: made.id, size: made.size, version, modified };
                let pinned = std::mem::take(&mut made.is_pinned);
                (
                    Target::File(file),
                    Totals { files: 1, bytes: made.size },
                    Reach::default(),
                    pinned,
                )
            }
        };
        open.totals = add(open.totals, totals)?;
        // No bound: a store of format 1 may have paths that are too long for a request, and they must be
        // restored.
        open.reach = open.reach.or(reach.under(&entry.name));
        if totals.files == 0 {
            return Err(damaged("a folder below the root is empty"));
        }
        entries::put(tx, open.id, &entry.name, &target)?;
        if is_pinned {
            self.pinned -= 1;
            pin::transfer(tx, &self.owner, target.as_ref())?;
        }
        open.last = key;
        Ok(())
    }

    fn folder(&mut self, tx: &mut Tx<'_>, totals: Totals) -> Result<()> {
        let open = self.open(tx)?;
        if open.totals != totals {
            return Err(self.other_totals("a folder has other totals than what it holds"));
        }
        self.folders.push(Folder { last: Default::default(), ..open });
        Ok(())
    }

    /// The error for totals that are not those of the source. What was there before the restore of a copy may be wrong.
    fn other_totals(&self, why: &str) -> Error {
        if !self.is_copy {
            return damaged(why);
        }
        let message = "the target has other totals than the source, because one of both was damaged or repaired since \
                       the first pass; check the source, and name an empty target";
        Error::new(Kind::InvalidArgument, message)
    }

    /// Adds a folder that the store has already.
    fn known(&mut self, tx: &mut Tx<'_>, tag: &FolderTag) -> Result<()> {
        if self.open.is_some() {
            return Err(damaged("a known folder comes inside another one"));
        }
        let id = migration::folder_of(tx, tag)?.ok_or_else(|| gone("a folder"))?;
        pin::pin(tx, &self.owner, Ref::folder(id))?;
        self.pinned += 1;
        let target = Target::Folder(id);
        let (totals, reach) = (tree::totals(tx, &target)?, reach::below(tx, &target)?);
        self.folders.push(Folder { id, totals, reach, is_pinned: true, last: Default::default() });
        Ok(())
    }

    /// Makes the whole restored store visible, if the store is still empty. Nothing of it is visible before.
    ///
    /// # Errors
    /// `AlreadyExists` if something was stored meanwhile, `InvalidArgument` if the backup is incomplete,
    /// `Busy` if a pin is gone. Nothing has changed then.
    pub fn finish(&self, tx: &mut Tx<'_>) -> Result<Totals> {
        check_empty(tx)?;
        let root = self.root(tx)?;
        tree::fill_root(tx, root.id)?;
        self.adopt(tx, root)
    }

    /// Replaces what the store has by the restored copy, and marks the store as a whole copy.
    ///
    /// # Errors
    /// As [`Build::finish`], except `AlreadyExists`.
    pub fn finish_copy(
        &self,
        tx: &mut Tx<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Totals> {
        let root = self.root(tx)?;
        tree::replace_root(tx, root.id)?;
        migration::finish(tx, credentials)?;
        self.adopt(tx, root)
    }

    /// Takes over the versions, and drops the pins.
    fn adopt(&self, tx: &mut Tx<'_>, root: &Folder) -> Result<Totals> {
        schema::adopt(tx, &self.taken.version)?;
        pin::unpin(tx, &self.owner.id)?;
        Ok(root.totals)
    }

    /// The root of the backup, if all of it is there.
    fn root(&self, tx: &mut Tx<'_>) -> Result<&Folder> {
        let root = self.folders.last().ok_or_else(|| damaged("it has no root"))?;
        if !self.list.is_empty() || self.open.is_some() || self.pinned != 1 || !root.is_pinned {
            return Err(damaged("nothing refers to some of what it holds"));
        }
        if root.totals != self.taken.totals {
            return Err(self.other_totals("the root has other totals than the header says"));
        }
        pin::check(tx, &self.owner.id, 1)?;
        Ok(root)
    }
}

/// The error for what the store had when it was offered, and has no more.
fn gone(what: &str) -> Error {
    Error::new(Kind::Busy, format!("{what} of the target was reclaimed meanwhile; try again"))
}

/// Converts a number of the stream to an index below `len`.
fn index(number: u64, len: usize) -> Result<usize> {
    let number = usize::try_from(number).ok().filter(|number| *number < len);
    number.ok_or_else(|| damaged("a record refers to what comes later, or never"))
}

fn add(one: Totals, other: Totals) -> Result<Totals> {
    let sum = |a: i64, b: i64| a.checked_add(b).filter(|sum| *sum <= TOTAL_MAX);
    match (sum(one.files, other.files), sum(one.bytes, other.bytes)) {
        (Some(files), Some(bytes)) => Ok(Totals { files, bytes }),
        _ => Err(damaged("it holds more than a store can")),
    }
}
