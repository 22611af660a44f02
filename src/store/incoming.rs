//! The parameters of an upload, which precede its bytes, and the result, which follows them.

use crate::model::{Conditions, Digest, Replaces, Stat, StorePath};

/// What is known of a file before its bytes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it goes.
    pub path: StorePath,
    /// Its size, if the caller says.
    pub size: Option<u64>,
    /// BLAKE3 of its bytes, if the caller says.
    pub digest: Option<Digest>,
    /// What must be true of the path.
    pub conditions: Conditions,
    /// What it may replace.
    pub replaces: Replaces,
}

impl Incoming {
    /// A file for a path, of which nothing else is said: it may replace a file, and nothing else.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            size: None,
            digest: None,
            conditions: Conditions::default(),
            replaces: Replaces::default(),
        }
    }
}

/// A file that is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The file.
    pub stat: Stat,
    /// How many files it has replaced.
    pub files_replaced: i64,
}
