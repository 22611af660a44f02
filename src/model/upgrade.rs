//! What an upgrade has done.

/// The formats of a store before and after an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// The format that the store had.
    pub before: i64,
    /// The format of this program.
    pub after: i64,
}
