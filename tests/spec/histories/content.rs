//! Bytes that identify their upload: cells of 16 bytes, each with the number of the upload and the index of
//! the cell in the file. So any piece of a file shows which upload wrote it, and whether all of it is from
//! that upload.

use std::ops::Range;

const CELL: usize = 16;
/// The size of the smallest file, in bytes; ranges begin below this offset.
pub(super) const SIZE_MIN: usize = 4096;
/// The size of the smallest piece that is read, in bytes: at any offset it holds a whole cell.
pub(super) const PIECE_MIN: usize = 2 * CELL;

/// Where the bytes of an upload are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Inline in the database.
    Inline = 0,
    /// One object.
    Object = 1,
    /// Several parts.
    Large = 2,
}

/// An upload, as one number: its serial number, and its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Upload(u64);

impl Upload {
    pub(super) fn new(serial: usize, class: Class) -> Self {
        Self(serial as u64 * 3 + class as u64)
    }

    /// The size in bytes.
    pub(super) fn size(self) -> usize {
        // Sizes differ, so that a mixture of two uploads shows in a listing as well.
        let more = (self.0 as usize / 3) % 500 * CELL;
        match self.0 % 3 {
            0 => SIZE_MIN + more,
            1 => 20 * 1024 + more,
            _ => 8 * 1024 * 1024 + more,
        }
    }

    /// A range of the bytes.
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

    /// All bytes.
    pub(super) fn all(self) -> Vec<u8> {
        self.bytes(0..self.size())
    }

    /// The upload of bytes that were read from `offset` on. Panics if they are of more than one upload.
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
