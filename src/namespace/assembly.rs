//! Contents of long lists of parts, which are built in steps.
//!
//! The content that has the list may be there already. It is compared, and what is damaged of it written
//! anew; else a new one is filled that has no etag, so that nobody finds it. Either is pinned by whoever
//! builds it, and what the list comes from holds the parts until the list refers to them. The last
//! transaction gives the content its etag and a path. One that is dropped half-way is garbage like any other.

use crate::{
    error::{Error, Kind, Result},
    model::{Digest, Replaces, StorePath},
    namespace::{
        content::{self, ListedPart, NewFile, Summary},
        garbage::{Ref, enqueue_if_unreferenced},
        pin::{self, Owner},
        sql::{Tx, params},
        tree::{self, File},
    },
};

/// A list of parts whose content can be made visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The content that has the list.
    pub content: i64,
    etag: Digest,
    size: i64,
    /// Whether it has no etag yet.
    is_new: bool,
}

/// How far a list has been gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Parts that are behind it.
    pub parts: usize,
    /// Where the next one begins in the file.
    pub start: i64,
}

impl Cursor {
    /// Goes on behind a page of parts.
    pub fn pass(&mut self, page: &[ListedPart]) {
        self.parts += page.len();
        self.start = page.iter().fold(self.start, |end, (_, size, _)| end.saturating_add(*size));
    }
}

/// Pins the content that has a list, or makes a new one without parts. What was there is to be compared.
///
/// # Errors
/// Those of the engine.
pub fn begin(tx: &mut Tx<'_>, owner: &Owner, list: &Summary) -> Result<(Assembled, bool)> {
    let etag = list.etag();
    let found = tx.first("SELECT id FROM content WHERE etag = $1", params![&etag])?;
    let is_new = found.is_none();
    let content = if let Some(row) = found {
        let content = row.int(0)?;
        pin::pin(tx, owner, Ref::content(content))?;
        content
    } else {
        content::new_content(tx, owner)?
    };
    Ok((Assembled { content, etag, size: list.size, is_new }, !is_new))
}

/// Whether a content has these parts from a place on; none of them: whether it ends there.
///
/// # Errors
/// Those of the engine.
pub fn has(tx: &mut Tx<'_>, content: i64, at: Cursor, page: &[ListedPart]) -> Result<bool> {
    let sql = "SELECT start, part FROM content_part WHERE content = $1 AND start >= $2
               ORDER BY start LIMIT $3";
    let rows = tx.all(sql, params![content, at.start, page.len().max(1) as i64])?;
    let (mut is_same, mut start) = (rows.len() == page.len(), at.start);
    for (row, (part, size, _)) in rows.iter().zip(page) {
        is_same &= (row.int(0)?, row.int(1)?) == (start, *part);
        start = start.saturating_add(*size);
    }
    Ok(is_same)
}

/// Writes some parts into a content that the owner builds, in place of what is there.
///
/// # Errors
/// `Cancelled` if the owner does not hold it any more.
pub fn write(
    tx: &mut Tx<'_>,
    owner: &Owner,
    assembled: &Assembled,
    at: Cursor,
    page: &[ListedPart],
) -> Result<()> {
    pin::check_one(tx, owner, Ref::content(assembled.content))?;
    let mut end = at;
    end.pass(page);
    let old = if assembled.is_new {
        Vec::new()
    } else {
        // Behind the last part there is nothing.
        let end = if end.start >= assembled.size { i64::MAX } else { end.start };
        let sql = "DELETE FROM content_part WHERE content = $1 AND start >= $2 AND start < $3
                   RETURNING part";
        tx.all(sql, params![assembled.content, at.start, end])?
    };
    content::insert_list(tx, assembled.content, at.start, page)?;
    for row in old {
        enqueue_if_unreferenced(tx, Ref::part(row.int(0)?))?;
    }
    Ok(())
}

/// Makes a file of a list that is written as a whole visible, where it is known that it may be at its path,
/// and drops the pin. Returns it, and how many files it replaces.
///
/// # Errors
/// `Cancelled` if the owner does not hold the content any more; `AlreadyExists` as
/// [`put_content`](content::put_content).
pub fn put(
    tx: &mut Tx<'_>,
    owner: &Owner,
    at: (&StorePath, Replaces),
    assembled: &Assembled,
    digest: Option<&Digest>,
) -> Result<(File, i64)> {
    let target = Ref::content(assembled.content);
    pin::check_one(tx, owner, target)?;
    let content = adopt(tx, assembled, digest)?;
    let put = content::put_content(tx, at, (content, assembled.size))?;
    pin::transfer(tx, owner, target)?;
    enqueue_if_unreferenced(tx, target)?;
    Ok(put)
}

/// The same as [`content::put_file`], which it is unless the list of the file is written as a whole.
///
/// # Errors
/// Those of [`put`]; `AlreadyExists` onto a folder or below a file, unless it may replace them; `Busy` if a
/// part that was thought to be stored is gone.
pub fn put_file(
    tx: &mut Tx<'_>,
    owner: &Owner,
    new: &NewFile,
    list: Option<&Assembled>,
) -> Result<(File, i64)> {
    let Some(list) = list else { return content::put_file(tx, new) };
    let at = (&new.path, new.replaces);
    tree::check_file_fits(tx, at.0, at.1)?;
    put(tx, owner, at, list, new.digest.as_ref())
}

/// The content that has the list from now on.
fn adopt(tx: &mut Tx<'_>, assembled: &Assembled, digest: Option<&Digest>) -> Result<i64> {
    let (etag, size) = (&assembled.etag, assembled.size);
    if assembled.is_new {
        // Another one may have come first.
        if let Some(row) = tx.first("SELECT id FROM content WHERE etag = $1", params![etag])? {
            return row.int(0);
        }
    }
    let sql =
        "UPDATE content SET etag = $1, size = $2, digest = COALESCE($3, digest) WHERE id = $4";
    if tx.execute(sql, params![etag, size, digest, assembled.content])? == 0 {
        return Err(Error::new(
            Kind::Cancelled,
            "the file is gone that was being built; try again",
        ));
    }
    Ok(assembled.content)
}
