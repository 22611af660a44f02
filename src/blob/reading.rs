//! A part that is being read: its bytes are hashed piece by piece, and kept where the caller wants them.
//!
//! A file is read in pieces, each of which stays in the cache of the processor until it is hashed. A file
//! that is read as a whole and hashed afterwards passes through main memory twice more.

use std::{
    fs::File,
    io::{self, Read as _},
};

use super::Buffer;
use crate::limits::KIB;

/// The bytes read at once: enough for all SIMD lanes of the hash, and small beside the cache of a core.
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

    /// Adds the next bytes.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }

    /// Adds all bytes of a file. Blocks.
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

    /// Whether the bytes have this digest, and the bytes that were kept.
    pub(super) fn finish(self, digest: &[u8; 32]) -> (bool, Option<Buffer>) {
        let hash = self.hasher.finalize();
        (hash == blake3::Hash::from_bytes(*digest), self.kept)
    }
}
