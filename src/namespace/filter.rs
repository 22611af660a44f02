//! The filtered copy of a folder, for `SkipFiles`.
//!
//! First [`Search`] finds the folders with a skipped file at any depth. In each distinct folder it reads only
//! pages of entries that begin at a skipped name. Then [`Build`] makes new versions of those folders beside
//! the tree, parents first; a folder without a skipped file is referenced as it is. Folders that would be
//! empty are left out.
//!
//! The source is pinned, so it does not change between the steps. A folder that occurs many times is searched
//! once and built once; its totals count once for each occurrence.
//!
//! **Memory.** Entries are read in pages, and read again where they are needed again. In memory are a set of
//! the ids of the distinct folders, some bits each, and a few numbers for each folder that changes; no names.

mod build;
mod search;
mod skipped;

#[cfg(test)]
mod tests;

pub use build::{BUILD_PINS, Build};
pub use search::Search;

use crate::model::Totals;

/// A folder that has skipped files at any depth.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    /// Its totals without the skipped files.
    after: Totals,
    /// The totals of the skipped files in it and below.
    less: Totals,
    /// The new folder, once it was made.
    made: Option<i64>,
    /// How often it occurs in the folders that were built so far.
    times: i64,
}

/// Adds totals without overflow: damaged totals can have any value.
fn add(one: Totals, other: Totals) -> Totals {
    Totals {
        files: one.files.saturating_add(other.files),
        bytes: one.bytes.saturating_add(other.bytes),
    }
}

fn subtract(one: Totals, other: Totals) -> Totals {
    Totals {
        files: one.files.saturating_sub(other.files),
        bytes: one.bytes.saturating_sub(other.bytes),
    }
}

fn times(one: Totals, times: i64) -> Totals {
    Totals { files: one.files.saturating_mul(times), bytes: one.bytes.saturating_mul(times) }
}
