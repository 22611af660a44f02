//! Upload sessions: what has arrived of a chunked upload.
//!
//! **Invariants:** the chunks of a session do not overlap; `received` is their sum, so a session is
//! complete when it equals the total. A committed session has no chunks left; its row stays until
//! it expires, so that a repeated commit succeeds.

use crate::{
    error::{Error, Kind, Result},
    limits::{
        EXPIRE_ROWS, LIST_PAGE_BYTES, RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX, SESSION_PARTS_MAX,
        SESSION_RANGES_MAX,
    },
    model::{ByteRange, ChunkRange, Conditions, Digest, Page, Session, SessionId, StorePath},
    namespace::{
        condition,
        content::{self, Part},
        garbage::{Ref, let_go_if_last},
        list::check_token,
        sql::{Row, Tx, params},
        tree::{self, File, Target},
    },
};

/// Rows of chunks that are read at once.
const PAGE_ROWS: i64 = 10_000;

/// What a session of a page costs beside its path: the other fields of its message.
const SESSION_OVERHEAD_BYTES: usize = 96;
/// What a missing range of a session costs.
const RANGE_BYTES: usize = 24;

struct Found {
    path: StorePath,
    total: i64,
    received: i64,
    modified: i64,
    committed: bool,
}

fn find(tx: &mut Tx<'_>, id: SessionId) -> Result<Option<Found>> {
    let sql = "SELECT path, total, received, modified, committed FROM upload_session WHERE id = $1";
    tx.first(sql, params![&id.to_string()])?.map(|row| found(&row, 0)).transpose()
}

fn found(row: &Row, column: usize) -> Result<Found> {
    Ok(Found {
        path: StorePath::parse(&row.text(column)?, "path").map_err(Error::internal)?,
        total: row.int(column + 1)?,
        received: row.int(column + 2)?,
        modified: row.int(column + 3)?,
        committed: row.int(column + 4)? != 0,
    })
}

fn unknown(id: SessionId) -> Error {
    let message = format!("no upload session has the id {id}; it may have expired");
    Error::new(Kind::SessionNotFound, message)
        .field("session_id")
        .with("session_id", id.to_string())
}

/// Whether a chunk is to be stored, or is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its bytes are needed.
    Wanted,
    /// Every byte of it is there.
    There,
}

/// Judges a chunk against its session, if there is one.
///
/// # Errors
/// `SessionConflict` for another path, `InvalidArgument` for another total, `BadRange` if it overlaps
/// what is there in part, `AlreadyExists` if no file can be at the path.
pub fn check_chunk(
    tx: &mut Tx<'_>,
    id: SessionId,
    path: &StorePath,
    chunk: ChunkRange,
) -> Result<Verdict> {
    let Some(session) = find(tx, id)? else {
        tree::check_file_fits(tx, path, "path")?;
        return Ok(Verdict::Wanted);
    };
    if session.path != *path {
        let message = format!(
            "the upload session {id} belongs to \"{}\", not to \"{path}\"; use a new session",
            session.path
        );
        return Err(Error::new(Kind::SessionConflict, message)
            .field("path")
            .with("session_id", id.to_string()));
    }
    if session.total != chunk.total {
        let message = format!(
            "the upload session {id} is for a file of {} bytes, not of {}",
            session.total, chunk.total
        );
        return Err(Error::invalid("total_bytes", message));
    }
    if session.committed {
        return Ok(Verdict::There);
    }
    judge_range(tx, id, chunk)
}

/// Compares a chunk with the chunks that are there.
fn judge_range(tx: &mut Tx<'_>, id: SessionId, chunk: ChunkRange) -> Result<Verdict> {
    let (session, end) = (id.to_string(), chunk.offset + chunk.length);
    // Pieces do not overlap, so of those that begin before the chunk only the last one can reach it.
    let sql = "SELECT start + size FROM upload_chunk WHERE session = $1 AND start < $2
               ORDER BY start DESC LIMIT 1";
    let before = tx.first(sql, params![&session, chunk.offset])?;
    let before = before.map_or(Ok(0), |row| row.int(0))?;
    let mut covered = before.max(chunk.offset);
    let mut is_untouched = covered == chunk.offset;
    while covered < end {
        let rows = tx.all(
            "SELECT start, size FROM upload_chunk WHERE session = $1 AND start >= $2 AND start < $3
             ORDER BY start LIMIT $4",
            params![&session, covered, end, PAGE_ROWS],
        )?;
        is_untouched &= rows.is_empty();
        let from = covered;
        for row in &rows {
            if row.int(0)? != covered {
                break;
            }
            covered += row.int(1)?;
        }
        if covered == from {
            break;
        }
    }
    if covered >= end {
        return Ok(Verdict::There);
    }
    if is_untouched {
        return Ok(Verdict::Wanted);
    }
    let message = format!(
        "bytes {} to {} overlap what the upload session {id} has; ask it for its expected ranges",
        chunk.offset,
        end - 1
    );
    Err(Error::new(Kind::BadRange, message).field("offset").with("session_id", id.to_string()))
}

/// Adds the parts of a chunk to its session, all or none; the first chunk makes the session. Returns
/// whether they were wanted.
///
/// # Errors
/// As [`check_chunk`]; the session may have changed while the bytes arrived. `TooLarge` if it would
/// have more than [`SESSION_PARTS_MAX`] parts.
pub fn add_chunk(
    tx: &mut Tx<'_>,
    id: SessionId,
    path: &StorePath,
    chunk: ChunkRange,
    parts: &[Part],
) -> Result<Verdict> {
    let verdict = check_chunk(tx, id, path, chunk)?;
    let now = tx.now()?;
    tx.execute(
        "INSERT INTO upload_session (id, path, total, received, pieces, modified, committed)
         VALUES ($1, $2, $3, 0, 0, $4, 0) ON CONFLICT (id) DO NOTHING",
        params![&id.to_string(), path.as_str(), chunk.total, now],
    )?;
    if verdict == Verdict::Wanted {
        let mut start = chunk.offset;
        for part in parts {
            let row = content::find_or_insert_part(tx, part)?;
            tx.execute(
                "INSERT INTO upload_chunk (session, start, size, part) VALUES ($1, $2, $3, $4)",
                params![&id.to_string(), start, part.size, row],
            )?;
            start += part.size;
        }
    }
    let (bytes, pieces) =
        if verdict == Verdict::Wanted { (chunk.length, parts.len() as i64) } else { (0, 0) };
    let row = tx.one(
        "UPDATE upload_session SET received = received + $1, pieces = pieces + $2, modified = $3
         WHERE id = $4 RETURNING pieces",
        params![bytes, pieces, now, &id.to_string()],
    )?;
    if row.int(0)? > SESSION_PARTS_MAX {
        let message = format!("the upload session {id} has too many pieces; send larger chunks");
        return Err(Error::new(Kind::TooLarge, message).with("session_id", id.to_string()));
    }
    Ok(verdict)
}

/// Returns a session.
///
/// # Errors
/// `SessionNotFound`.
pub fn get(tx: &mut Tx<'_>, id: SessionId) -> Result<Session> {
    let session = find(tx, id)?.ok_or_else(|| unknown(id))?;
    describe(tx, id, session)
}

fn describe(tx: &mut Tx<'_>, id: SessionId, session: Found) -> Result<Session> {
    let expected =
        if session.committed { Vec::new() } else { gaps(tx, id, session.total, session.received)? };
    Ok(Session {
        id,
        path: session.path,
        total: session.total,
        modified: session.modified,
        expected,
        committed: session.committed,
    })
}

/// What is missing, in ascending order.
fn gaps(tx: &mut Tx<'_>, id: SessionId, total: i64, received: i64) -> Result<Vec<ByteRange>> {
    let mut gaps = Vec::new();
    if received == total {
        return Ok(gaps);
    }
    let mut next = 0;
    loop {
        let rows = tx.all(
            "SELECT start, size FROM upload_chunk WHERE session = $1 AND start >= $2
             ORDER BY start LIMIT $3",
            params![&id.to_string(), next, PAGE_ROWS],
        )?;
        for row in &rows {
            let (start, size) = (row.int(0)?, row.int(1)?);
            if start > next {
                gaps.push(ByteRange { start: next, end: start - 1 });
            }
            next = start + size;
        }
        if (rows.len() as i64) < PAGE_ROWS {
            if next < total {
                gaps.push(ByteRange { start: next, end: total - 1 });
            }
            break;
        }
        if gaps.len() >= SESSION_RANGES_MAX {
            break;
        }
    }
    gaps.truncate(SESSION_RANGES_MAX);
    Ok(gaps)
}

/// Lists the sessions of a path, or all, ordered by id. `token` is the id where the page begins. A
/// page ends at `size` sessions (0: the default) or at [`LIST_PAGE_BYTES`].
pub fn list(
    tx: &mut Tx<'_>,
    path: Option<&StorePath>,
    size: usize,
    token: &str,
) -> Result<Page<Session>> {
    check_token(token)?;
    let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
    let limit = size as i64 + 1;
    let rows = match path {
        Some(path) => tx.all(
            "SELECT id, path, total, received, modified, committed FROM upload_session
             WHERE substr(path, 1, 256) = substr($1, 1, 256) AND path = $1 AND id >= $2
             ORDER BY id LIMIT $3",
            params![path.as_str(), token, limit],
        )?,
        None => tx.all(
            "SELECT id, path, total, received, modified, committed FROM upload_session
             WHERE id >= $1 ORDER BY id LIMIT $2",
            params![token, limit],
        )?,
    };
    let mut items = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let text = row.text(0)?;
        if items.len() == size {
            return Ok(Page { items, next: Some(text) });
        }
        let id = SessionId::parse(&text).map_err(Error::internal)?;
        let session = describe(tx, id, found(row, 1)?)?;
        let ranges = session.expected.len() * RANGE_BYTES;
        bytes += session.path.as_str().len() + ranges + SESSION_OVERHEAD_BYTES;
        if bytes > LIST_PAGE_BYTES && !items.is_empty() {
            return Ok(Page { items, next: Some(text) });
        }
        items.push(session);
    }
    Ok(Page { items, next: None })
}

/// Where a file was committed, the file, and whether it was made visible just now.
pub type Committed = (StorePath, Option<File>, bool);

/// Makes the file of a complete session visible: one metadata transaction, whatever its size.
///
/// Returns where it is and, unless it was deleted since an earlier commit, the file; and whether this
/// call made it visible. The conditions are not looked at where it is visible already.
///
/// # Errors
/// `InvalidArgument` for an unknown or incomplete session, `AlreadyExists` onto a folder or below a
/// file, `PreconditionFailed`, `Corrupt` if its pieces are not the whole file.
pub fn commit(tx: &mut Tx<'_>, id: SessionId, conditions: &Conditions) -> Result<Committed> {
    let Some(session) = find(tx, id)? else {
        return Err(Error::invalid("session_id", unknown(id).message().to_owned()));
    };
    if session.committed {
        let found = tree::resolve(tx, &session.path)?;
        let file = if let Some(Target::File(file)) = found { Some(file) } else { None };
        return Ok((session.path, file, false));
    }
    if session.received != session.total {
        let message = format!(
            "the upload session {id} of \"{}\" has {} of {} bytes; send its expected ranges",
            session.path, session.received, session.total
        );
        return Err(Error::invalid("session_id", message));
    }
    condition::check_file(tx, &session.path, conditions)?;
    let parts = chunk_parts(tx, id, session.total)?;
    let file = content::put_content(tx, &session.path, &parts, None)?;
    let now = tx.now()?;
    tx.execute(
        "UPDATE upload_session SET committed = 1, pieces = 0, modified = $1 WHERE id = $2",
        params![now, &id.to_string()],
    )?;
    drop_chunks(tx, id)?;
    Ok((session.path, Some(file), true))
}

/// The parts of a complete session, without a gap and as long as the file: a damaged session must not
/// become a file of other bytes.
fn chunk_parts(tx: &mut Tx<'_>, id: SessionId, total: i64) -> Result<Vec<(i64, i64, Digest)>> {
    let sql =
        "SELECT p.id, p.size, p.digest, c.start FROM upload_chunk c JOIN part p ON p.id = c.part
               WHERE c.session = $1 ORDER BY c.start";
    let rows = tx.all(sql, params![&id.to_string()])?;
    let (mut parts, mut end, mut is_whole) = (Vec::with_capacity(rows.len()), 0, true);
    for row in &rows {
        let (part, size) = (row.int(0)?, row.int(1)?);
        is_whole &= row.int(3)? == end;
        end += size;
        parts.push((part, size, row.digest(2)?));
    }
    if is_whole && end == total {
        return Ok(parts);
    }
    let message = format!(
        "pieces of the upload session {id} are damaged; delete the session and upload again"
    );
    Err(Error::new(Kind::Corrupt, message).with("session_id", id.to_string()))
}

fn drop_chunks(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    let sql = "DELETE FROM upload_chunk WHERE session = $1 RETURNING part";
    for row in tx.all(sql, params![&id.to_string()])? {
        let_go_if_last(tx, Ref::part(row.int(0)?))?;
    }
    Ok(())
}

/// Forgets a session and its chunks.
///
/// # Errors
/// `SessionNotFound`.
pub fn delete(tx: &mut Tx<'_>, id: SessionId) -> Result<()> {
    drop_chunks(tx, id)?;
    let sql = "DELETE FROM upload_session WHERE id = $1";
    if tx.execute(sql, params![&id.to_string()])? == 0 {
        return Err(unknown(id));
    }
    Ok(())
}

/// Forgets a few sessions that nobody has touched for `life`. Returns whether more may be due.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let sql = "SELECT id FROM upload_session WHERE modified <= $1 ORDER BY modified LIMIT 1";
    let Some(row) = tx.first(sql, params![before])? else { return Ok(false) };
    let id = SessionId::parse(&row.text(0)?).map_err(Error::internal)?;
    // The pieces of a large session go in steps; the session last.
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part, size",
        params![&id.to_string(), EXPIRE_ROWS as i64],
    )?;
    for row in &rows {
        let_go_if_last(tx, Ref::part(row.int(0)?))?;
        let sql = "UPDATE upload_session SET received = received - $1, pieces = pieces - 1
                   WHERE id = $2";
        tx.execute(sql, params![row.int(1)?, &id.to_string()])?;
    }
    if rows.len() < EXPIRE_ROWS {
        tx.execute("DELETE FROM upload_session WHERE id = $1", params![&id.to_string()])?;
    }
    Ok(true)
}
