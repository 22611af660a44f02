//! Memory for the bytes of a part.
//!
//! A small buffer is on the heap. A large one is an anonymous memory mapping: the kernel allocates only the
//! pages that were written, and takes all of them back when the buffer is dropped. The heap would keep much
//! of that memory: while large and small buffers are allocated side by side, its end is never free.

use std::io;

use bytes::{Bytes, BytesMut};
use memmap2::{Advice, MmapMut};

use crate::limits::{BUFFER_HEAP_BYTES, PART_BYTES_MAX};

/// A buffer that bytes are appended to, as a rule at most [`PART_BYTES_MAX`] of them.
#[derive(Debug)]
pub struct Buffer(Memory);

#[derive(Debug)]
enum Memory {
    Heap(BytesMut),
    Map(Map),
}

/// A mapping as long as the largest part, and the number of bytes written to it.
#[derive(Debug)]
struct Map {
    pages: MmapMut,
    length: usize,
}

impl Map {
    fn new(bytes: &[u8]) -> io::Result<Self> {
        let pages = MmapMut::map_anon(PART_BYTES_MAX)?;
        // A huge page of 2 MiB would be allocated as a whole at its first byte.
        pages.advise(Advice::NoHugePage).ok();
        let mut map = Self { pages, length: 0 };
        map.extend_from_slice(bytes);
        Ok(map)
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(free) = self.pages.get_mut(self.length..end) {
            free.copy_from_slice(bytes);
            self.length = end;
        }
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.pages.get(..self.length).unwrap_or_default()
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self(Memory::Heap(BytesMut::new()))
    }
}

impl Buffer {
    /// Makes an empty buffer that takes `bytes` without growing.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Self::default();
        buffer.reserve(bytes);
        buffer
    }

    /// The number of bytes in the buffer.
    pub fn len(&self) -> usize {
        match &self.0 {
            Memory::Heap(heap) => heap.len(),
            Memory::Map(map) => map.length,
        }
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        match &mut self.0 {
            Memory::Heap(heap) => heap.extend_from_slice(bytes),
            Memory::Map(map) => map.extend_from_slice(bytes),
        }
    }

    /// Takes the bytes out and leaves the buffer empty.
    pub fn take(&mut self) -> Bytes {
        match std::mem::take(self).0 {
            Memory::Heap(heap) => heap.freeze(),
            Memory::Map(map) => Bytes::from_owner(map),
        }
    }

    /// Makes room for `more` bytes, and moves the buffer to the heap or to a mapping by its new length.
    fn reserve(&mut self, more: usize) {
        let length = self.len() + more;
        match &mut self.0 {
            Memory::Map(_) if length <= PART_BYTES_MAX => {}
            Memory::Map(map) => self.0 = Memory::Heap(BytesMut::from(map.as_ref())),
            Memory::Heap(heap) if length <= BUFFER_HEAP_BYTES || length > PART_BYTES_MAX => {
                heap.reserve(more);
            }
            // If the mapping fails, the heap may still have room.
            Memory::Heap(heap) => match Map::new(heap) {
                Ok(map) => self.0 = Memory::Map(map),
                Err(_) => heap.reserve(more),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KIB;

    /// Appends bytes in pieces of `piece` bytes, and checks that all are there and in the right kind of
    /// memory.
    #[track_caller]
    fn check(length: usize, piece: usize, is_map: bool) {
        let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
        let mut buffer = Buffer::default();
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
        }
        assert_eq!(matches!(buffer.0, Memory::Map(_)), is_map, "{length} by {piece}");
        assert_eq!((buffer.len(), buffer.is_empty()), (length, length == 0));
        assert!(buffer.take() == bytes, "other bytes than those of {length} by {piece}");
        assert!(buffer.is_empty() && matches!(buffer.0, Memory::Heap(_)));
    }

    #[test]
    fn bytes_are_kept_wherever_they_are() {
        check(0, 1, false);
        check(BUFFER_HEAP_BYTES, KIB, false);
        check(BUFFER_HEAP_BYTES + 1, BUFFER_HEAP_BYTES, true);
        check(BUFFER_HEAP_BYTES + 1, BUFFER_HEAP_BYTES + 1, true);
        check(PART_BYTES_MAX, 100 * KIB + 1, true);
        check(PART_BYTES_MAX + 1, 100 * KIB, false);
        check(2 * PART_BYTES_MAX, 3 * KIB, false);
    }

    #[test]
    fn a_capacity_says_where_they_will_be() {
        let is_map = |bytes| matches!(Buffer::with_capacity(bytes).0, Memory::Map(_));
        assert!(!is_map(BUFFER_HEAP_BYTES) && is_map(BUFFER_HEAP_BYTES + 1));
        assert!(is_map(PART_BYTES_MAX) && !is_map(PART_BYTES_MAX + 1));
    }
}
