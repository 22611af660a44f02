//! The scan of upload sessions and their chunks.

use crate::{
    error::Result,
    limits::CHECK_PAGE_ROWS,
    namespace::{
        check::{At, Candidate, ScanResult, is_last},
        sql::{Row, Tx, params},
    },
};

/// The chunks of one session, as far as they were read.
#[derive(Debug)]
pub(super) struct Run {
    session: String,
    /// The sum of the sizes of its chunks, in bytes.
    pub(super) sum: i64,
    /// The end of the last chunk, as an offset in the file.
    pub(super) end: i64,
    /// The number of its chunks.
    pub(super) count: i64,
    /// Whether no chunk overlaps another, and each has a part of its size.
    pub(super) is_good: bool,
}

impl Run {
    pub(super) fn new(session: String) -> Self {
        Self { session, sum: 0, end: 0, count: 0, is_good: true }
    }

    /// Adds a row of `start, size` and the size of the part, in the columns from `column` on.
    pub(super) fn add(&mut self, row: &Row, column: usize) -> Result<()> {
        let (start, size) = (row.int(column)?, row.int(column + 1)?);
        self.is_good &= start >= self.end && row.opt_int(column + 2)? == Some(size);
        self.count += 1;
        self.sum = self.sum.saturating_add(size);
        self.end = start.saturating_add(size);
        Ok(())
    }

    fn close(self, tx: &mut Tx<'_>, looked: &mut ScanResult) -> Result<()> {
        let sql = "SELECT total, received, committed, pieces FROM upload_session WHERE id = $1";
        let is_good = match tx.first(sql, params![&self.session])? {
            None => false,
            Some(row) => {
                // A session that has ended may have pieces that remain to be dropped.
                let is_counted = if row.int(2)? == 0 {
                    self.sum == row.int(1)?
                } else {
                    self.count == row.int(3)?
                };
                self.end <= row.int(0)? && is_counted && self.is_good
            }
        };
        if !is_good {
            looked.candidates.push(Candidate::Session(self.session));
        }
        Ok(())
    }
}

pub(super) fn chunks(
    tx: &mut Tx<'_>,
    mut after: (String, i64),
    mut run: Option<Run>,
    looked: &mut ScanResult,
) -> Result<At> {
    let rows = tx.all(
        "SELECT c.session, c.start, c.size, p.size
         FROM upload_chunk c LEFT JOIN part p ON p.id = c.part
         WHERE (c.session, c.start) > ($1, $2) ORDER BY c.session, c.start LIMIT $3",
        params![&after.0, after.1, CHECK_PAGE_ROWS],
    )?;
    looked.rows += rows.len() as u64;
    for row in &rows {
        after = (row.text(0)?, row.int(1)?);
        if run.as_ref().is_none_or(|run| run.session != after.0)
            && let Some(last) = run.replace(Run::new(after.0.clone()))
        {
            last.close(tx, looked)?;
        }
        if let Some(run) = &mut run {
            run.add(row, 1)?;
        }
    }
    if !is_last(&rows) {
        return Ok(At::Chunks { after, run });
    }
    if let Some(last) = run {
        last.close(tx, looked)?;
    }
    Ok(At::Sessions(String::new()))
}

/// Scans for sessions that have received bytes and have no chunk.
pub(super) fn sessions(tx: &mut Tx<'_>, after: String, looked: &mut ScanResult) -> Result<At> {
    let rows = tx.all(
        "SELECT s.id, s.received, s.committed, c.start
         FROM upload_session s LEFT JOIN upload_chunk c ON c.session = s.id AND c.start = (
           SELECT MIN(start) FROM upload_chunk WHERE session = s.id)
         WHERE s.id > $1 ORDER BY s.id LIMIT $2",
        params![&after, CHECK_PAGE_ROWS],
    )?;
    looked.rows += rows.len() as u64;
    let mut last = after;
    for row in &rows {
        last = row.text(0)?;
        if row.int(1)? != 0 && row.int(2)? == 0 && row.opt_int(3)?.is_none() {
            looked.candidates.push(Candidate::Session(last.clone()));
        }
    }
    Ok(if is_last(&rows) { At::Parts(0) } else { At::Sessions(last) })
}
