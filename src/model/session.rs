//! Upload sessions and the ranges of their chunks.

use std::fmt;

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    limits::TOTAL_MAX,
    model::StorePath,
};

/// The id of an upload session, a UUID that the caller makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Parses a UUID in its hyphenated form of 36 characters (reference, section 3.3).
    ///
    /// # Errors
    /// `InvalidSessionId` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
            _ => {
                let message = format!(
                    "the upload session identity is invalid: \"{text}\" is not a UUID of 36 characters"
                );
                Err(Error::new(Kind::InvalidSessionId, message).field("session_id"))
            }
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A range of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: i64,
    /// The last byte.
    pub end: i64,
}

/// The range of a file that a chunk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRange {
    /// The offset of its first byte.
    pub offset: i64,
    /// Its length in bytes.
    pub length: i64,
    /// The size of the file in bytes.
    pub total: i64,
}

impl ChunkRange {
    /// Makes a range, and checks that it is within the file.
    ///
    /// # Errors
    /// `BadRange` for a range that ends beyond the file, an empty chunk of a file that is not empty, or a
    /// file of more than [`TOTAL_MAX`] bytes.
    pub fn new(offset: u64, length: u64, total: u64) -> Result<Self> {
        let bad = |why: &str| {
            let message =
                format!("the chunk of {length} bytes at {offset} of a file of {total} bytes {why}");
            Error::new(Kind::BadRange, message).field("length")
        };
        if total > TOTAL_MAX as u64 {
            return Err(bad("is too large"));
        }
        if offset.checked_add(length).is_none_or(|end| end > total) {
            return Err(bad("ends beyond the file"));
        }
        if length == 0 && total != 0 {
            return Err(bad("is empty"));
        }
        Ok(Self { offset: offset as i64, length: length as i64, total: total as i64 })
    }

    /// The offset after the last byte of the chunk.
    pub fn end(&self) -> i64 {
        self.offset + self.length
    }
}

/// An upload session: an upload in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The path of the file.
    pub path: StorePath,
    /// The size of the file in bytes.
    pub total: i64,
    /// When the last chunk arrived, in microseconds since 1970.
    pub modified: i64,
    /// The missing ranges, ascending, at most [`SESSION_RANGES_MAX`](crate::limits::SESSION_RANGES_MAX).
    pub expected: Vec<ByteRange>,
    /// Whether the session is committed.
    pub committed: bool,
}
