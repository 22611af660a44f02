//! The end of an upload session: it becomes a file, or is given up.

use crate::{
    error::{Error, Kind, Result},
    limits::TOTAL_MAX,
    model::{Conditions, Digest, Replaces, SessionId, StorePath},
    namespace::{
        condition, content,
        counted::Counted,
        garbage::{Ref, let_go_if_last},
        session::{find, unknown},
        sql::{Tx, params},
        tree::{self, File, Target},
    },
};

/// Where a file was committed, the file, and how many files it replaced if it was made visible just now.
pub type Committed = (StorePath, Option<File>, Option<i64>);

/// Makes the file of a complete session visible: one metadata transaction, whatever its size.
///
/// Returns where it is and, unless it was deleted since an earlier commit, the file; and how many files
/// this call replaced, if it made it visible. The conditions are not looked at where it is visible already.
///
/// # Errors
/// `InvalidArgument` for an unknown or incomplete session, `AlreadyExists` onto a folder or below a
/// file, unless it may replace them, `PreconditionFailed`, `Corrupt` if its pieces are not the whole file.
pub fn commit(
    tx: &mut Tx<'_>,
    id: SessionId,
    (replaces, conditions): (Replaces, &Conditions),
) -> Result<Committed> {
    let Some(session) = find(tx, id)? else {
        return Err(Error::invalid("session_id", unknown(id).message().to_owned()));
    };
    if session.committed {
        let found = tree::resolve(tx, &session.path)?;
        let file = if let Some(Target::File(file)) = found { Some(file) } else { None };
        return Ok((session.path, file, None));
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
    let parts = chunk_parts(tx, id, session.total)?;
    let (file, files_replaced) = content::put_content(tx, at, &parts, None)?;
    let now = tx.now()?;
    tx.execute(
        "UPDATE upload_session SET committed = 1, pieces = 0, modified = $1 WHERE id = $2",
        params![now, &id.to_string()],
    )?;
    tx.count(Counted::Staging, -1, -counted(session.received));
    drop_chunks(tx, id)?;
    Ok((session.path, Some(file), Some(files_replaced)))
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
        end = end.saturating_add(size);
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
    let sql = "DELETE FROM upload_session WHERE id = $1 RETURNING received, committed";
    let row = tx.first(sql, params![&id.to_string()])?.ok_or_else(|| unknown(id))?;
    if row.int(1)? == 0 {
        tx.count(Counted::Staging, -1, -row.count(0)?);
    }
    Ok(())
}

/// What a session has received, as it is counted.
fn counted(received: i64) -> i64 {
    received.clamp(0, TOTAL_MAX)
}
