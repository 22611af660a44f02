//! The skipped files of one folder, in pages of at most [`FILTER_PAGE_ROWS`] entries.

use crate::{
    error::Result,
    limits::FILTER_PAGE_ROWS,
    model::{MARK_FILE, SkipFiles},
    namespace::{
        entries::{self, Key},
        sql::Tx,
    },
};

/// The skipped files of a folder. Each query begins at the next name of the list and reads a page of entries,
/// so there are at most as many queries as names in the list, and as pages of the folder.
#[derive(Debug)]
pub(super) struct Skipped {
    folder: i64,
    keeps_mark: bool,
    /// The key after which the next page begins; `None` after the last page.
    after: Option<Key>,
}

impl Skipped {
    /// Begins in a folder. With `keeps_mark` its mark file is not skipped, as for the source itself.
    pub(super) fn new(folder: i64, keeps_mark: bool) -> Self {
        Self { folder, keeps_mark, after: Some(Key::default()) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.after.is_none()
    }

    /// The files that the next query finds, with their sizes.
    pub(super) fn page(&mut self, tx: &mut Tx<'_>, skip: &SkipFiles) -> Result<Vec<(Key, i64)>> {
        let Some(after) = self.after.take() else { return Ok(Vec::new()) };
        let Some(name) = skip.first_from(&after.0) else { return Ok(Vec::new()) };
        let after = if name == after.0 { after } else { (name.to_owned(), String::new()) };
        let page = entries::links(tx, self.folder, &after, FILTER_PAGE_ROWS)?;
        self.after = page.next;
        let mut found = Vec::new();
        for (key, entry) in page.rows {
            let is_kept = self.keeps_mark && key.1 == MARK_FILE;
            if entry.link.content.is_some() && !is_kept && skip.contains(&key.0) {
                found.push((key, entry.size));
            }
        }
        Ok(found)
    }
}
