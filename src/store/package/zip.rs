//! The records of a ZIP archive (APPNOTE 6.3), without the bytes of its files.
//!
//! Why not a library: those that write archives (`zip`, `async_zip`, `rawzip`) keep all names in memory until the
//! end, and tell no length before the bytes are there, so that a download would have no `Content-Length`. `zip` and
//! `async_zip` also write *stored* files with a data descriptor into a stream, which readers of streams refuse, such
//! as Java's `ZipInputStream`.
//!
//! A file has one of two forms, which its size decides:
//!
//! | file | local header | method |
//! |---|---|---|
//! | one message or smaller | has its CRC-32 and sizes | stored, or deflated where that is smaller |
//! | larger | has none; a data descriptor follows the bytes | deflated; without compression, into stored blocks |
//!
//! Records for more than 32 bits (ZIP64) are written where a size, offset or count needs them. A data descriptor has
//! 64 bits if one of its sizes needs them, which is the rule of Java's and Go's readers; then, and only then, its local
//! header has the field of ZIP64, which is the rule of others. So it is decided before the bytes are there.

use bytes::{BufMut, BytesMut};
use jiff::{Timestamp, tz::Offset};

use crate::limits::DOWNLOAD_MESSAGE_BYTES;

/// The largest value of a field of 32 bits, which stands for a value in a record of ZIP64.
const MAX32: u64 = u32::MAX as u64;
const MAX16: u64 = u16::MAX as u64;
const LOCAL_HEADER: u32 = 0x0403_4b50;
const DATA_DESCRIPTOR: u32 = 0x0807_4b50;
const DIRECTORY_HEADER: u32 = 0x0201_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;
/// The bytes of the record [`END64`] after its own length.
const END64_BYTES: u64 = 44;
/// The id of the extra field of ZIP64.
const EXTRA64: u16 = 1;
/// The version of the format that a reader needs for folders and deflated files.
const VERSION: u16 = 20;
/// The version that a reader needs for ZIP64.
const VERSION64: u16 = 45;
/// The system whose file modes the archive has: Unix.
const UNIX: u16 = 3 << 8;
/// The modes of a file and of a folder in the upper half of the attributes; the store keeps none.
const FILE_MODE: u32 = 0o100_644 << 16;
const FOLDER_MODE: u32 = 0o040_755 << 16;
/// The attribute of MS-DOS for a folder.
const FOLDER_ATTRIBUTE: u32 = 0x10;
/// The bytes in a stored block of deflate.
pub(super) const BLOCK_BYTES: u64 = 65_535;
/// The bytes of the head of a stored block.
const BLOCK_HEAD_BYTES: u64 = 5;
/// Bytes that cannot be compressed become more by less than this part of them.
const DEFLATE_GROWTH: u64 = 256;
/// The flag of an entry with a data descriptor.
const HAS_DESCRIPTOR: u16 = 1 << 3;
/// The flag of an entry whose name is in UTF-8.
const IS_UTF8: u16 = 1 << 11;

/// An entry of an archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Its path; that of a folder ends in `/`.
    pub(super) name: &'a str,
    /// The bytes of the file; 0 for a folder.
    pub(super) size: u64,
    /// In microseconds since 1970.
    pub(super) modified: i64,
}

/// What is known of the bytes of an entry after they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// The CRC-32 of the bytes of the file.
    pub(super) crc: u32,
    /// The bytes in the archive.
    pub(super) packed: u64,
}

impl Entry<'_> {
    /// Whether the bytes are sent before their CRC-32 is known.
    pub(super) fn is_streamed(&self) -> bool {
        is_streamed(self.size)
    }

    fn is_deflated(&self, packed: u64) -> bool {
        self.is_streamed() || packed != self.size
    }

    /// Whether its local header and its data descriptor have sizes of 64 bits.
    fn is_long(&self) -> bool {
        // Without compression more bytes are sent than the file has; for the rest see `may_deflate`.
        plain_len(self.size) > MAX32
    }

    /// Appends the local header. The sums are not used for an entry that is streamed.
    pub(super) fn put_header(&self, out: &mut BytesMut, sums: Sums) {
        let is_long = self.is_long();
        out.put_u32_le(LOCAL_HEADER);
        out.put_u16_le(if is_long { VERSION64 } else { VERSION });
        self.put_common(out, sums.packed);
        if is_long {
            // The sizes are in the data descriptor.
            out.put_u32_le(0);
            out.put_u32_le(u32::MAX);
            out.put_u32_le(u32::MAX);
        } else if self.is_streamed() {
            out.put_bytes(0, 12);
        } else {
            put_sizes(out, sums, self.size);
        }
        out.put_u16_le(clamped(self.name.len() as u64));
        out.put_u16_le(if is_long { 20 } else { 0 });
        out.put_slice(self.name.as_bytes());
        if is_long {
            put_extra64(out, &[0, 0]);
        }
    }

    /// Appends the data descriptor of an entry that is streamed; nothing for another one.
    pub(super) fn put_descriptor(&self, out: &mut BytesMut, sums: Sums) {
        if !self.is_streamed() {
            return;
        }
        out.put_u32_le(DATA_DESCRIPTOR);
        if self.is_long() {
            out.put_u32_le(sums.crc);
            out.put_u64_le(sums.packed);
            out.put_u64_le(self.size);
        } else {
            put_sizes(out, sums, self.size);
        }
    }

    /// Appends the header of the directory. `offset` is that of the local header.
    pub(super) fn put_directory(&self, out: &mut BytesMut, sums: Sums, offset: u64) {
        let long = self.long_values(sums, offset);
        let extra = if long.is_empty() { 0 } else { 4 + 8 * long.len() as u64 };
        out.put_u32_le(DIRECTORY_HEADER);
        out.put_u16_le(UNIX | VERSION64);
        out.put_u16_le(if long.is_empty() { VERSION } else { VERSION64 });
        self.put_common(out, sums.packed);
        put_sizes(out, sums, self.size);
        out.put_u16_le(clamped(self.name.len() as u64));
        out.put_u16_le(clamped(extra));
        // No comment, the first disk, no internal attributes.
        out.put_bytes(0, 6);
        let is_folder = self.name.ends_with('/');
        out.put_u32_le(if is_folder { FOLDER_MODE | FOLDER_ATTRIBUTE } else { FILE_MODE });
        out.put_u32_le(short(offset));
        out.put_slice(self.name.as_bytes());
        if !long.is_empty() {
            put_extra64(out, &long);
        }
    }

    /// The bytes from the local header of the entry to that of the next.
    pub(super) fn record_len(&self, sums: Sums) -> u64 {
        let (extra, descriptor) = match (self.is_streamed(), self.is_long()) {
            (false, _) => (0, 0),
            (true, false) => (0, 16),
            (true, true) => (20, 24),
        };
        30 + self.name.len() as u64 + extra + sums.packed + descriptor
    }

    /// The bytes of the header of the directory.
    fn directory_len(&self, sums: Sums, offset: u64) -> u64 {
        let long = self.long_values(sums, offset).len() as u64;
        let extra = if long == 0 { 0 } else { 4 + 8 * long };
        46 + self.name.len() as u64 + extra
    }

    /// The values of the header of the directory that do not fit into it.
    fn long_values(&self, sums: Sums, offset: u64) -> Vec<u64> {
        let values = [self.size, sums.packed, offset];
        values.into_iter().filter(|value| *value >= MAX32).collect()
    }

    /// Appends the fields that both headers have after the version: flags, method and time.
    fn put_common(&self, out: &mut BytesMut, packed: u64) {
        let (time, date) = dos_time(self.modified);
        out.put_u16_le(if self.is_streamed() { HAS_DESCRIPTOR | IS_UTF8 } else { IS_UTF8 });
        out.put_u16_le(if self.is_deflated(packed) { 8 } else { 0 });
        out.put_u16_le(time);
        out.put_u16_le(date);
    }
}

/// Whether the bytes of a file are sent before their CRC-32 is known: if they are more than one message, so that they
/// need not be in memory together.
pub(super) fn is_streamed(size: u64) -> bool {
    size > DOWNLOAD_MESSAGE_BYTES as u64
}

/// The bytes that a file of `size` takes in an archive without compression.
pub(super) fn plain_len(size: u64) -> u64 {
    if is_streamed(size) { size + BLOCK_HEAD_BYTES * size.div_ceil(BLOCK_BYTES) } else { size }
}

/// Whether the bytes of a file that is streamed may be deflated: unless only the bytes tell whether the compressed size
/// has more than 32 bits.
pub(super) fn may_deflate(size: u64) -> bool {
    size > MAX32 || size + size / DEFLATE_GROWTH <= MAX32
}

fn put_sizes(out: &mut BytesMut, sums: Sums, size: u64) {
    out.put_u32_le(sums.crc);
    out.put_u32_le(short(sums.packed));
    out.put_u32_le(short(size));
}

fn put_extra64(out: &mut BytesMut, values: &[u64]) {
    out.put_u16_le(EXTRA64);
    out.put_u16_le(clamped(8 * values.len() as u64));
    for value in values {
        out.put_u64_le(*value);
    }
}

/// Appends the end of an archive of `entries`, whose directory begins at `offset` and has `size` bytes.
pub(super) fn put_end(out: &mut BytesMut, entries: u64, offset: u64, size: u64) {
    if entries >= MAX16 || offset >= MAX32 || size >= MAX32 {
        out.put_u32_le(END64);
        out.put_u64_le(END64_BYTES);
        out.put_u16_le(UNIX | VERSION64);
        out.put_u16_le(VERSION64);
        // Both disks are the first.
        out.put_bytes(0, 8);
        out.put_u64_le(entries);
        out.put_u64_le(entries);
        out.put_u64_le(size);
        out.put_u64_le(offset);
        out.put_u32_le(END64_LOCATOR);
        out.put_u32_le(0);
        out.put_u64_le(offset + size);
        out.put_u32_le(1);
    }
    out.put_u32_le(END);
    out.put_bytes(0, 4);
    out.put_u16_le(clamped(entries));
    out.put_u16_le(clamped(entries));
    out.put_u32_le(short(size));
    out.put_u32_le(short(offset));
    out.put_u16_le(0);
}

fn clamped(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn short(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The time and date of MS-DOS, in UTC, with a precision of two seconds; the nearest for a time that it cannot name.
fn dos_time(micros: i64) -> (u16, u16) {
    const FIRST: (u16, u16) = packed_time((0, 0, 0), (0, 1, 1));
    const LAST: (u16, u16) = packed_time((23, 59, 58), (127, 12, 31));
    let Ok(time) = Timestamp::from_microsecond(micros) else { return FIRST };
    let time = Offset::UTC.to_datetime(time);
    let Ok(years) = u16::try_from(time.year() - 1980) else { return FIRST };
    if years > 127 {
        return LAST;
    }
    let field = |value: i8| u16::try_from(value).unwrap_or(0);
    packed_time(
        (field(time.hour()), field(time.minute()), field(time.second())),
        (years, field(time.month()), field(time.day())),
    )
}

/// Packs hour, minute and second, and the years since 1980, month and day.
const fn packed_time(
    (hour, minute, second): (u16, u16, u16),
    (years, month, day): (u16, u16, u16),
) -> (u16, u16) {
    ((hour * 64 + minute) * 32 + second / 2, (years * 16 + month) * 32 + day)
}

/// The length of an archive without compression, entry by entry.
#[derive(Debug, Default)]
pub(super) struct Length {
    entries: u64,
    offset: u64,
    directory: u64,
}

impl Length {
    /// Adds an entry, whose bytes have `packed` bytes in the archive.
    pub(super) fn add(&mut self, entry: &Entry<'_>, packed: u64) {
        let sums = Sums { crc: 0, packed };
        self.entries += 1;
        self.directory += entry.directory_len(sums, self.offset);
        self.offset += entry.record_len(sums);
    }

    /// The length of the whole archive.
    pub(super) fn total(self) -> u64 {
        let mut end = BytesMut::new();
        put_end(&mut end, self.entries, self.offset, self.directory);
        self.offset + self.directory + end.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_utc_in_two_seconds() {
        // 2024-02-29T13:37:59Z
        let micros = 1_709_213_879_999_999;
        assert_eq!(dos_time(micros), (0x6cbd, 0x585d));
        assert_eq!(dos_time(0), (0, 0x21));
        assert_eq!(dos_time(-1), (0, 0x21));
        assert_eq!(dos_time(i64::MAX), (0, 0x21));
        // 2200-01-01
        assert_eq!(dos_time(7_258_118_400_000_000), (0xbf7d, 0xff9f));
    }

    fn header(size: u64, packed: u64) -> (usize, u16) {
        let mut out = BytesMut::new();
        Entry { name: "a", size, modified: 0 }.put_header(&mut out, Sums { crc: 1, packed });
        (out.len(), u16::from_le_bytes([out[8], out[9]]))
    }

    #[test]
    fn records_of_64_bits_are_for_what_needs_them() {
        assert_eq!(header(0, 0), (31, 0));
        assert_eq!(header(65_536, 65_536), (31, 0));
        assert_eq!(header(65_536, 60_000), (31, 8));
        assert_eq!(header(65_537, 0), (31, 8));
        // Its stored blocks have more bytes than 32 bits count.
        let blocks = MAX32 - 5 * 65_533;
        assert_eq!((plain_len(blocks), plain_len(blocks + 1)), (MAX32, MAX32 + 1));
        assert_eq!(header(blocks, 0), (31, 8));
        assert_eq!(header(blocks + 1, 0), (51, 8));
        assert_eq!(header(MAX32, 0), (51, 8));
        assert_eq!(header(MAX32 + 1, 0), (51, 8));
        let rest = |size, packed, offset| {
            let (mut descriptor, mut directory) = (BytesMut::new(), BytesMut::new());
            let (entry, sums) = (Entry { name: "a", size, modified: 0 }, Sums { crc: 1, packed });
            entry.put_descriptor(&mut descriptor, sums);
            entry.put_directory(&mut directory, sums, offset);
            let mut record = BytesMut::new();
            entry.put_header(&mut record, sums);
            let record = (record.len() + descriptor.len()) as u64 + packed;
            assert_eq!(entry.record_len(sums), record);
            assert_eq!(entry.directory_len(sums, offset), directory.len() as u64);
            (descriptor.len(), directory.len())
        };
        assert_eq!(rest(1, 1, 0), (0, 47));
        assert_eq!(rest(65_537, 9, MAX32 - 1), (16, 47));
        assert_eq!(rest(65_537, 9, MAX32), (16, 59));
        assert_eq!(rest(MAX32, MAX32 + 1, 0), (24, 67));
        assert_eq!(rest(MAX32 + 1, MAX32 + 9, MAX32), (24, 75));
        let end = |entries, offset, size| {
            let mut out = BytesMut::new();
            put_end(&mut out, entries, offset, size);
            out.len()
        };
        assert_eq!(end(MAX16 - 1, MAX32 - 1, MAX32 - 1), 22);
        for (entries, offset, size) in [(MAX16, 0, 0), (0, MAX32, 0), (0, 0, MAX32)] {
            assert_eq!(end(entries, offset, size), 98);
        }
    }
}
