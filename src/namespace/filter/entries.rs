//! What a filter looks at in one folder, in the order of its entries and in pages of at most
//! [`FILTER_PAGE_ROWS`]: the skipped files, and the folders.

use crate::{
    error::Result,
    limits::FILTER_PAGE_ROWS,
    model::{MARK_FILE, SkipFiles},
    namespace::sql::{Row, Tx, params},
};

/// The key of an entry in its folder.
pub(super) type Key = (String, String);

/// The smallest key that is above another one: no name has a control character.
pub(super) fn above(key: Key) -> Key {
    (key.0, key.1 + "\u{1}")
}

pub(super) fn key(row: &Row) -> Result<Key> {
    Ok((row.text(0)?, row.text(1)?))
}

/// The skipped files of a folder. Each look-up begins at the next name of the list and passes a page of
/// entries, so there are no more of them than names, nor than pages.
#[derive(Debug)]
pub(super) struct Skipped {
    folder: i64,
    keeps_mark: bool,
    /// Where the next page begins; nothing after the last one.
    next: Option<Key>,
}

impl Skipped {
    /// Begins in a folder. Whether its mark always goes along, as that of the source itself does, is for
    /// the caller to say.
    pub(super) fn new(folder: i64, keeps_mark: bool) -> Self {
        Self { folder, keeps_mark, next: Some(Key::default()) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// Some more of them, and their sizes: what one look-up finds.
    pub(super) fn page(&mut self, tx: &mut Tx<'_>, skip: &SkipFiles) -> Result<Vec<(Key, i64)>> {
        let Some(from) = self.next.take() else { return Ok(Vec::new()) };
        let Some(name) = skip.first_from(&from.0) else { return Ok(Vec::new()) };
        let from = if name == from.0 { from } else { (name.to_owned(), String::new()) };
        let sql = "SELECT folded, name, size, content FROM entry
                   WHERE folder = $1 AND (folded, name) >= ($2, $3) ORDER BY folded, name LIMIT $4";
        let rows = tx.all(sql, params![self.folder, &from.0, &from.1, FILTER_PAGE_ROWS as i64])?;
        let mut found = Vec::new();
        for row in &rows {
            let key = key(row)?;
            let is_kept = self.keeps_mark && key.1 == MARK_FILE;
            if row.opt_int(3)?.is_some() && !is_kept && skip.contains(&key.0) {
                found.push((key, row.count(2)?));
            }
        }
        if let Some(last) = rows.last().filter(|_| rows.len() == FILTER_PAGE_ROWS) {
            self.next = Some(above(key(last)?));
        }
        Ok(found)
    }
}

/// The folders of a folder.
#[derive(Debug)]
pub(super) struct Folders {
    folder: i64,
    /// The last one that was read; nothing after the last page.
    after: Option<Key>,
}

impl Folders {
    pub(super) fn new(folder: i64) -> Self {
        Self { folder, after: Some(Key::default()) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.after.is_none()
    }

    /// Some more of them.
    pub(super) fn page(&mut self, tx: &mut Tx<'_>) -> Result<Vec<(Key, i64)>> {
        let Some(after) = self.after.take() else { return Ok(Vec::new()) };
        let sql = "SELECT folded, name, child FROM entry
                   WHERE folder = $1 AND child IS NOT NULL AND (folded, name) > ($2, $3)
                   ORDER BY folded, name LIMIT $4";
        let rows =
            tx.all(sql, params![self.folder, &after.0, &after.1, FILTER_PAGE_ROWS as i64])?;
        let page =
            rows.iter().map(|row| Ok((key(row)?, row.int(2)?))).collect::<Result<Vec<_>>>()?;
        if page.len() == FILTER_PAGE_ROWS {
            self.after = page.last().map(|(key, _)| key.clone());
        }
        Ok(page)
    }
}
