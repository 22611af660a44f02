//! The scan of contents, their lists of parts, and the parts.

use bytes::Bytes;

use crate::{
    error::Result,
    limits::{CHECK_FINDINGS_MAX, CHECK_PAGE_ROWS},
    model::{CheckRequest, Digest},
    namespace::{
        check::{At, Candidate, ScanResult, candidates, is_last, page},
        content::{PartRow, hash_part},
        entries,
        sql::{Row, Tx, params},
    },
};

/// The list of parts of one content, as far as it was read.
#[derive(Debug)]
pub(super) struct List {
    content: i64,
    /// The end of the parts so far, as an offset in the file; `None` after a gap or a missing part.
    end: Option<i64>,
    hasher: Box<blake3::Hasher>,
    /// The digest of the part, while there is only one.
    only: Option<Digest>,
}

impl List {
    pub(super) fn new(content: i64) -> Self {
        Self { content, end: Some(0), hasher: Box::default(), only: None }
    }

    /// Adds a row of `start, size, digest`, from `column` on.
    pub(super) fn add(&mut self, row: &Row, column: usize) -> Result<()> {
        let start = row.int(column)?;
        let (size, digest) = (row.opt_int(column + 1)?, row.opt_digest(column + 2)?);
        let (Some(size), Some(digest), Some(end)) = (size, digest, self.end) else {
            self.end = None;
            return Ok(());
        };
        self.only = (end == 0).then_some(digest);
        self.end = (start == end).then_some(end.saturating_add(size));
        hash_part(&mut self.hasher, size, &digest);
        Ok(())
    }

    /// Whether these are the parts of the content with the columns `size, etag, digest` from `column` on.
    /// True for a content without an etag: some of its parts may be reclaimed already.
    pub(super) fn is_of(&self, row: &Row, column: usize) -> Result<bool> {
        let Some(etag) = row.opt_digest(column + 1)? else { return Ok(true) };
        let digest = row.opt_digest(column + 2)?;
        Ok(self.end == Some(row.int(column)?)
            && Digest::from(self.hasher.finalize()) == etag
            && (self.only.is_none() || digest.is_none() || digest == self.only))
    }

    fn close(self, tx: &mut Tx<'_>, looked: &mut ScanResult) -> Result<()> {
        let sql = "SELECT size, etag, digest FROM content WHERE id = $1";
        let row = tx.first(sql, params![self.content])?;
        if !row.map(|row| self.is_of(&row, 0)).transpose()?.unwrap_or(false) {
            looked.candidates.push(Candidate::Content(self.content));
        }
        Ok(())
    }
}

pub(super) fn lists(
    tx: &mut Tx<'_>,
    mut after: (i64, i64),
    mut list: Option<List>,
    looked: &mut ScanResult,
) -> Result<At> {
    let rows = tx.all(
        "SELECT cp.content, cp.start, p.size, p.digest
         FROM content_part cp LEFT JOIN part p ON p.id = cp.part
         WHERE (cp.content, cp.start) > ($1, $2) ORDER BY cp.content, cp.start LIMIT $3",
        params![after.0, after.1, CHECK_PAGE_ROWS],
    )?;
    looked.rows += rows.len() as u64;
    for row in &rows {
        after = (row.int(0)?, row.int(1)?);
        if list.as_ref().is_none_or(|list| list.content != after.0)
            && let Some(last) = list.replace(List::new(after.0))
        {
            last.close(tx, looked)?;
        }
        if let Some(list) = &mut list {
            list.add(row, 1)?;
        }
    }
    if !is_last(&rows) {
        return Ok(At::Lists { after, list });
    }
    if let Some(last) = list {
        last.close(tx, looked)?;
    }
    Ok(At::Contents(0))
}

/// Scans for contents that have lost all parts, or that nothing refers to.
pub(super) fn contents(tx: &mut Tx<'_>, after: i64, looked: &mut ScanResult) -> Result<At> {
    let ids = "SELECT MAX(id), COUNT(*) FROM (
                 SELECT id FROM content WHERE id > $1 ORDER BY id LIMIT $2) AS page";
    let Some((last, count)) = page(tx, ids, after)? else {
        return Ok(At::Chunks { after: Default::default(), run: None });
    };
    looked.rows += count;
    let rows = tx.all(
        concat!(
            "SELECT c.id FROM content c WHERE c.id > $1 AND c.id <= $2 AND (
               (c.size <> 0 AND c.etag IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM content_part cp WHERE cp.content = c.id))
               OR (NOT ",
            entries::has_content_ref!("c.id"),
            "
                 AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.kind = 2 AND p.target = c.id)
                 AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 2 AND g.id = c.id)))"
        ),
        params![after, last],
    )?;
    candidates(&rows, looked, Candidate::Content)?;
    Ok(At::Contents(last))
}

/// Scans for parts that nothing refers to, or whose bytes are nowhere, in two places, or of another length.
pub(super) fn parts(tx: &mut Tx<'_>, after: i64, looked: &mut ScanResult) -> Result<At> {
    let ids = "SELECT MAX(id), COUNT(*) FROM (
                 SELECT id FROM part WHERE id > $1 ORDER BY id LIMIT $2) AS page";
    let Some((last, count)) = page(tx, ids, after)? else { return Ok(At::End) };
    looked.rows += count;
    let rows = tx.all(
        "SELECT p.id FROM part p WHERE p.id > $1 AND p.id <= $2 AND (
           (p.bytes IS NULL AND p.object IS NULL)
           OR (p.bytes IS NOT NULL AND p.object IS NOT NULL)
           OR LENGTH(p.bytes) <> p.size
           OR (NOT EXISTS (SELECT 1 FROM content_part cp WHERE cp.part = p.id)
               AND NOT EXISTS (SELECT 1 FROM upload_chunk c WHERE c.part = p.id)
               AND NOT EXISTS (SELECT 1 FROM pin i WHERE i.kind = 3 AND i.target = p.id)
               AND NOT EXISTS (SELECT 1 FROM garbage g WHERE g.kind = 3 AND g.id = p.id)))",
        params![after, last],
    )?;
    candidates(&rows, looked, Candidate::Part)?;
    Ok(At::Parts(last))
}

/// A page of the parts whose bytes are to be checked, and the id of the last part of the page; `None` after
/// the last page. Bytes in the database are only read, and their parts only returned, in a deep check.
///
/// # Errors
/// Those of the engine.
pub fn stored_parts(
    tx: &mut Tx<'_>,
    after: i64,
    request: &CheckRequest,
) -> Result<Option<(i64, Vec<PartRow>)>> {
    let sql = if request.deep {
        "SELECT id, digest, size, object, bytes FROM part WHERE id > $1 ORDER BY id LIMIT $2"
    } else {
        "SELECT id, digest, size, object, NULL FROM part WHERE id > $1 ORDER BY id LIMIT $2"
    };
    let rows = tx.all(sql, params![after, CHECK_FINDINGS_MAX as i64])?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = last.int(0)?;
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let object = row.opt_text(3)?;
        if object.is_some() || request.deep {
            let bytes = row.opt_bytes(4)?.map(Bytes::from);
            let (id, digest, size) = (row.int(0)?, row.digest(1)?, row.count(2)?);
            parts.push(PartRow { start: 0, id, digest, size, bytes, object });
        }
    }
    Ok(Some((last, parts)))
}
