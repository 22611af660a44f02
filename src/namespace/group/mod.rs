//! Files of at most one part that are put together: looked up, planned and written in sets.
//!
//! ```text
//!   look    one statement for all names, as far as the folders above them are known, and one for all digests
//!   plan    pure: what each file becomes, as if they were put one after the other
//!   apply   one statement for each table
//! ```
//!
//! A file that needs more than plain writes is left out, and its job is run alone after the group: one whose path
//! leads through a shared folder, which has to be cloned; one that is refused, or replaces a folder or a file
//! above its path; one whose part or content is stored in another way or damaged, which its upload mends; and one
//! whose path is equal to, above or below that of a file before it that is left out, so that the later of two
//! uploads stays the later one.
//!
//! **Invariants:** everything is read in the transaction that writes, and only which rows are read together is known from
//! the ones before. If this
//! fails, the caller undoes what was written, and may run the jobs one by one.

mod apply;
mod contents;
mod look;
mod name_cache;
mod plan;

pub use name_cache::NameCache;

use crate::{
    error::Result,
    model::{Conditions, Digest, Stat, StorePath},
    namespace::{
        content::{Part, Summary},
        sql::Tx,
    },
};

/// A file of at most one part that is to be made visible.
#[derive(Clone, Debug)]
pub struct PlainFile {
    path: StorePath,
    conditions: Conditions,
    part: Option<Part>,
    /// The etag of its list of parts.
    etag: Digest,
}

impl PlainFile {
    /// A file of these parts; `None` if they are more than one.
    pub fn new(path: StorePath, conditions: Conditions, parts: &[Part]) -> Option<Self> {
        let part = match parts {
            [] => None,
            [part] => Some(part.clone()),
            _ => return None,
        };
        let mut list = Summary::default();
        // The id of a part is not in the etag.
        list.add(part.as_ref().map(|part| (0, part.size, part.digest)).as_slice());
        Some(Self { path, conditions, part, etag: list.etag() })
    }

    fn size(&self) -> i64 {
        self.part.as_ref().map_or(0, |part| part.size)
    }

    /// The digest of its bytes: that of its only part.
    fn digest(&self) -> Digest {
        self.part.as_ref().map_or_else(|| Digest::of(&[]), |part| part.digest)
    }
}

/// What an upload has made visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The metadata of the file, or of the folder that an archive became.
    pub stat: Stat,
    /// The number of files that it has replaced.
    pub files_replaced: i64,
}

/// Puts files at their paths, in their order. Returns what each has become; `None` for a file that is left out. The cache is
/// that of the database.
///
/// # Errors
/// Those of the engine. Some of the files may be written then.
pub fn put(
    tx: &mut Tx<'_>,
    files: &[&PlainFile],
    cache: &mut NameCache,
) -> Result<Vec<Option<Placed>>> {
    let seen = look::look(tx, files, cache)?;
    plan::plan(seen, files).apply(tx)
}

#[cfg(test)]
mod tests;
