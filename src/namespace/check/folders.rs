//! The scan of folders and their entries.

use crate::{
    error::Result,
    limits::{CHECK_PAGE_ROWS, TOTAL_MAX},
    model::{Totals, folded},
    namespace::{
        check::{At, Looked, Suspect, is_last, page, suspects},
        reach::Reach,
        sql::{Row, Tx, params},
    },
};

/// The sums of the entries of one folder.
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

    fn close(self, tx: &mut Tx<'_>, looked: &mut Looked) -> Result<()> {
        let is_good = sums(tx, self.folder)?.is_some_and(|(totals, reach)| {
            totals == self.totals && reach == reach.or(self.reach) && is_possible(reach)
        });
        if !is_good {
            looked.suspects.push(Suspect::Folder(self.folder));
        }
        Ok(())
    }
}

pub(super) fn entries(
    tx: &mut Tx<'_>,
    mut after: (i64, String, String),
    mut tally: Option<Tally>,
    looked: &mut Looked,
) -> Result<At> {
    let rows = tx.all(
        "SELECT e.folder, e.folded, e.name, e.child, e.content, e.size, e.version, e.modified,
           f.files, f.bytes, c.size, c.etag, f.depth, f.length
         FROM entry e LEFT JOIN folder f ON f.id = e.child LEFT JOIN content c ON c.id = e.content
         WHERE (e.folder, e.folded, e.name) > ($1, $2, $3)
         ORDER BY e.folder, e.folded, e.name LIMIT $4",
        params![after.0, &after.1, &after.2, CHECK_PAGE_ROWS],
    )?;
    looked.rows += rows.len() as u64;
    for row in &rows {
        after = (row.int(0)?, row.text(1)?, row.text(2)?);
        if tally.as_ref().is_none_or(|tally| tally.folder != after.0) {
            let (totals, reach) = (Totals::default(), Reach::default());
            let next = Tally { folder: after.0, totals, reach };
            if let Some(last) = tally.replace(next) {
                last.close(tx, looked)?;
            }
        }
        let (is_good, totals) = entry(row)?;
        if let Some(tally) = &mut tally {
            tally.add(totals);
            let below = Reach {
                depth: row.opt_count(12)?.unwrap_or(0),
                length: row.opt_count(13)?.unwrap_or(0),
            };
            tally.reach = tally.reach.or(below.under(&after.2));
        }
        if !is_good || folded(&after.2) != after.1 {
            let (folder, folded, name) = after.clone();
            looked.suspects.push(Suspect::Entry(folder, folded, name));
        }
    }
    if !is_last(&rows) {
        return Ok(At::Entries { after, tally });
    }
    if let Some(last) = tally {
        last.close(tx, looked)?;
    }
    Ok(At::Folders(0))
}

/// Whether the target of an entry is there, and what it counts for.
fn entry(row: &Row) -> Result<(bool, Totals)> {
    let (child, content) = (row.opt_int(3)?, row.opt_int(4)?);
    let size = row.int(5)?;
    if child.is_some() {
        let (files, bytes) = (row.opt_count(8)?, row.opt_count(9)?);
        let totals = Totals { files: files.unwrap_or(0), bytes: bytes.unwrap_or(0) };
        return Ok((content.is_none() && files.is_some(), totals));
    }
    // A content without an etag is being taken apart.
    let is_good = row.opt_int(10)? == Some(size) && row.opt_digest(11)?.is_some();
    Ok((is_good, Totals { files: 1, bytes: row.count(5)? }))
}

/// Folders that hold nothing, or that nothing refers to.
pub(super) fn folders(tx: &mut Tx<'_>, after: i64, looked: &mut Looked) -> Result<At> {
    let ids = "SELECT MAX(id), COUNT(*) FROM (
                 SELECT id FROM folder WHERE id > $1 ORDER BY id LIMIT $2) AS page";
    let Some((last, count)) = page(tx, ids, after)? else {
        return Ok(At::Lists { after: Default::default(), list: None });
    };
    looked.rows += count;
    let rows = tx.all(
        "SELECT f.id FROM folder f WHERE f.id > $1 AND f.id <= $2 AND (
           NOT EXISTS (SELECT 1 FROM entry e WHERE e.folder = f.id)
           OR (NOT EXISTS (SELECT 1 FROM entry e WHERE e.child = f.id)
               AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.kind = 1 AND p.target = f.id)
               AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 1 AND g.id = f.id)))",
        params![after, last],
    )?;
    suspects(&rows, looked, Suspect::Folder)?;
    Ok(At::Folders(last))
}

/// Whether paths can reach so far below a folder.
pub(super) fn is_possible(reach: Reach) -> bool {
    [reach.depth, reach.length].iter().all(|far| (0..=TOTAL_MAX).contains(far))
}

/// What a folder says of what is below it, as it says it; nothing if it is gone.
pub(super) fn sums(tx: &mut Tx<'_>, folder: i64) -> Result<Option<(Totals, Reach)>> {
    tx.first("SELECT files, bytes, depth, length FROM folder WHERE id = $1", params![folder])?
        .map(|row| {
            let totals = Totals { files: row.int(0)?, bytes: row.int(1)? };
            Ok((totals, Reach { depth: row.int(2)?, length: row.int(3)? }))
        })
        .transpose()
}
