//! The scan of folders and their entries.

use crate::{
    error::Result,
    limits::{CHECK_PAGE_ROWS, TOTAL_MAX},
    model::{Totals, folded},
    namespace::{
        check::{At, Candidate, ScanResult, candidates, page},
        entries::{self, Below, Checked, Key},
        reach::Reach,
        sql::{Tx, params},
    },
};

/// The totals and reach of the entries of one folder, as far as they were read.
#[derive(Debug)]
pub(super) struct Tally {
    folder: i64,
    totals: Totals,
    reach: Reach,
}

impl Tally {
    fn add(&mut self, totals: Totals) {
        let sum = |a: i64, b: i64| (a + b).min(TOTAL_MAX);
        self.totals.files = sum(self.totals.files, totals.files);
        self.totals.bytes = sum(self.totals.bytes, totals.bytes);
    }

    fn close(self, tx: &mut Tx<'_>, looked: &mut ScanResult) -> Result<()> {
        let is_good = sums(tx, self.folder)?.is_some_and(|(totals, reach)| {
            totals == self.totals && reach == reach.or(self.reach) && is_possible(reach)
        });
        if !is_good {
            looked.candidates.push(Candidate::Folder(self.folder));
        }
        Ok(())
    }
}

pub(super) fn entries(
    tx: &mut Tx<'_>,
    mut after: (i64, Key),
    mut tally: Option<Tally>,
    looked: &mut ScanResult,
) -> Result<At> {
    let page = entries::scan(tx, &after, CHECK_PAGE_ROWS)?;
    let is_last = (page.len() as i64) < CHECK_PAGE_ROWS;
    looked.rows += page.len() as u64;
    for found in page {
        if tally.as_ref().is_none_or(|tally| tally.folder != found.folder) {
            let (totals, reach) = (Totals::default(), Reach::default());
            let next = Tally { folder: found.folder, totals, reach };
            if let Some(last) = tally.replace(next) {
                last.close(tx, looked)?;
            }
        }
        let (is_good, totals) = entry(&found);
        let (filed, name) = &found.key;
        if let Some(tally) = &mut tally {
            tally.add(totals);
            let reach = |below: Below| Reach { depth: below.depth, length: below.length };
            let below = found.below.map(reach).unwrap_or_default();
            tally.reach = tally.reach.or(below.under(name));
        }
        if !is_good || folded(name) != *filed {
            looked.candidates.push(Candidate::Entry(found.folder, filed.clone(), name.clone()));
        }
        after = (found.folder, found.key);
    }
    if !is_last {
        return Ok(At::Entries { after, tally });
    }
    if let Some(last) = tally {
        last.close(tx, looked)?;
    }
    Ok(At::Folders(0))
}

/// Whether the target of an entry exists and fits, and the totals that the entry adds to its folder.
fn entry(found: &Checked) -> (bool, Totals) {
    if found.link.child.is_some() {
        let totals = found.below.map(|below| below.totals);
        return (found.link.content.is_none() && totals.is_some(), totals.unwrap_or_default());
    }
    // A content without an etag is being reclaimed.
    let is_good = matches!(found.content, Some((size, Some(_))) if size == found.size);
    (is_good, Totals { files: 1, bytes: found.size.clamp(0, TOTAL_MAX) })
}

/// Scans for folders without entries, or that nothing refers to.
pub(super) fn folders(tx: &mut Tx<'_>, after: i64, looked: &mut ScanResult) -> Result<At> {
    let ids = "SELECT MAX(id), COUNT(*) FROM (
                 SELECT id FROM folder WHERE id > $1 ORDER BY id LIMIT $2) AS page";
    let Some((last, count)) = page(tx, ids, after)? else {
        return Ok(At::Lists { after: Default::default(), list: None });
    };
    looked.rows += count;
    let rows = tx.all(
        concat!(
            "SELECT f.id FROM folder f WHERE f.id > $1 AND f.id <= $2 AND (NOT ",
            entries::has_entry!("f.id"),
            " OR (NOT ",
            entries::has_folder_ref!("f.id"),
            "
               AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.kind = 1 AND p.target = f.id)
               AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 1 AND g.id = f.id)))"
        ),
        params![after, last],
    )?;
    candidates(&rows, looked, Candidate::Folder)?;
    Ok(At::Folders(last))
}

/// Whether a reach is within the bounds of numbers that the store writes.
pub(super) fn is_possible(reach: Reach) -> bool {
    [reach.depth, reach.length].iter().all(|far| (0..=TOTAL_MAX).contains(far))
}

/// The totals and reach in the row of a folder, as they are stored; `None` if the row is missing.
pub(super) fn sums(tx: &mut Tx<'_>, folder: i64) -> Result<Option<(Totals, Reach)>> {
    tx.first("SELECT files, bytes, depth, length FROM folder WHERE id = $1", params![folder])?
        .map(|row| {
            let totals = Totals { files: row.int(0)?, bytes: row.int(1)? };
            Ok((totals, Reach { depth: row.int(2)?, length: row.int(3)? }))
        })
        .transpose()
}
