//! The parameters of an upload, which precede its bytes.

use crate::model::{Conditions, Digest, Replaces, StorePath};

/// The parameters of an upload that precede its bytes.
#[derive(Clone, Debug)]
pub struct UploadSpec {
    /// The path of the file.
    pub path: StorePath,
    /// Its size in bytes, if the caller announces it.
    pub size: Option<u64>,
    /// BLAKE3 of its bytes, if the caller announces it.
    pub digest: Option<Digest>,
    /// The conditions on the path.
    pub conditions: Conditions,
    /// What the file may replace.
    pub replaces: Replaces,
    /// Whether the bytes are an archive that becomes a folder, and how.
    pub unpack: Option<Unpack>,
}

/// How an archive becomes a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpack {
    /// Whether each folder gets an empty mark file if it has none.
    pub marks: bool,
}

impl UploadSpec {
    /// The parameters of an upload without announced size, digest or conditions, which may replace a file only.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            size: None,
            digest: None,
            conditions: Conditions::default(),
            replaces: Replaces::default(),
            unpack: None,
        }
    }
}
