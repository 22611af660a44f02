//! Upload sessions: the stored chunks of a chunked upload.
//!
//! **Invariants:** the chunks of a session do not overlap. `received` is the sum of their bytes, so a session
//! is complete when `received` equals `total`. A commit drops the chunks, in steps if there are many; the row
//! of the session stays until it expires, so that a repeated commit succeeds. A session that is deleted while
//! it has many chunks is unknown to requests; its row stays until the chunks are dropped. A chunk for a range
//! that is stored already must have the same bytes, else it is refused.

mod commit;
mod expiry;
mod pieces;
mod reading;

pub use commit::{Built, Committed, Long, Outcome, commit, delete, drop_pieces, not_to_commit};
pub use expiry::expire;
pub use pieces::{Fingerprint, Piece};
pub use reading::{Listing, Reading};

use crate::{
    error::{Error, Kind, Result},
    limits::SESSION_PARTS_MAX,
    model::{ChunkRange, Digest, Replaces, SessionId, StorePath},
    namespace::{
        content::{self, Part},
        counted::Counted,
        session::pieces::PieceOwner,
        sql::{Row, Tx, params},
        tree::{self, Target},
    },
};

/// The value of `upload_session.committed` while the session takes chunks.
const OPEN: i64 = 0;
/// The value after the session has become a file.
const COMMITTED: i64 = 1;
/// The value after the session was deleted, while chunks are left.
const GIVEN_UP: i64 = 2;

struct Found {
    path: StorePath,
    total: i64,
    received: i64,
    pieces: i64,
    modified: i64,
    committed: bool,
}

fn find(tx: &mut Tx<'_>, id: SessionId) -> Result<Option<Found>> {
    let sql = "SELECT path, total, received, pieces, modified, committed FROM upload_session
               WHERE id = $1 AND committed < 2";
    tx.first(sql, params![&id.to_string()])?.map(|row| found(&row)).transpose()
}

/// The path of a session; `None` if no session has the id.
///
/// # Errors
/// Those of the database.
pub fn path(tx: &mut Tx<'_>, id: SessionId) -> Result<Option<StorePath>> {
    Ok(find(tx, id)?.map(|session| session.path))
}

fn found(row: &Row) -> Result<Found> {
    Ok(Found {
        path: StorePath::parse(&row.text(0)?, "path").map_err(Error::internal)?,
        total: row.int(1)?,
        received: row.int(2)?,
        pieces: row.int(3)?,
        modified: row.int(4)?,
        committed: row.int(5)? == COMMITTED,
    })
}

/// The error for an id that no session has.
pub fn unknown(id: SessionId) -> Error {
    let message = format!("no upload session has the id {id}; it may have expired");
    Error::new(Kind::SessionNotFound, message)
        .field("session_id")
        .with("session_id", id.to_string())
}

/// Whether the bytes of a chunk are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No byte of the chunk is stored.
    Wanted,
    /// Every byte of the chunk is stored already.
    There,
}

/// The bytes of a chunk that is added to its session.
#[derive(Debug)]
pub enum Sent {
    /// New parts.
    Parts(Vec<Part>),
    /// The bytes of the stored pieces with this [`Fingerprint`].
    Stored(Digest),
}

/// Compares a chunk with its session, if that exists.
///
/// # Errors
/// `SessionConflict` if the session has another path, or is committed and its file was changed since;
/// `InvalidArgument` for another total, `BadRange` if the range is stored, but not all of it, `AlreadyExists`
/// if the file does not fit at the path, `Busy` if the session is being deleted.
pub fn check_chunk(
    tx: &mut Tx<'_>,
    id: SessionId,
    at: (&StorePath, Replaces),
    chunk: ChunkRange,
) -> Result<Verdict> {
    judge(tx, id, at, chunk).map(|(verdict, _)| verdict)
}

/// As [`check_chunk`], and returns where the pieces of the session are stored.
fn judge(
    tx: &mut Tx<'_>,
    id: SessionId,
    (path, replaces): (&StorePath, Replaces),
    chunk: ChunkRange,
) -> Result<(Verdict, PieceOwner)> {
    let source = PieceOwner::Session(id);
    let Some(session) = find(tx, id)? else {
        if tx.exists("SELECT 1 FROM upload_session WHERE id = $1", params![&id.to_string()])? {
            return Err(changed(id));
        }
        tree::check_file_fits(tx, path, replaces)?;
        return Ok((Verdict::Wanted, source));
    };
    if session.path != *path {
        // The caller need not have the right to know the path of the session.
        let message = format!(
            "the upload session {id} belongs to another path than \"{path}\"; use a new session"
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
    if !session.committed {
        return Ok((pieces::judge_range(tx, id, chunk)?, source));
    }
    match tree::resolve(tx, path)? {
        Some(Target::File(file)) if file.size == session.total => {
            Ok((Verdict::There, PieceOwner::Content(file.content)))
        }
        _ => {
            let message = format!(
                "the upload session {id} is committed, and its file \"{path}\" was changed or deleted \
                 since; use a new session"
            );
            Err(Error::new(Kind::SessionConflict, message)
                .field("session_id")
                .with("session_id", id.to_string()))
        }
    }
}

/// The error for a chunk whose bytes differ from those stored for its range.
pub fn other_bytes(id: SessionId, path: &StorePath, chunk: ChunkRange) -> Error {
    let message = format!(
        "the upload session {id} of \"{path}\" has other bytes {} to {} than these; nothing has \
         changed; send a changed file in a new session",
        chunk.offset,
        chunk.end() - 1
    );
    Error::new(Kind::SessionConflict, message).field("data").with("session_id", id.to_string())
}

/// The error for a chunk whose session has changed since the chunk began.
pub fn changed(id: SessionId) -> Error {
    let message = format!("the upload session {id} has changed or expired meanwhile; try again");
    Error::new(Kind::Busy, message)
}

/// A page of the stored pieces of a chunk that is stored completely, from the one that contains the offset
/// `from`: at least one, without a gap.
///
/// # Errors
/// Those of [`check_chunk`]; `Busy` if the pieces are no longer stored.
pub fn stored(
    tx: &mut Tx<'_>,
    id: SessionId,
    path: &StorePath,
    (chunk, from): (ChunkRange, i64),
) -> Result<Vec<Piece>> {
    let (verdict, source) = judge(tx, id, (path, Replaces::default()), chunk)?;
    let pieces = pieces::list(tx, source, (from, chunk.end()))?;
    if verdict == Verdict::Wanted || pieces.is_empty() {
        return Err(changed(id));
    }
    Ok(pieces)
}

/// Adds a chunk to its session, all or nothing; the first chunk makes the session. Parts of a chunk that is
/// stored already are not added. Returns whether the chunk was needed.
///
/// # Errors
/// Those of [`check_chunk`]; `SessionConflict` if other bytes are stored for the range, since the session may
/// have changed while the chunk arrived; `Busy` if the bytes cannot be compared; `TooLarge` if the session
/// would have more than [`SESSION_PARTS_MAX`] parts.
pub fn add_chunk(
    tx: &mut Tx<'_>,
    id: SessionId,
    (path, replaces): (&StorePath, Replaces),
    chunk: ChunkRange,
    sent: &Sent,
) -> Result<Verdict> {
    let (verdict, source) = judge(tx, id, (path, replaces), chunk)?;
    let parts: &[Part] = match (verdict, sent) {
        (Verdict::Wanted, Sent::Parts(parts)) => parts,
        (Verdict::Wanted, Sent::Stored(_)) => return Err(changed(id)),
        (Verdict::There, Sent::Stored(fingerprint)) => {
            if pieces::fingerprint(tx, source, chunk)? != *fingerprint {
                return Err(changed(id));
            }
            &[]
        }
        // The same chunk has arrived twice at the same time.
        (Verdict::There, Sent::Parts(parts)) => {
            match pieces::are_stored(tx, source, chunk, parts)? {
                Some(true) => &[],
                Some(false) => return Err(other_bytes(id, path, chunk)),
                None => return Err(changed(id)),
            }
        }
    };
    let now = tx.now()?;
    let new = tx.execute(
        "INSERT INTO upload_session (id, path, total, received, pieces, modified, committed)
         VALUES ($1, $2, $3, 0, 0, $4, 0) ON CONFLICT (id) DO NOTHING",
        params![&id.to_string(), path.as_str(), chunk.total, now],
    )?;
    let mut start = chunk.offset;
    for part in parts {
        let row = content::find_or_insert_part(tx, part)?;
        tx.execute(
            "INSERT INTO upload_chunk (session, start, size, part) VALUES ($1, $2, $3, $4)",
            params![&id.to_string(), start, part.size, row],
        )?;
        start += part.size;
    }
    let row = tx.one(
        "UPDATE upload_session SET received = received + $1, pieces = pieces + $2, modified = $3
         WHERE id = $4 RETURNING pieces",
        params![start - chunk.offset, parts.len() as i64, now, &id.to_string()],
    )?;
    if verdict == Verdict::Wanted {
        tx.count(Counted::Staging, new as i64, start - chunk.offset);
    }
    if row.int(0)? > SESSION_PARTS_MAX {
        let message = format!("the upload session {id} has too many pieces; send larger chunks");
        return Err(Error::new(Kind::TooLarge, message).with("session_id", id.to_string()));
    }
    Ok(verdict)
}
