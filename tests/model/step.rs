//! The steps that histories are made of.

use std::sync::LazyLock;

use bytes::Bytes;
use imagestore::limits::{INLINE_BYTES_MAX, MIB, PART_BYTES_MAX};

/// One step of a history. Contents are indexes into [`contents`].
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Upload {
        path: String,
        content: usize,
        claim: Claim,
    },
    /// Uploads at once, which the writer takes together.
    Uploads {
        files: Vec<(String, usize)>,
    },
    Abandon {
        path: String,
        content: usize,
    },
    Chunk {
        session: usize,
        path: String,
        content: usize,
        from: usize,
        to: usize,
        short: bool,
    },
    Commit {
        session: usize,
    },
    DeleteSession {
        session: usize,
    },
    Copy {
        source: String,
        destination: String,
        skip: Vec<&'static str>,
        how: How,
    },
    CopyAgain {
        is_changed: bool,
    },
    Delete {
        path: String,
    },
    Read {
        path: String,
        from: usize,
        length: Option<usize>,
    },
    Stat {
        path: String,
    },
    Reclaim,
    Restart,
}

/// What an upload declares about its size and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Nothing,
    Right,
    WrongSize,
    WrongDigest,
}

/// The flags of a copy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    pub(crate) keep: bool,
    pub(crate) check_mark: bool,
    pub(crate) verify: bool,
}

/// The contents of all histories: empty, inline, at the bound of inline contents, one object, and several
/// parts.
pub(crate) fn contents() -> &'static [Bytes] {
    static CONTENTS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
        let mut large = vec![5_u8; PART_BYTES_MAX + MIB];
        large[PART_BYTES_MAX - 1] = 6;
        vec![
            Bytes::new(),
            Bytes::from_static(b"x"),
            Bytes::from_static(b"some bytes"),
            Bytes::from_static(b"same bytes"),
            vec![1; INLINE_BYTES_MAX].into(),
            vec![2; INLINE_BYTES_MAX + 1].into(),
            vec![3; 5 * INLINE_BYTES_MAX].into(),
            large.into(),
        ]
    });
    &CONTENTS
}
