//! Bytes that say whose they are: cells of 16 bytes, each with the number of its upload and its place
//! in the file. So any piece of a file tells which upload wrote it, and whether all of it did.

use std::ops::Range;

const CELL: usize = 16;
/// What is asked of a file with a range begins below this; no file is shorter.
pub(super) const SIZE_MIN: usize = 4096;
/// No shorter piece is looked at: it holds a whole cell wherever it begins.
pub(super) const PIECE_MIN: usize = 2 * CELL;

/// Where the bytes of an upload go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Into the database.
    Inline = 0,
    /// One object.
    Object = 1,
    /// Several parts.
    Large = 2,
}

/// The number of an upload: a serial number, and its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upload(u64);

impl Upload {
    pub(super) fn new(serial: usize, class: Class) -> Self {
        Self(serial as u64 * 3 + class as u64)
    }

    /// How many bytes it has.
    pub(super) fn size(self) -> usize {
        // Sizes differ, so that a mixture of two uploads shows in a listing as well.
        let more = (self.0 as usize / 3) % 500 * CELL;
        match self.0 % 3 {
            0 => SIZE_MIN + more,
            1 => 20 * 1024 + more,
            _ => 8 * 1024 * 1024 + more,
        }
    }

    /// Some of its bytes.
    pub(super) fn bytes(self, range: Range<usize>) -> Vec<u8> {
        let first = range.start / CELL;
        let mut bytes = Vec::with_capacity(range.len() + 2 * CELL);
        for cell in first..range.end.div_ceil(CELL) {
            bytes.extend(self.0.to_le_bytes());
            bytes.extend((cell as u64).to_le_bytes());
        }
        let skipped = range.start - first * CELL;
        bytes[skipped..skipped + range.len()].to_vec()
    }

    /// All of its bytes.
    pub(super) fn all(self) -> Vec<u8> {
        self.bytes(0..self.size())
    }

    /// Whose bytes these are, which were read from `offset` on.
    pub(super) fn of(bytes: &[u8], offset: usize) -> Self {
        let cell = offset.next_multiple_of(CELL) - offset;
        let number = bytes.get(cell..cell + 8).expect("at least a cell");
        let upload = Self(u64::from_le_bytes(number.try_into().expect("eight bytes")));
        let end = offset + bytes.len();
        assert!(end <= upload.size(), "{upload:?} is shorter than {end}");
        assert!(bytes == upload.bytes(offset..end), "{upload:?} is mixed with something else");
        upload
    }
}
