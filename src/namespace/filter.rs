//! The filtered copy of a folder, for `SkipFiles`.
//!
//! First [`Search`] finds which folders have a skipped file anywhere below, by look-ups in each distinct
//! folder, never a scan of files. Then [`Build`] makes those folders, and no others, anew beside the
//! tree, the upper ones first; what has no skipped file below is referred to. Emptied folders are left
//! out.
//!
//! The source is pinned, so it does not change between the steps. A folder that occurs many times is
//! looked at once and built once; what it counts for is its number of occurrences times.
//!
//! **Memory.** Entries are read in pages, and again where they are needed again. What is kept is a set of
//! the ids of the distinct folders, some bits each, and some numbers of each folder that changes; no
//! name of any.

mod build;
mod search;
mod skipped;

#[cfg(test)]
mod tests;

pub use build::{BUILD_PINS, Build};
pub use search::Search;

use crate::model::Totals;

/// A folder that changes.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    /// Its totals without what is skipped.
    after: Totals,
    /// What is skipped in it and below.
    less: Totals,
    /// The new folder.
    made: Option<i64>,
    /// How often it occurs in what is built so far.
    times: i64,
}

/// Totals that are damaged may say anything.
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
