//! The bounds of an SQLite file and its write-ahead log.

use std::time::Duration;

use crate::limits::{INLINE_BYTES_MAX, KIB, MIB, WRITE_BATCH_MAX};

/// The size of a page of an SQLite file.
pub const DATABASE_PAGE_BYTES: i64 = 4096;
/// New pages in the write-ahead log that start a checkpoint beside the writer: 4 MiB.
pub const WAL_CHECKPOINT_PAGES: i32 = 1024;
/// Pages of the write-ahead log from which on the writer waits for the rest of a checkpoint, if that is at most
/// [`WAL_PAGES_LEFT`]: 8 MiB.
pub const WAL_PAGES_LONG: i32 = 2 * 1024;
/// Pages that a checkpoint beside the writer may leave to a checkpoint for which the writer waits: 1 MiB.
pub const WAL_PAGES_LEFT: i32 = 256;
/// Pages of the write-ahead log from which on the writer waits for a full checkpoint: 16 MiB.
pub const WAL_PAGES_MAX: i32 = 4 * 1024;
/// How long the writer waits for a checkpoint; then writes are refused as busy.
pub const WAL_WAIT: Duration = Duration::from_secs(10);
/// The size of the log file at [`WAL_PAGES_MAX`], with its header and a header for each page. The file is
/// allocated with this size at the start, so that deletes still work when the disk is full.
pub const WAL_BYTES: u64 = WAL_PAGES_MAX as u64 * (DATABASE_PAGE_BYTES as u64 + 24) + 32;
/// The bytes that stay free on the disk, beside the reserve, for log pages by which the database file grows: those
/// of a log at its bound, and those of one batch. Only deletes may use them.
pub const WAL_ROOM_BYTES: u64 = 24 * MIB as u64;
/// The bytes of free pages that an SQLite file keeps; further ones are given back to the disk.
pub const FREE_BYTES_KEPT: u64 = 4 * MIB as u64;
/// The bytes of free pages that uploads leave to reclamation and other rows.
pub const FREE_BYTES_RESERVED: u64 = 256 * KIB as u64;
/// Free pages that are given back between two looks at the clock.
pub const FREE_CHUNK_PAGES: u64 = 16;

const _: () =
    assert!(WAL_BYTES + (WRITE_BATCH_MAX * INLINE_BYTES_MAX * 3 / 2) as u64 <= WAL_ROOM_BYTES);
