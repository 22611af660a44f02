//! The bounds of an SQLite file and its write-ahead log.

use std::time::Duration;

use crate::limits::{INLINE_BYTES_MAX, KIB, MIB, WRITE_BATCH_MAX};

/// The page of an SQLite file.
pub const DATABASE_PAGE_BYTES: i64 = 4096;
/// New pages in the write-ahead log from which on they are moved into the database file: 4 MiB.
pub const WAL_CHECKPOINT_PAGES: i32 = 1024;
/// Pages of the write-ahead log from which on the writer waits until what came while others were moved
/// is moved, too: 8 MiB.
pub const WAL_PAGES_LONG: i32 = 2 * 1024;
/// How many that are at most, as a rule: 1 MiB.
pub const WAL_PAGES_LEFT: i32 = 256;
/// Pages of the write-ahead log from which on the writer waits until all are moved: 16 MiB.
pub const WAL_PAGES_MAX: i32 = 4 * 1024;
/// How long it waits. Writes are refused as busy then.
pub const WAL_WAIT: Duration = Duration::from_secs(10);
/// The file of the log at that bound, with a header of each page and its own. It has this size from the
/// start, so that a disk which fills up leaves room to delete.
pub const WAL_BYTES: u64 = WAL_PAGES_MAX as u64 * (DATABASE_PAGE_BYTES as u64 + 24) + 32;
/// What stays free on the disk, beside the reserve, for the pages of the log that are new to the database
/// file: those up to the bound, and those of a batch. Only what deletes may take it.
pub const WAL_ROOM_BYTES: u64 = 24 * MIB as u64;
/// Free pages of an SQLite file that it keeps, in bytes; more go back to the disk.
pub const FREE_BYTES_KEPT: u64 = 4 * MIB as u64;
/// Those of them that uploads leave to reclamation and other rows.
pub const FREE_BYTES_RESERVED: u64 = 256 * KIB as u64;
/// Free pages that go back before the clock is looked at.
pub const FREE_CHUNK_PAGES: u64 = 16;

const _: () =
    assert!(WAL_BYTES + (WRITE_BATCH_MAX * INLINE_BYTES_MAX * 3 / 2) as u64 <= WAL_ROOM_BYTES);
