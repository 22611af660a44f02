//! The pieces of an upload session: which ranges are stored, and whether the bytes of a repeated chunk are
//! the same.

use crate::{
    error::{Error, Kind, Result},
    model::{ChunkRange, Digest, SessionId},
    namespace::{
        content::{Part, hash_part},
        session::Verdict,
        sql::{Tx, params},
    },
};

/// The rows of pieces that are read at once.
const PAGE_ROWS: i64 = 10_000;

/// A stored piece of a file: one part at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The offset of the piece in the file.
    pub start: i64,
    /// Its size in bytes.
    pub size: i64,
    /// The id of its part.
    pub part: i64,
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
}

impl Piece {
    /// The offset of the end of the piece in the file.
    pub fn end(&self) -> i64 {
        self.start + self.size
    }
}

/// The digest of a list of pieces: equal fingerprints mean equal pieces.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    /// Adds the next piece.
    pub fn add(&mut self, piece: &Piece) {
        self.0.update(&piece.start.to_le_bytes());
        hash_part(&mut self.0, piece.size, &piece.digest);
    }

    /// The digest.
    pub fn finish(&self) -> Digest {
        self.0.finalize().into()
    }
}

/// Where the pieces of a session are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum PieceOwner {
    /// In the session, until it is committed.
    Session(SessionId),
    /// After that, in the content of its file.
    Content(i64),
}

/// A page of the stored pieces of a range without a gap, from the one that contains the offset `from`; empty
/// if that offset is not stored.
pub(super) fn list(
    tx: &mut Tx<'_>,
    source: PieceOwner,
    (from, end): (i64, i64),
) -> Result<Vec<Piece>> {
    let rows = match source {
        PieceOwner::Session(id) => tx.all(
            "SELECT c.start, c.size, p.id, p.digest FROM upload_chunk c JOIN part p ON p.id = c.part
             WHERE c.session = $1 AND c.start < $3 AND c.start >= (
               SELECT COALESCE(MAX(start), 0) FROM upload_chunk WHERE session = $1 AND start <= $2)
             ORDER BY c.start LIMIT $4",
            params![&id.to_string(), from, end, PAGE_ROWS],
        )?,
        PieceOwner::Content(id) => tx.all(
            "SELECT c.start, p.size, p.id, p.digest FROM content_part c JOIN part p ON p.id = c.part
             WHERE c.content = $1 AND c.start < $3 AND c.start >= (
               SELECT COALESCE(MAX(start), 0) FROM content_part WHERE content = $1 AND start <= $2)
             ORDER BY c.start LIMIT $4",
            params![id, from, end, PAGE_ROWS],
        )?,
    };
    let mut pieces: Vec<Piece> = Vec::with_capacity(rows.len());
    for row in &rows {
        let piece = Piece {
            start: row.count(0)?,
            size: row.count(1)?,
            part: row.int(2)?,
            digest: row.digest(3)?,
        };
        let follows = match pieces.last() {
            None => (piece.start..piece.end()).contains(&from),
            Some(last) => piece.start == last.end(),
        };
        if !follows {
            break;
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Calls `each` for the stored pieces of a range. Returns whether the whole range is stored.
fn walk(
    tx: &mut Tx<'_>,
    source: PieceOwner,
    chunk: ChunkRange,
    mut each: impl FnMut(&Piece),
) -> Result<bool> {
    let (mut from, end) = (chunk.offset, chunk.end());
    while from < end {
        let pieces = list(tx, source, (from, end))?;
        let Some(last) = pieces.last() else { return Ok(false) };
        from = last.end();
        pieces.iter().for_each(&mut each);
    }
    Ok(true)
}

/// The fingerprint of the stored pieces of a range.
pub(super) fn fingerprint(
    tx: &mut Tx<'_>,
    source: PieceOwner,
    chunk: ChunkRange,
) -> Result<Digest> {
    let mut fingerprint = Fingerprint::default();
    walk(tx, source, chunk, |piece| fingerprint.add(piece))?;
    Ok(fingerprint.finish())
}

/// Whether the parts of a chunk have the bytes that are stored for its range. `None`: unknown, because the
/// stored pieces begin or end at other offsets than the parts.
pub(super) fn are_stored(
    tx: &mut Tx<'_>,
    source: PieceOwner,
    chunk: ChunkRange,
    parts: &[Part],
) -> Result<Option<bool>> {
    let mut sent = parts
        .iter()
        .scan(chunk.offset, |next, part| {
            let start = *next;
            *next += part.size;
            Some((start, part))
        })
        .peekable();
    let (mut is_same, mut is_other) = (true, false);
    let is_whole = walk(tx, source, chunk, |piece| {
        while sent.next_if(|(start, _)| *start < piece.start).is_some() {}
        let cut_alike = |sent: &(i64, &Part)| (sent.0, sent.1.size) == (piece.start, piece.size);
        match sent.next_if(cut_alike) {
            Some((_, part)) => is_other |= part.digest != piece.digest,
            None => is_same = false,
        }
    })?;
    Ok(if is_other { Some(false) } else { (is_whole && is_same).then_some(true) })
}

/// Compares the range of a chunk with the ranges that are stored.
pub(super) fn judge_range(tx: &mut Tx<'_>, id: SessionId, chunk: ChunkRange) -> Result<Verdict> {
    let (session, end) = (id.to_string(), chunk.end());
    // Pieces do not overlap, so only the last of those before the chunk can reach into it.
    let sql = "SELECT start, size FROM upload_chunk WHERE session = $1 AND start < $2
               ORDER BY start DESC LIMIT 1";
    let before = match tx.first(sql, params![&session, chunk.offset])? {
        Some(row) => row.count(0)? + row.count(1)?,
        None => 0,
    };
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
            covered += row.count(1)?;
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
