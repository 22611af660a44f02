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

/// The skipped files of a folder. Each look-up begins at the next name of the list and passes a page of
/// entries, so there are no more of them than names, nor than pages.
#[derive(Debug)]
pub(super) struct Skipped {
    folder: i64,
    keeps_mark: bool,
    /// After which key the next page begins; nothing after the last one.
    after: Option<Key>,
}

impl Skipped {
    /// Begins in a folder. Whether its mark always goes along, as that of the source itself does, is for
    /// the caller to say.
    pub(super) fn new(folder: i64, keeps_mark: bool) -> Self {
        Self { folder, keeps_mark, after: Some(Key::default()) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.after.is_none()
    }

    /// Some more of them, and their sizes: what one look-up finds.
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
