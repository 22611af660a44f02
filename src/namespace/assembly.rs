//! Contents with long lists of parts, which are built in steps.
//!
//! If a content with the same list exists, its list is compared, and each page of it that differs is
//! rewritten. Otherwise a new content is filled; it has no etag, so no upload finds it. In both cases the
//! builder pins the content, and the source of the list (pins or chunks) keeps the parts until the content
//! refers to them. The last transaction sets the etag and makes the entry. A content that is abandoned before
//! that is reclaimed like other garbage.

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

/// The content of a list of parts, ready to be made visible once the whole list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The id of the content.
    pub content: i64,
    etag: Digest,
    /// Its size in bytes.
    pub(super) size: i64,
    /// Whether the content was new and so has no etag yet.
    is_new: bool,
}

/// A position in a list of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The number of parts before the position.
    pub parts: usize,
    /// The offset of the next part in the file.
    pub start: i64,
}

impl Cursor {
    /// Advances past a page of parts.
    pub fn pass(&mut self, page: &[ListedPart]) {
        self.parts += page.len();
        self.start = page.iter().fold(self.start, |end, (_, size, _)| end.saturating_add(*size));
    }
}

/// Pins the content of a list, or makes a new one without parts. Returns it, and whether its list exists and
/// must be compared.
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

/// Whether the list of a content continues with these parts at a position. For an empty page: whether the
/// list ends there.
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

/// Writes a page of parts into a content that the owner builds, in place of the parts in that range.
///
/// # Errors
/// `Busy` if the owner no longer has its pin on the content.
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
        // The last page also replaces everything after the end of the file.
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

/// Makes a file of a list that is written completely, and drops the owner's pin. The caller has checked that
/// the file fits at its path. Returns the file, and how many files it replaces.
///
/// # Errors
/// `Busy` if the owner no longer has its pin on the content; `AlreadyExists` as
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

/// Makes a file visible: from its written list if there is one, else with [`content::put_file`].
///
/// # Errors
/// Those of [`put`]; `AlreadyExists` if the path is a folder or below a file, unless the file may replace
/// those; `Busy` if a part that the caller believed to be stored is gone.
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

/// Sets the etag of the content. Returns the content with that etag, which is another one if that was stored
/// first.
pub(super) fn adopt(
    tx: &mut Tx<'_>,
    assembled: &Assembled,
    digest: Option<&Digest>,
) -> Result<i64> {
    let (etag, size) = (&assembled.etag, assembled.size);
    if assembled.is_new {
        // Another content with the same list may have been stored meanwhile.
        if let Some(row) = tx.first("SELECT id FROM content WHERE etag = $1", params![etag])? {
            return row.int(0);
        }
    }
    let sql =
        "UPDATE content SET etag = $1, size = $2, digest = COALESCE($3, digest) WHERE id = $4";
    if tx.execute(sql, params![etag, size, digest, assembled.content])? == 0 {
        return Err(Error::new(Kind::Busy, "the file is gone that was being built; try again"));
    }
    Ok(assembled.content)
}
