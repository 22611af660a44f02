//! Entries of one folder, read in pages.

use crate::{
    error::Result,
    model::{Totals, folded},
    namespace::{
        entries::{Key, Target, key},
        sql::{Row, Tx, params},
    },
};

/// A page of the entries of a folder, in order.
#[derive(Debug)]
pub struct Page<T> {
    /// The keys of the entries, each with what was read of it.
    pub rows: Vec<(Key, T)>,
    /// The last key, after which the next page begins; `None` if this is the last page.
    pub next: Option<Key>,
}

impl<T> Page<T> {
    /// Reads rows that begin with `folded, name`, of a page of at most `limit`.
    fn read(rows: &[Row], limit: usize, read: impl Fn(&Row) -> Result<T>) -> Result<Self> {
        let read = |row| Ok((key(row)?, read(row)?));
        let page = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let next = page.last().filter(|_| page.len() >= limit).map(|(key, _)| key.clone());
        Ok(Self { rows: page, next })
    }
}

/// The ids in an entry that refer to its target: one of both, unless the entry is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// A folder.
    pub child: Option<i64>,
    /// A content.
    pub content: Option<i64>,
}

impl Link {
    /// Reads the columns `child, content`, from `column` on.
    pub(super) fn from_row(row: &Row, column: usize) -> Result<Self> {
        Ok(Self { child: row.opt_int(column)?, content: row.opt_int(column + 1)? })
    }
}

/// The target of an entry, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The ids of the target.
    pub link: Link,
    /// The size of a file in bytes; 0 for a folder.
    pub size: i64,
}

/// The sub-folders of a folder, page by page.
#[derive(Debug)]
pub struct Folders {
    folder: i64,
    /// The last key that was read; `None` after the last page.
    after: Option<Key>,
}

impl Folders {
    /// Begins before the first sub-folder.
    pub fn new(folder: i64) -> Self {
        Self { folder, after: Some(Key::default()) }
    }

    /// Whether all pages were read.
    pub fn is_done(&self) -> bool {
        self.after.is_none()
    }

    /// The names and ids of the next sub-folders, at most `limit`.
    ///
    /// # Errors
    /// Those of the engine; the iteration has ended then.
    pub fn page(&mut self, tx: &mut Tx<'_>, limit: usize) -> Result<Vec<(Key, i64)>> {
        let Some(after) = self.after.take() else { return Ok(Vec::new()) };
        let sql = "SELECT folded, name, child FROM entry
                   WHERE folder = $1 AND child IS NOT NULL AND (folded, name) > ($2, $3)
                   ORDER BY folded, name LIMIT $4";
        let rows = tx.all(sql, params![self.folder, &after.0, &after.1, limit as i64])?;
        let page = Page::read(&rows, limit, |row| row.int(2))?;
        self.after = page.next;
        Ok(page.rows)
    }
}

/// A page of the entries of a folder, damaged ones included: those after `after`, at most `limit`.
///
/// # Errors
/// Those of the engine.
pub fn links(tx: &mut Tx<'_>, folder: i64, after: &Key, limit: usize) -> Result<Page<Linked>> {
    let sql = "SELECT folded, name, child, content, size FROM entry
               WHERE folder = $1 AND (folded, name) > ($2, $3) ORDER BY folded, name LIMIT $4";
    let rows = tx.all(sql, params![folder, &after.0, &after.1, limit as i64])?;
    Page::read(&rows, limit, |row| {
        Ok(Linked { link: Link::from_row(row, 2)?, size: row.count(4)? })
    })
}

/// A page of the entries of a folder: those after `after`, at most `limit`.
///
/// # Errors
/// `Internal` for an entry that is neither a folder nor a file; those of the engine.
pub fn targets(tx: &mut Tx<'_>, folder: i64, after: &Key, limit: usize) -> Result<Page<Target>> {
    let sql = "SELECT folded, name, child, content, size, version, modified FROM entry
               WHERE folder = $1 AND (folded, name) > ($2, $3)
               ORDER BY folded, name LIMIT $4";
    let rows = tx.all(sql, params![folder, &after.0, &after.1, limit as i64])?;
    Page::read(&rows, limit, |row| Target::from_row(row, 2))
}

/// An entry of a listing.
#[derive(Debug)]
pub struct Listed(Row);

impl Listed {
    /// Its name.
    ///
    /// # Errors
    /// `Internal` for a damaged row.
    pub fn name(&self) -> Result<String> {
        self.0.text(0)
    }

    /// Its target.
    ///
    /// # Errors
    /// `Internal` for a damaged row.
    pub fn target(&self) -> Result<Target> {
        Target::from_row(&self.0, 1)
    }

    /// The totals of its folder; 0 for a file.
    ///
    /// # Errors
    /// `Internal` for a damaged row.
    pub fn totals(&self) -> Result<Totals> {
        Ok(Totals {
            files: self.0.opt_count(6)?.unwrap_or_default(),
            bytes: self.0.opt_count(7)?.unwrap_or_default(),
        })
    }
}

/// A page of the entries of a folder, with the totals of its sub-folders: those from the name `from` on,
/// whether that name exists or not, at most `limit`.
///
/// # Errors
/// Those of the engine.
pub fn list(tx: &mut Tx<'_>, folder: i64, from: &str, limit: usize) -> Result<Vec<Listed>> {
    let sql = "SELECT e.name, e.child, e.content, e.size, e.version, e.modified, f.files, f.bytes
               FROM entry e LEFT JOIN folder f ON f.id = e.child
               WHERE e.folder = $1 AND (e.folded, e.name) >= ($2, $3)
               ORDER BY e.folded, e.name LIMIT $4";
    let rows = tx.all(sql, params![folder, &folded(from), from, limit as i64])?;
    Ok(rows.into_iter().map(Listed).collect())
}

/// An entry that was removed from its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its target, which the caller releases.
    pub link: Link,
    /// The bytes of the file, or of all files below the folder.
    pub bytes: i64,
}

/// Removes the first entries of a folder, at most `limit`. A shorter result means that the folder is empty
/// now.
///
/// # Errors
/// Those of the engine.
pub fn take(tx: &mut Tx<'_>, folder: i64, limit: usize) -> Result<Vec<Taken>> {
    let sql = "SELECT e.folded, e.name, e.child, e.content, e.size, f.bytes
               FROM entry e LEFT JOIN folder f ON f.id = e.child
               WHERE e.folder = $1 ORDER BY e.folded, e.name LIMIT $2";
    let rows = tx.all(sql, params![folder, limit as i64])?;
    let Some(last) = rows.last().map(key).transpose()? else { return Ok(Vec::new()) };
    let sql = "DELETE FROM entry WHERE folder = $1 AND (folded, name) <= ($2, $3)";
    tx.execute(sql, params![folder, &last.0, &last.1])?;
    let taken = |row: &Row| {
        let bytes = row.opt_count(5)?.unwrap_or(row.count(4)?);
        Ok(Taken { link: Link::from_row(row, 2)?, bytes })
    };
    rows.iter().map(taken).collect()
}
