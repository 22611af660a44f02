//! Contents of at most one part, with their parts, looked up and written together.

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    model::Digest,
    namespace::{
        content::{Part, Place},
        sql::{Param, Row, Rows, Set, set},
    },
};

/// What is stored of a content and of its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) etag: Digest,
    pub(super) part: Option<StoredPart>,
    pub(super) content: Option<StoredContent>,
    /// The object that was asked for, if it is marked for deletion.
    pub(super) dead: Option<String>,
}

/// A stored part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredPart {
    pub(super) id: i64,
    pub(super) bytes: Option<Bytes>,
    pub(super) object: Option<String>,
}

/// A stored content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredContent {
    pub(super) id: i64,
    pub(super) size: i64,
    pub(super) digest: Option<Digest>,
    /// The number of parts in its list.
    pub(super) parts: i64,
    /// The part at its start.
    pub(super) first: Option<i64>,
}

const LOOK_UP: Set = set!(
    "SELECT r.tag, p.id, p.bytes, p.object, c.id, c.size, c.digest,
       (SELECT COUNT(*) FROM content_part l WHERE l.content = c.id),
       (SELECT l.part FROM content_part l WHERE l.content = c.id AND l.start = 0),
       (SELECT d.object FROM dead_object d WHERE d.object = r.stored)
     FROM",
    ["$1" "tag" "BYTEA", "$2" "hash" "BYTEA", "$3" "stored" "TEXT"],
    "LEFT JOIN part p ON p.digest = r.hash LEFT JOIN content c ON c.etag = r.tag"
);

/// Looks up contents and their parts, by the etags of the contents. The rows are read by [`stored`].
pub(super) fn look_up<'a>(
    contents: impl IntoIterator<Item = (&'a Digest, Option<&'a Part>)>,
) -> Rows<'a> {
    let row = |(etag, part): (&'a Digest, Option<&'a Part>)| {
        let object = part.and_then(|part| place(part).1);
        [Param::from(etag), Param::from(part.map(|part| &part.digest)), Param::from(object)]
    };
    Rows::new(LOOK_UP, contents.into_iter().map(row))
}

/// Reads a row of [`look_up`].
///
/// # Errors
/// `Internal` for a damaged row.
pub(super) fn stored(row: &Row) -> Result<Stored> {
    let part = match row.opt_int(1)? {
        None => None,
        Some(id) => Some(StoredPart {
            id,
            bytes: row.opt_bytes(2)?.map(Bytes::from),
            object: row.opt_text(3)?,
        }),
    };
    let content = match row.opt_int(4)? {
        None => None,
        Some(id) => Some(StoredContent {
            id,
            size: row.int(5)?,
            digest: row.opt_digest(6)?,
            parts: row.int(7)?,
            first: row.opt_int(8)?,
        }),
    };
    Ok(Stored { etag: row.digest(0)?, part, content, dead: row.opt_text(9)? })
}

const PARTS: Set = set!(
    "INSERT INTO part (digest, size, bytes, object)
     SELECT r.hash, r.long, r.inside, r.stored FROM",
    ["$1" "hash" "BYTEA", "$2" "long" "BIGINT", "$3" "inside" "BYTEA", "$4" "stored" "TEXT"],
    "WHERE 1 = 1 RETURNING digest, id"
);

/// Makes the rows of parts that are not stored. The result has their digests and ids.
pub(super) fn insert_parts<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Rows<'a> {
    let row = |part: &'a Part| {
        let (bytes, object) = place(part);
        [Param::from(&part.digest), Param::from(part.size), Param::from(bytes), Param::from(object)]
    };
    Rows::new(PARTS, parts.into_iter().map(row))
}

/// The inline bytes or the object of a part.
fn place(part: &Part) -> (Option<&[u8]>, Option<&str>) {
    match &part.place {
        Place::Inline(bytes) => (Some(bytes), None),
        Place::Object(object) => (None, Some(object)),
        Place::Stored => (None, None),
    }
}

const CONTENTS: Set = set!(
    "INSERT INTO content (size, etag, digest) SELECT r.long, r.tag, r.hash FROM",
    ["$1" "long" "BIGINT", "$2" "tag" "BYTEA", "$3" "hash" "BYTEA"],
    "WHERE 1 = 1 RETURNING etag, id"
);

/// Makes contents that are not stored, of these sizes, etags and digests. The result has their etags and ids.
pub(super) fn insert_contents<'a>(
    contents: impl IntoIterator<Item = (i64, &'a Digest, &'a Digest)>,
) -> Rows<'a> {
    let row = |(size, etag, digest): (i64, &'a Digest, &'a Digest)| {
        [Param::from(size), Param::from(etag), Param::from(digest)]
    };
    Rows::new(CONTENTS, contents.into_iter().map(row))
}

const LISTS: Set = set!(
    "INSERT INTO content_part (content, start, part) SELECT r.of, 0, r.whole FROM",
    ["$1" "of" "BIGINT", "$2" "whole" "BIGINT"],
    "WHERE 1 = 1"
);

/// Makes the lists of new contents, each of the one part.
pub(super) fn insert_lists<'a>(lists: impl IntoIterator<Item = (i64, i64)>) -> Rows<'a> {
    let row = |(content, part)| [Param::from(content), Param::from(part)];
    Rows::new(LISTS, lists.into_iter().map(row))
}

/// Reads rows of a digest and an id, in the order of the digests that were inserted.
///
/// # Errors
/// `Internal` if a row is missing.
pub(super) fn ids<'a>(rows: &[Row], digests: impl Iterator<Item = &'a Digest>) -> Result<Vec<i64>> {
    let read = |row: &Row| Ok((row.digest(0)?, row.int(1)?));
    let ids = rows.iter().map(read).collect::<Result<std::collections::HashMap<_, _>>>()?;
    let id = |digest| ids.get(digest).copied().ok_or_else(|| Error::internal("a row is missing"));
    digests.map(id).collect()
}
