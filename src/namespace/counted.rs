//! The kinds of rows that the store counts for `info`, and their sums.

use std::collections::BTreeMap;

use strum::VariantArray;

use crate::model::Usage;

/// A kind of counted rows; its number is stored in `sums.kind`.
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
    /// Objects that are marked for deletion, and their bytes.
    Dead = 5,
    /// Rows of garbage that no entry refers to, and their bytes.
    Waiting = 6,
    /// Upload sessions that are not committed, and the bytes that they have received.
    Staging = 7,
}

impl Counted {
    /// All kinds.
    pub const ALL: &[Self] = Self::VARIANTS;
}

/// The count and bytes of each kind, or their changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Counted, Usage>);

impl Sums {
    /// The sum of a kind.
    pub fn of(&self, what: Counted) -> Usage {
        self.0.get(&what).copied().unwrap_or_default()
    }

    /// Adds to the sum of a kind.
    pub fn add(&mut self, what: Counted, change: Usage) {
        let sum = self.0.entry(what).or_default();
        sum.count = sum.count.saturating_add(change.count);
        sum.bytes = sum.bytes.saturating_add(change.bytes);
    }

    /// Adds the sums of `others`.
    pub fn add_all(&mut self, others: &Self) {
        others.iter().for_each(|(what, change)| self.add(what, change));
    }

    /// The sums that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Counted, Usage)> {
        let all = self.0.iter().map(|(what, usage)| (*what, *usage));
        all.filter(|(_, usage)| *usage != Usage::default())
    }
}
