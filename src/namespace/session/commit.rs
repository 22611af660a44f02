//! The end of an upload session: a commit or a deletion.

use crate::{
    error::{Error, Kind, Result},
    limits::{EXPIRE_ROWS, LIST_STEP_ROWS, TOTAL_MAX},
    model::{Conditions, Replaces, SessionId, StorePath},
    namespace::{
        assembly::{self, Assembled, Cursor},
        condition,
        content::{self, ListedPart},
        counted::Counted,
        garbage::{Ref, enqueue_if_unreferenced},
        pin::Owner,
        session::{COMMITTED, Found, GIVEN_UP, OPEN, changed, find, unknown},
        sql::{Tx, params},
        tree::{self, File, Target},
    },
};

/// The path of a committed file; the file; and how many files it replaced, if this call made it visible.
pub type Committed = (StorePath, Option<File>, Option<i64>);

/// A complete session with so many pieces that its list of parts is built in steps before the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    id: SessionId,
    total: i64,
    modified: i64,
}

impl Long {
    /// The next page of its parts; empty after the last one.
    ///
    /// # Errors
    /// `Busy` if the session has changed since, `Corrupt` if its pieces are not the whole file.
    pub fn page(&self, tx: &mut Tx<'_>, at: Cursor) -> Result<Vec<ListedPart>> {
        if !find(tx, self.id)?.is_some_and(|session| self.is(&session)) {
            return Err(changed(self.id));
        }
        page(tx, self.id, self.total, at)
    }

    fn is(&self, session: &Found) -> bool {
        !session.committed
            && (session.total, session.received) == (self.total, self.total)
            && session.modified == self.modified
    }
}

/// The content of a long session, which was built in steps and is pinned by its owner.
#[derive(Clone, Debug)]
pub struct Built {
    /// The session of the content.
    pub session: Long,
    /// The owner of the pin.
    pub owner: Owner,
    /// Its content.
    pub list: Assembled,
}

/// The result of [`commit`].
#[derive(Debug)]
pub enum Outcome {
    /// The session is committed.
    Done(Committed),
    /// Nothing has changed: the list of parts must be built first.
    Long(Long),
}

/// The error for the commit of an id that no session has.
pub fn not_to_commit(id: SessionId) -> Error {
    Error::invalid("session_id", unknown(id).message().to_owned())
}

/// Makes the file of a complete session visible, in one transaction of bounded size. The list of a session of
/// more than [`LIST_STEP_ROWS`] pieces must be built before, and its pieces are dropped later by
/// [`drop_pieces`].
///
/// Returns the path, the file (`None` if it was deleted since an earlier commit), and how many files this
/// call replaced (`None` if the session was committed already). The conditions are not checked for a
/// committed session.
///
/// # Errors
/// `InvalidArgument` for an unknown or incomplete session, `AlreadyExists` if the path is a folder or below a
/// file, unless the file may replace those, `PreconditionFailed`, `Corrupt` if its pieces are not the whole
/// file, `Busy` if the session has changed since `built` was built.
pub fn commit(
    tx: &mut Tx<'_>,
    id: SessionId,
    (replaces, conditions): (Replaces, &Conditions),
    built: Option<&Built>,
) -> Result<Outcome> {
    let Some(session) = find(tx, id)? else {
        return Err(not_to_commit(id));
    };
    if session.committed {
        let found = tree::resolve(tx, &session.path)?;
        let file = if let Some(Target::File(file)) = found { Some(file) } else { None };
        return Ok(Outcome::Done((session.path, file, None)));
    }
    if session.received != session.total {
        let message = format!(
            "the upload session {id} of \"{}\" has {} of {} bytes; send its expected ranges",
            session.path, session.received, session.total
        );
        return Err(Error::invalid("session_id", message));
    }
    let at = (&session.path, replaces);
    condition::check_file(tx, at, conditions)?;
    let ((file, files_replaced), left) = match built {
        Some(Built { session: long, owner, list }) if long.is(&session) => {
            (assembly::put(tx, owner, at, list, None)?, session.pieces)
        }
        Some(_) => return Err(changed(id)),
        None if session.pieces > LIST_STEP_ROWS as i64 => {
            let (total, modified) = (session.total, session.modified);
            return Ok(Outcome::Long(Long { id, total, modified }));
        }
        None => (put_short(tx, id, at, session.total)?, 0),
    };
    let now = tx.now()?;
    tx.execute(
        "UPDATE upload_session SET committed = $1, pieces = $2, modified = $3 WHERE id = $4",
        params![COMMITTED, left, now, &id.to_string()],
    )?;
    tx.count(Counted::Staging, -1, -session.received.clamp(0, TOTAL_MAX));
    Ok(Outcome::Done((session.path, Some(file), Some(files_replaced))))
}

/// Makes the file of a session with few pieces visible, and drops the pieces.
fn put_short(
    tx: &mut Tx<'_>,
    id: SessionId,
    at: (&StorePath, Replaces),
    total: i64,
) -> Result<(File, i64)> {
    let (mut parts, mut cursor) = (Vec::new(), Cursor::default());
    loop {
        let page = page(tx, id, total, cursor)?;
        if page.is_empty() {
            break;
        }
        cursor.pass(&page);
        parts.extend(page);
    }
    let made = content::find_or_insert_content(tx, &parts, None)?;
    let put = content::put_content(tx, at, made)?;
    drop_all(tx, id)?;
    Ok(put)
}

/// The next page of parts of a complete session. It fails if the parts have a gap or do not end with the
/// file, so that a damaged session cannot become a file of other bytes.
fn page(tx: &mut Tx<'_>, id: SessionId, total: i64, at: Cursor) -> Result<Vec<ListedPart>> {
    let sql =
        "SELECT p.id, p.size, p.digest, c.start FROM upload_chunk c JOIN part p ON p.id = c.part
               WHERE c.session = $1 AND c.start >= $2 ORDER BY c.start LIMIT $3";
    let rows = tx.all(sql, params![&id.to_string(), at.start, LIST_STEP_ROWS as i64])?;
    let (mut parts, mut end, mut is_whole) = (Vec::with_capacity(rows.len()), at.start, true);
    for row in &rows {
        let (part, size) = (row.int(0)?, row.int(1)?);
        is_whole &= row.int(3)? == end && size > 0;
        end = end.saturating_add(size);
        parts.push((part, size, row.digest(2)?));
    }
    if is_whole && (end == total || !rows.is_empty() && end < total) {
        return Ok(parts);
    }
    let message = format!(
        "pieces of the upload session {id} are damaged; delete the session and upload again"
    );
    Err(Error::new(Kind::Corrupt, message).with("session_id", id.to_string()))
}

fn drop_all(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    let sql = "DELETE FROM upload_chunk WHERE session = $1 RETURNING part";
    for row in tx.all(sql, params![&id.to_string()])? {
        enqueue_if_unreferenced(tx, Ref::part(row.int(0)?))?;
    }
    Ok(())
}

/// Drops one step of pieces. Returns how many were dropped, and their bytes.
pub(super) fn drop_some(tx: &mut Tx<'_>, id: SessionId) -> Result<(usize, i64)> {
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part, size",
        params![&id.to_string(), EXPIRE_ROWS as i64],
    )?;
    let mut bytes: i64 = 0;
    for row in &rows {
        enqueue_if_unreferenced(tx, Ref::part(row.int(0)?))?;
        bytes = bytes.saturating_add(row.count(1)?);
    }
    Ok((rows.len(), bytes))
}

/// Drops one step of pieces of a session that is committed or deleted; the row of a deleted session goes with
/// its last pieces. Returns whether there may be more.
pub fn drop_pieces(tx: &mut Tx<'_>, id: SessionId) -> Result<bool> {
    let sql = "SELECT committed FROM upload_session WHERE id = $1";
    let state = tx.first(sql, params![&id.to_string()])?.map(|row| row.int(0)).transpose()?;
    let Some(state) = state.filter(|state| *state != OPEN) else { return Ok(false) };
    let (dropped, _) = drop_some(tx, id)?;
    let is_over = dropped < EXPIRE_ROWS;
    if is_over && state == GIVEN_UP {
        tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    } else {
        let sql = "UPDATE upload_session SET pieces = pieces - $1 WHERE id = $2";
        tx.execute(sql, params![dropped as i64, &id.to_string()])?;
    }
    Ok(!is_over)
}

/// Deletes a session and its chunks. Returns whether there are so many chunks that [`drop_pieces`] must drop
/// them; if that is not called, the next expiry drops them.
///
/// # Errors
/// `SessionNotFound`.
pub fn delete(tx: &mut Tx<'_>, id: SessionId) -> Result<bool> {
    let sql = "SELECT received, pieces, committed FROM upload_session
               WHERE id = $1 AND committed < 2";
    let row = tx.first(sql, params![&id.to_string()])?.ok_or_else(|| unknown(id))?;
    if row.int(2)? == OPEN {
        tx.count(Counted::Staging, -1, -row.count(0)?);
    }
    if row.int(1)? > LIST_STEP_ROWS as i64 {
        let sql = "UPDATE upload_session SET committed = $1, modified = 0 WHERE id = $2";
        tx.execute(sql, params![GIVEN_UP, &id.to_string()])?;
        return Ok(true);
    }
    drop_all(tx, id)?;
    tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    Ok(false)
}
