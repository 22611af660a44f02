//! The kinds of rows that `info` counts, and their sums, as the table `sums` stores them.

use std::collections::BTreeMap;

use strum::VariantArray;

use crate::model::Usage;

/// What is counted, as stored in `sums.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum Counted {
    /// Folders.
    Folders = 1,
    /// Contents.
    Contents = 2,
    /// Parts in the database, and their bytes.
    Inline = 3,
    /// Parts in objects, and their bytes.
    Objects = 4,
    /// Objects that are to be deleted, and their bytes.
    Dead = 5,
    /// What waits to be freed and has no path, and its bytes.
    Waiting = 6,
    /// Upload sessions that are not committed, and the bytes that they have received.
    Staging = 7,
}

impl Counted {
    /// All that is counted.
    pub const ALL: &[Self] = Self::VARIANTS;
}

/// What is counted of each, or by how much it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Counted, Usage>);

impl Sums {
    /// How much there is.
    pub fn of(&self, what: Counted) -> Usage {
        self.0.get(&what).copied().unwrap_or_default()
    }

    /// Adds to one of them.
    pub fn add(&mut self, what: Counted, change: Usage) {
        let sum = self.0.entry(what).or_default();
        sum.count = sum.count.saturating_add(change.count);
        sum.bytes = sum.bytes.saturating_add(change.bytes);
    }

    /// Adds other ones.
    pub fn add_all(&mut self, others: &Self) {
        others.iter().for_each(|(what, change)| self.add(what, change));
    }

    /// Those that are not nothing.
    pub fn iter(&self) -> impl Iterator<Item = (Counted, Usage)> {
        let all = self.0.iter().map(|(what, usage)| (*what, *usage));
        all.filter(|(_, usage)| *usage != Usage::default())
    }
}
