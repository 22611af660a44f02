//! Contents: immutable lists of parts, each stored once.

use bytes::Bytes;

use crate::{
    error::{Error, Kind, Result},
    limits::{DOWNLOAD_MESSAGE_BYTES, DOWNLOAD_PARTS_PAGE},
    model::{Digest, Replaces, StorePath, Totals},
    namespace::{
        counted::Counted,
        garbage::{Ref, counted_part, enqueue_if_unreferenced, remove_tombstone, tombstone_object},
        pin::{self, Owner},
        schema,
        sql::{Row, Tx, params},
        tree::{self, File, Target},
    },
};

/// A part that is stored or to be stored.
#[derive(Clone, Debug)]
pub struct Part {
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: i64,
    /// The place of its bytes.
    pub place: Place,
}

/// The place of the bytes of a part.
#[derive(Clone, Debug)]
pub enum Place {
    /// To be stored in the database, unless the part is stored there already.
    Inline(Bytes),
    /// In the object of this key.
    Object(String),
    /// The place of the part of this digest that is stored already.
    Stored,
}

/// A part in a list of parts: its id, its size in bytes and its digest.
pub type ListedPart = (i64, i64, Digest);

/// A stored part, as a download reads it.
#[derive(Clone, Debug)]
pub struct PartRow {
    /// The offset of the part in the file.
    pub start: i64,
    /// The id of the part; ids are never used twice.
    pub id: i64,
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: i64,
    /// Its bytes, if they are in the database.
    pub bytes: Option<Bytes>,
    /// The key of its object, if they are not.
    pub object: Option<String>,
}

/// A file to make visible.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// The path of the file.
    pub path: StorePath,
    /// What the file may replace.
    pub replaces: Replaces,
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// The BLAKE3 digest of the whole file, if it is known.
    pub digest: Option<Digest>,
}

/// Whether a part is stored. It stays stored only if the caller pins it or refers to it in this transaction.
pub fn has_part(tx: &mut Tx<'_>, digest: &Digest) -> Result<bool> {
    tx.exists("SELECT 1 FROM part WHERE digest = $1", params![digest])
}

/// Pins the stored part of a digest, and returns its row; `None` if there is none.
pub fn pin_part(tx: &mut Tx<'_>, owner: &Owner, digest: &Digest) -> Result<Option<PartRow>> {
    let sql = "SELECT 0, id, digest, size, bytes, object FROM part WHERE digest = $1";
    let part = tx.first(sql, params![digest])?.as_ref().map(part_row).transpose()?;
    if let Some(part) = &part {
        pin::pin(tx, owner, Ref::part(part.id))?;
    }
    Ok(part)
}

/// The current row of a part; `None` if the part is gone.
pub fn part(tx: &mut Tx<'_>, id: i64) -> Result<Option<PartRow>> {
    let sql = "SELECT 0, id, digest, size, bytes, object FROM part WHERE id = $1";
    tx.first(sql, params![id])?.as_ref().map(part_row).transpose()
}

fn part_row(row: &Row) -> Result<PartRow> {
    Ok(PartRow {
        start: row.count(0)?,
        id: row.int(1)?,
        digest: row.digest(2)?,
        size: row.count(3)?,
        bytes: row.opt_bytes(4)?.map(Bytes::from),
        object: row.opt_text(5)?,
    })
}

/// Gives a damaged part another place, and marks its old object for deletion. Returns whether it did so: not
/// if the part no longer has the object `was`, because another caller has replaced it already.
pub fn replace_part(tx: &mut Tx<'_>, id: i64, was: Option<&str>, place: &Place) -> Result<bool> {
    let Some(row) = tx.first("SELECT object, size FROM part WHERE id = $1", params![id])? else {
        return Ok(false);
    };
    if row.opt_text(0)?.as_deref() != was {
        return Ok(false);
    }
    let (bytes, object) = match place {
        Place::Inline(bytes) => (Some(bytes.as_ref()), None),
        Place::Object(object) => (None, Some(object)),
        Place::Stored => return Ok(false),
    };
    object.map_or(Ok(()), |object| remove_tombstone(tx, object))?;
    let sql = "UPDATE part SET bytes = $1, object = $2 WHERE id = $3";
    tx.execute(sql, params![bytes, object, id])?;
    let size = row.count(1)?;
    tx.count(counted_part(was.is_some()), -1, -size);
    tx.count(counted_part(object.is_some()), 1, size);
    if let Some(was) = was {
        tombstone_object(tx, was, row.int(1)?)?;
    }
    Ok(true)
}

/// Makes the row of a part, right after its object was put, and pins the part.
pub fn add_part(tx: &mut Tx<'_>, owner: &Owner, part: &Part) -> Result<i64> {
    let id = find_or_insert_part(tx, part)?;
    pin::pin(tx, owner, Ref::part(id))?;
    Ok(id)
}

/// Finds or makes the row of a part. If the part has another object already, the new one is marked for
/// deletion. Inline bytes replace an object, and stored bytes that differ from them.
pub fn find_or_insert_part(tx: &mut Tx<'_>, part: &Part) -> Result<i64> {
    let sent = if let Place::Inline(bytes) = &part.place { Some(bytes.as_ref()) } else { None };
    let sql =
        "SELECT id, object, CASE WHEN bytes = $2 THEN 1 ELSE 0 END FROM part WHERE digest = $1";
    if let Some(row) = tx.first(sql, params![&part.digest, sent])? {
        let (id, was) = (row.int(0)?, row.opt_text(1)?);
        match &part.place {
            Place::Object(object) if was.as_ref() != Some(object) => {
                tombstone_object(tx, object, part.size)?;
            }
            Place::Inline(_) if row.int(2)? == 0 => {
                replace_part(tx, id, was.as_deref(), &part.place)?;
            }
            Place::Inline(_) | Place::Object(_) | Place::Stored => {}
        }
        return Ok(id);
    }
    let (bytes, object) = match &part.place {
        Place::Inline(bytes) => (Some(bytes.as_ref()), None),
        Place::Object(object) => (None, Some(object)),
        Place::Stored => {
            return Err(Error::new(Kind::Busy, "a part was reclaimed meanwhile; try again")
                .with("part", part.digest.to_string()));
        }
    };
    object.map_or(Ok(()), |object| remove_tombstone(tx, object))?;
    let sql = "INSERT INTO part (digest, size, bytes, object) VALUES ($1, $2, $3, $4) RETURNING id";
    let id = tx.one(sql, params![&part.digest, part.size, bytes, object])?.int(0)?;
    tx.count(counted_part(object.is_some()), 1, part.size);
    Ok(id)
}

/// The etag and size of a list of parts, computed page by page. Equal etags mean equal lists.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    hasher: blake3::Hasher,
    pub(super) size: i64,
}

impl Summary {
    /// Adds a page of parts.
    pub fn add(&mut self, page: &[ListedPart]) {
        for (_, size, digest) in page {
            hash_part(&mut self.hasher, *size, digest);
            self.size = self.size.saturating_add(*size);
        }
    }

    pub(super) fn etag(&self) -> Digest {
        self.hasher.finalize().into()
    }
}

/// Adds a part to the hash of an etag.
pub(super) fn hash_part(hasher: &mut blake3::Hasher, size: i64, digest: &Digest) {
    hasher.update(&size.to_le_bytes());
    hasher.update(&digest.0);
}

/// Finds or makes the content of a list of parts. If the content exists and is damaged, its size, digest and
/// list are repaired. Returns its id and its size in bytes.
pub(super) fn find_or_insert_content(
    tx: &mut Tx<'_>,
    parts: &[ListedPart],
    digest: Option<Digest>,
) -> Result<(i64, i64)> {
    let mut list = Summary::default();
    list.add(parts);
    let (etag, size) = (list.etag(), list.size);
    // The digest of an empty file is known; the digest of a single part is that of the file.
    let digest = digest.or(match parts {
        [] => Some(Digest::of(&[])),
        [(_, _, digest)] => Some(*digest),
        _ => None,
    });
    let found = tx.first("SELECT id, size, digest FROM content WHERE etag = $1", params![&etag])?;
    if let Some(row) = found {
        let (id, known) = (row.int(0)?, row.opt_digest(2)?);
        let digest = digest.or(known);
        if (row.int(1)?, known) != (size, digest) {
            let sql = "UPDATE content SET size = $1, digest = $2 WHERE id = $3";
            tx.execute(sql, params![size, digest.as_ref(), id])?;
        }
        restore_list(tx, id, parts)?;
        return Ok((id, size));
    }
    let sql = "INSERT INTO content (size, etag, digest) VALUES ($1, $2, $3) RETURNING id";
    let id = tx.one(sql, params![size, &etag, digest.as_ref()])?.int(0)?;
    tx.count(Counted::Contents, 1, 0);
    insert_list(tx, id, 0, parts)?;
    Ok((id, size))
}

/// Makes a content without parts and pins it for its owner. No upload finds it, since it has no etag.
pub(super) fn new_content(tx: &mut Tx<'_>, owner: &Owner) -> Result<i64> {
    let content = tx.one("INSERT INTO content (size) VALUES (0) RETURNING id", &[])?.int(0)?;
    tx.count(Counted::Contents, 1, 0);
    pin::pin(tx, owner, Ref::content(content))?;
    Ok(content)
}

/// Sets the etag and digest of a content whose list of parts is complete. From now on uploads find it.
pub(super) fn set_identity(
    tx: &mut Tx<'_>,
    content: i64,
    etag: &Digest,
    digest: Option<&Digest>,
) -> Result<()> {
    let sql = "UPDATE content SET etag = $1, digest = $2 WHERE id = $3";
    tx.execute(sql, params![etag, digest, content]).map(drop)
}

/// Appends parts to the list of a content. `start` is the offset of the first one in the file.
pub(super) fn insert_list(
    tx: &mut Tx<'_>,
    content: i64,
    mut start: i64,
    parts: &[ListedPart],
) -> Result<()> {
    for (part, size, _) in parts {
        let sql = "INSERT INTO content_part (content, start, part) VALUES ($1, $2, $3)";
        tx.execute(sql, params![content, start, *part])?;
        start = start.saturating_add(*size);
    }
    Ok(())
}

/// Rewrites the list of parts of a content if it differs from `parts`.
fn restore_list(tx: &mut Tx<'_>, content: i64, parts: &[ListedPart]) -> Result<()> {
    let sql = "SELECT start, part FROM content_part WHERE content = $1 ORDER BY start";
    let rows = tx.all(sql, params![content])?;
    let mut is_same = rows.len() == parts.len();
    let mut end = 0;
    for (row, (part, size, _)) in rows.iter().zip(parts) {
        is_same &= (row.int(0)?, row.int(1)?) == (end, *part);
        end += size;
    }
    if is_same {
        return Ok(());
    }
    tx.execute("DELETE FROM content_part WHERE content = $1", params![content])?;
    insert_list(tx, content, 0, parts)?;
    for row in rows {
        enqueue_if_unreferenced(tx, Ref::part(row.int(1)?))?;
    }
    Ok(())
}

/// Makes a file visible, in place of what is at its path. Returns the file and how many files it replaces.
///
/// # Errors
/// `AlreadyExists` if the path is a folder or below a file, unless the file may replace those; `Busy` if a
/// part that the caller believed to be stored is gone.
pub fn put_file(tx: &mut Tx<'_>, new: &NewFile) -> Result<(File, i64)> {
    let at = (&new.path, new.replaces);
    tree::check_file_fits(tx, at.0, at.1)?;
    let mut parts = Vec::with_capacity(new.parts.len());
    for part in &new.parts {
        parts.push((find_or_insert_part(tx, part)?, part.size, part.digest));
    }
    let made = find_or_insert_content(tx, &parts, new.digest)?;
    put_content(tx, at, made)
}

/// Makes a file of a content, of `size` bytes, visible. The caller has checked that it fits at the path.
pub fn put_content(
    tx: &mut Tx<'_>,
    (path, replaces): (&StorePath, Replaces),
    (content, size): (i64, i64),
) -> Result<(File, i64)> {
    let version = schema::next_version(tx)?;
    let file = File { content, size, version, modified: tx.now()? };
    let above = match replaces {
        Replaces::File => Totals::default(),
        Replaces::Anything => tree::clear_above(tx, path)?,
    };
    let old = tree::put(tx, path, &Target::File(file), "path")?;
    Ok((file, above.files + old.files))
}

/// The parts of a content without a gap, from the one that contains the offset `from`. At least one and at
/// most [`DOWNLOAD_PARTS_PAGE`]; fewer once their inline bytes reach [`DOWNLOAD_MESSAGE_BYTES`].
///
/// # Errors
/// `Corrupt` if parts are missing, `Changed` if the content is being reclaimed or is gone.
pub fn parts(tx: &mut Tx<'_>, content: i64, from: i64) -> Result<Vec<PartRow>> {
    let sql = "SELECT cp.start, p.id, p.digest, p.size, p.bytes, p.object
               FROM content_part cp JOIN part p ON p.id = cp.part
               WHERE cp.content = $1 AND cp.start >= (
                 SELECT COALESCE(MAX(start), 0) FROM content_part WHERE content = $1 AND start <= $2)
               ORDER BY cp.start LIMIT $3";
    let rows = tx.all(sql, params![content, from, DOWNLOAD_PARTS_PAGE as i64])?;
    let mut parts: Vec<PartRow> = Vec::with_capacity(rows.len());
    let mut inline = 0;
    for row in &rows {
        let part = part_row(row)?;
        let follows = match parts.last() {
            None => (part.start..part.start + part.size).contains(&from),
            Some(last) => part.start == last.start + last.size,
        };
        if !follows {
            return Err(incomplete(tx, content)?);
        }
        inline += part.bytes.as_ref().map_or(0, Bytes::len);
        parts.push(part);
        // A slow client keeps inline bytes in memory.
        if inline >= DOWNLOAD_MESSAGE_BYTES {
            break;
        }
    }
    if parts.is_empty() {
        return Err(incomplete(tx, content)?);
    }
    Ok(parts)
}

/// The error for a content whose parts are missing.
fn incomplete(tx: &mut Tx<'_>, content: i64) -> Result<Error> {
    let sql = "SELECT 1 FROM content WHERE id = $1 AND etag IS NOT NULL";
    Ok(if tx.exists(sql, params![content])? {
        Error::new(Kind::Corrupt, "parts of the file are missing; upload it again")
    } else {
        Error::new(Kind::Changed, "the file was deleted while it was read")
    })
}

/// The etag and the digest of a content, as far as they are known.
pub fn digests(tx: &mut Tx<'_>, content: i64) -> Result<(Option<Digest>, Option<Digest>)> {
    let row = tx.one("SELECT etag, digest FROM content WHERE id = $1", params![content])?;
    Ok((row.opt_digest(0)?, row.opt_digest(1)?))
}

/// Pins a content for a long download.
///
/// # Errors
/// `Changed` if the content is being reclaimed or is gone.
pub fn pin_content(tx: &mut Tx<'_>, owner: &Owner, content: i64) -> Result<()> {
    let sql = "SELECT 1 FROM content WHERE id = $1 AND etag IS NOT NULL";
    if !tx.exists(sql, params![content])? {
        return Err(Error::new(Kind::Changed, "the file was deleted while it was read"));
    }
    pin::pin(tx, owner, Ref::content(content))
}

/// The id and size of the first content whose id is above `above` and whose digest is unknown; chunked
/// uploads leave such contents.
pub fn without_digest(tx: &mut Tx<'_>, above: i64) -> Result<Option<(i64, i64)>> {
    let sql = "SELECT id, size FROM content WHERE digest IS NULL AND etag IS NOT NULL AND id > $1
               ORDER BY id LIMIT 1";
    tx.first(sql, params![above])?.map(|row| Ok((row.int(0)?, row.int(1)?))).transpose()
}

/// Stores the digest of a content.
pub fn set_digest(tx: &mut Tx<'_>, content: i64, digest: &Digest) -> Result<()> {
    tx.execute("UPDATE content SET digest = $1 WHERE id = $2", params![digest, content])?;
    Ok(())
}
