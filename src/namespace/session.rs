//! Upload sessions: what has arrived of a chunked upload.
//!
//! **Invariants:** the chunks of a session do not overlap; `received` is their sum, so a session is
//! complete when it equals the total. Once it is committed its chunks are dropped, in steps where they are
//! many; its row stays until it expires, so that a repeated commit succeeds. One that is given up with many
//! chunks is no session any more, and its row stays until they are gone. Bytes that are stored are never taken for others: a
//! chunk that comes again has the same ones, or is refused.

mod commit;
mod expiry;
mod pieces;
mod reading;

pub use commit::{Built, Committed, Long, Outcome, commit, delete, drop_pieces};
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
        session::pieces::Source,
        sql::{Row, Tx, params},
        tree::{self, Target},
    },
};

/// What `upload_session.committed` says of one that takes chunks.
const OPEN: i64 = 0;
/// Of one that has become a file.
const COMMITTED: i64 = 1;
/// Of one that is given up.
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

/// The bytes of a chunk, as they are added to its session.
#[derive(Debug)]
pub enum Sent {
    /// They are new.
    Parts(Vec<Part>),
    /// They are those of the stored pieces that have this [`Fingerprint`].
    Stored(Digest),
}

/// Judges a chunk against its session, if there is one.
///
/// # Errors
/// `SessionConflict` for another path, or if the session is committed and its file is another by now;
/// `InvalidArgument` for another total, `BadRange` if it overlaps what is there in part, `AlreadyExists`
/// if the file could not be at the path.
pub fn check_chunk(
    tx: &mut Tx<'_>,
    id: SessionId,
    at: (&StorePath, Replaces),
    chunk: ChunkRange,
) -> Result<Verdict> {
    judge(tx, id, at, chunk).map(|(verdict, _)| verdict)
}

/// The same, and what has the pieces of the session.
fn judge(
    tx: &mut Tx<'_>,
    id: SessionId,
    (path, replaces): (&StorePath, Replaces),
    chunk: ChunkRange,
) -> Result<(Verdict, Source)> {
    let source = Source::Session(id);
    let Some(session) = find(tx, id)? else {
        if tx.exists("SELECT 1 FROM upload_session WHERE id = $1", params![&id.to_string()])? {
            return Err(changed(id));
        }
        tree::check_file_fits(tx, path, replaces)?;
        return Ok((Verdict::Wanted, source));
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
    if !session.committed {
        return Ok((pieces::judge_range(tx, id, chunk)?, source));
    }
    match tree::resolve(tx, path)? {
        Some(Target::File(file)) if file.size == session.total => {
            Ok((Verdict::There, Source::Content(file.content)))
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

/// The error for a chunk that has other bytes than are stored for its range.
pub fn other_bytes(id: SessionId, path: &StorePath, chunk: ChunkRange) -> Error {
    let message = format!(
        "the upload session {id} of \"{path}\" has other bytes {} to {} than these; nothing has \
         changed; send a changed file in a new session",
        chunk.offset,
        chunk.end() - 1
    );
    Error::new(Kind::SessionConflict, message).field("data").with("session_id", id.to_string())
}

/// The error for a chunk whose session is no longer what it was when the chunk began.
pub fn changed(id: SessionId) -> Error {
    let message = format!("the upload session {id} has changed or expired meanwhile; try again");
    Error::new(Kind::Busy, message)
}

/// The stored pieces of a chunk whose bytes are all there, from the one that holds `from` on: some of
/// them, without a gap, at least one.
///
/// # Errors
/// Those of [`check_chunk`]; `Busy` if they are not there any more.
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

/// Adds a chunk to its session, all or nothing; the first one makes the session. Returns whether its
/// parts were wanted: what is there already stays.
///
/// # Errors
/// As [`check_chunk`], and `SessionConflict` if other bytes are stored for its range: the session may have
/// changed while they arrived. `Busy` if that cannot be told. `TooLarge` if it would have more than
/// [`SESSION_PARTS_MAX`] parts.
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
        // It came twice at once.
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
