//! A part that is being read: hashed piece by piece, and kept where its bytes are wanted.
//!
//! A file is read in pieces that stay in the processor's cache until they are hashed. Read whole and
//! hashed afterwards, its bytes go through the memory twice more.

use std::{
    fs::File,
    io::{self, Read as _},
};

use super::Buffer;
use crate::limits::KIB;

/// What is read at once: enough for the hash to use all lanes, and small beside a core's cache.
const PIECE_BYTES: usize = 64 * KIB;

/// A part that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    hasher: blake3::Hasher,
    kept: Option<Buffer>,
}

impl Reading {
    /// Begins to read; the bytes are appended to `kept`, if there is one.
    pub(super) fn new(kept: Option<Buffer>) -> Self {
        Self { hasher: blake3::Hasher::new(), kept }
    }

    /// Takes the next bytes.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }

    /// Takes all bytes of a file. Blocks.
    pub(super) fn file(mut self, mut file: File) -> io::Result<Self> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(self),
                Ok(read) => self.piece(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the bytes are those of a digest, and what was kept of them.
    pub(super) fn finish(self, digest: &[u8; 32]) -> (bool, Option<Buffer>) {
        let hash = self.hasher.finalize();
        (hash == blake3::Hash::from_bytes(*digest), self.kept)
    }
}
