//! Comparison of a chunk with a range that is stored already.
//!
//! The bytes of the chunk are hashed at the boundaries of the stored parts and are not kept. Stored bytes are read
//! only where a stored part extends beyond the chunk. The stored parts are listed while the bytes arrive; the
//! transaction verifies by fingerprint that they belonged to the session until its end.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    budget::Peer,
    error::{Error, Result},
    model::{ChunkRange, Digest, SessionId, StorePath},
    namespace::{
        content,
        session::{self, Fingerprint, Piece},
        sql::Tx,
    },
    store::{Store, hash},
};

/// The comparison of the bytes of a chunk with the stored bytes.
#[derive(Debug)]
pub(super) struct Comparison {
    store: Store,
    session: SessionId,
    path: StorePath,
    range: ChunkRange,
    peer: Peer,
    /// The stored pieces that are listed and not compared yet.
    pieces: VecDeque<Piece>,
    /// The offset of the next byte of the chunk in the file.
    next: i64,
    /// The hash of the received bytes within the first of these pieces.
    hasher: blake3::Hasher,
    compared: Fingerprint,
}

impl Comparison {
    pub(super) fn new(
        store: Store,
        session: SessionId,
        path: StorePath,
        range: ChunkRange,
        peer: Peer,
    ) -> Self {
        let (pieces, hasher) = (VecDeque::new(), blake3::Hasher::new());
        let (next, compared) = (range.offset, Fingerprint::default());
        Self { store, session, path, range, peer, pieces, next, hasher, compared }
    }

    /// Compares the next bytes, which must not exceed the chunk.
    ///
    /// # Errors
    /// `SessionConflict` at the end of a piece that has other bytes; those of [`session::stored`] and of
    /// [`Store::read_part`].
    pub(super) async fn write(&mut self, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            let piece = self.piece().await?;
            let end = piece.end().min(self.range.end());
            let left = usize::try_from(end - self.next).unwrap_or(0);
            let bytes = data.split_to(data.len().min(left));
            self.next += bytes.len() as i64;
            self.hasher = hash::update(std::mem::take(&mut self.hasher), bytes).await?;
            if self.next == end {
                self.compare(piece).await?;
            }
        }
        Ok(())
    }

    /// The fingerprint of the compared pieces. To be called after all bytes of the chunk.
    pub(super) fn finish(&self) -> Digest {
        self.compared.finish()
    }

    /// The stored piece with the next byte.
    async fn piece(&mut self) -> Result<Piece> {
        if let Some(piece) = self.pieces.front() {
            return Ok(*piece);
        }
        let (session, path, at) = (self.session, self.path.clone(), (self.range, self.next));
        let list = move |tx: &mut Tx<'_>| session::stored(tx, session, &path, at);
        self.pieces = self.store.0.engine.read(None, list).await?.into();
        let first = self.pieces.front().copied();
        first.ok_or_else(|| Error::internal("a chunk has no stored piece"))
    }

    /// Compares the hash of the received bytes within a piece with the stored bytes.
    async fn compare(&mut self, piece: Piece) -> Result<()> {
        let came = Digest::from(std::mem::take(&mut self.hasher).finalize());
        let is_whole = piece.start >= self.range.offset && piece.end() <= self.range.end();
        let stored = if is_whole { piece.digest } else { self.digest(piece).await? };
        if came != stored {
            return Err(session::other_bytes(self.session, &self.path, self.range));
        }
        self.compared.add(&piece);
        self.pieces.pop_front();
        Ok(())
    }

    /// The digest of the bytes of a piece that are within the range of the chunk. Reads the part.
    async fn digest(&self, piece: Piece) -> Result<Digest> {
        let part = move |tx: &mut Tx<'_>| content::part(tx, piece.part);
        let part = self.store.0.engine.read(None, part).await?;
        let part = part.ok_or_else(|| session::changed(self.session))?;
        let _share = self.store.share(self.peer, &part).await?;
        let bytes = self.store.read_part(&self.path, part).await?;
        let inside = |at: i64| usize::try_from(at - piece.start).unwrap_or(0).min(bytes.len());
        let (from, to) = (inside(self.range.offset), inside(self.range.end()));
        Ok(hash::hash_alone(bytes.slice(from..to)).await?.0)
    }
}
