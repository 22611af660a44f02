//! Whose objects a blob store has.

/// The store that the objects of a blob store belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobOwner {
    /// The store with this id.
    Store(i64),
    /// No store has used the blob store.
    Nobody,
    /// There is no mark. The objects of an older program have none, nor have those put while the disk was full.
    Unknown,
}
