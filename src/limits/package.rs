//! The bounds of packages.

use super::{INLINE_BYTES_MAX, KIB, MIB};

/// The most files below the folder of a package.
pub const PACKAGE_FILES_MAX: i64 = 1_000_000;
/// Entries of a package that are read at once; those of small files contain their bytes.
pub const PACKAGE_PAGE_ROWS: usize = 64;
/// The memory budget for the work on all packages, without the parts of large files.
pub const PACKAGE_POOL_BYTES: usize = 64 * MIB;
/// What the work on a package takes of it at least: a page of small files, and some pieces.
pub const PACKAGE_BASE_BYTES: usize = PACKAGE_PAGE_ROWS * INLINE_BYTES_MAX + 256 * KIB;
/// What each file of a package takes of it: its checksum and its size, until the end.
pub const PACKAGE_FILE_BYTES: usize = 16;
/// What a row of a page takes of it beside the bytes of its name.
pub const PACKAGE_NAME_BYTES: usize = 128;
/// The number of the form of packages, in their entity tags. It rises when the same folder gives other bytes.
pub const PACKAGE_FORMAT: u32 = 2;
