//! Garbage collection of folders, contents and parts.
//!
//! A statement that removes or repoints a reference also queues the old target in the table `garbage`, in the
//! same transaction. When the grace period of a row is over, reclamation checks whether a reference to its
//! target is left. A target without one is deleted in steps. Each step is one transaction, and a crash between
//! two steps leaves a valid state.
//!
//! A path that is deleted queues its target even where other references to it exist. Those references may
//! belong to garbage that was queued earlier, and its reclamation would pass its earlier time on to the
//! target. The grace period counts from the deletion of the last path.
//!
//! **Invariants:** a content of which some rows are deleted has no etag, so that no upload reuses it. A part has
//! a row as long as it is referenced. The key of an object is in the table `dead_object` before the object is
//! deleted. A part row that names a key removes it from `dead_object`; a key whose deletion has begun can no
//! longer be named.

mod objects;
mod sets;

pub use objects::{
    DeadObject, claim_objects, dead_objects, forget_objects, is_known_object, remove_tombstone,
    tombstone_object, unknown_objects,
};
pub use sets::{enqueue_contents, look_up_contents};

use crate::{
    error::Result,
    limits::{RECLAIM_CHUNK_ROWS, TOTAL_MAX},
    model::Usage,
    namespace::{
        counted::{Counted, Sums},
        entries::{self, Link, Target},
        schema::ROOT,
        sql::{Tx, count, params},
    },
};

/// The kind of a target of references, as stored in `pin.kind` and `garbage.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder = 1,
    /// A content.
    Content = 2,
    /// A part.
    Part = 3,
}

/// A target of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref {
    /// The table of the target.
    pub kind: Kind,
    /// The id of its row.
    pub id: i64,
}

impl Ref {
    /// The folder of an id.
    pub fn folder(id: i64) -> Self {
        Self { kind: Kind::Folder, id }
    }

    /// The content of an id.
    pub fn content(id: i64) -> Self {
        Self { kind: Kind::Content, id }
    }

    /// The part of an id.
    pub fn part(id: i64) -> Self {
        Self { kind: Kind::Part, id }
    }

    /// The number that stands for the kind in the tables.
    pub fn kind_number(self) -> i64 {
        self.kind as i64
    }
}

impl Target {
    /// The folder, or the content of the file, as garbage collection refers to it.
    pub fn as_ref(&self) -> Ref {
        match self {
            Self::Folder(id) => Ref::folder(*id),
            Self::File(file) => Ref::content(file.content),
        }
    }
}

impl Link {
    /// The targets of the entry, as garbage collection refers to them: one, unless the entry is damaged.
    pub fn refs(self) -> impl Iterator<Item = Ref> {
        let child = self.child.map(Ref::folder);
        child.into_iter().chain(self.content.map(Ref::content))
    }
}

/// Whether an entry, a list of parts, a chunk or a pin refers to a target. The root is always referenced.
pub fn is_referenced(tx: &mut Tx<'_>, target: Ref) -> Result<bool> {
    let id = target.id;
    let referenced = match target.kind {
        Kind::Folder if id == ROOT => true,
        Kind::Folder => entries::folder_refs(tx, id)? > 0,
        Kind::Content => entries::is_content_used(tx, id)?,
        Kind::Part => {
            tx.exists("SELECT 1 FROM content_part WHERE part = $1 LIMIT 1", params![id])?
                || tx.exists("SELECT 1 FROM upload_chunk WHERE part = $1 LIMIT 1", params![id])?
        }
    };
    Ok(referenced || is_pinned(tx, target)?)
}

/// Whether a target is queued for reclamation.
pub fn is_garbage(tx: &mut Tx<'_>, target: Ref) -> Result<bool> {
    let sql = "SELECT 1 FROM garbage WHERE kind = $1 AND id = $2";
    tx.exists(sql, params![target.kind_number(), target.id])
}

/// Whether a pin holds a target.
pub fn is_pinned(tx: &mut Tx<'_>, target: Ref) -> Result<bool> {
    let sql = "SELECT 1 FROM pin WHERE kind = $1 AND target = $2 LIMIT 1";
    tx.exists(sql, params![target.kind_number(), target.id])
}

/// Queues the target of an entry that was removed or repointed, whether other references are left or not.
pub fn enqueue_garbage(tx: &mut Tx<'_>, target: Ref) -> Result<()> {
    let now = tx.now()?;
    upsert_garbage(tx, target, now)
}

/// Queues a target that has lost a reference other than an entry, if no reference is left.
pub fn enqueue_if_unreferenced(tx: &mut Tx<'_>, target: Ref) -> Result<()> {
    let now = tx.now()?;
    enqueue_garbage_since(tx, target, now)
}

/// Queues a target if no reference is left, with the time `since`: what was below a deleted folder has no
/// later grace period than the folder.
fn enqueue_garbage_since(tx: &mut Tx<'_>, target: Ref, since: i64) -> Result<()> {
    if is_referenced(tx, target)? {
        return Ok(());
    }
    upsert_garbage(tx, target, since)
}

fn upsert_garbage(tx: &mut Tx<'_>, target: Ref, since: i64) -> Result<()> {
    // A target of an entry frees nothing; the removal of its last entry queues it again.
    let sql = match target.kind {
        Kind::Folder => concat!(
            "SELECT (SELECT ",
            count!("f.bytes"),
            " FROM folder f WHERE f.id = $1 AND NOT ",
            entries::has_folder_ref!("f.id"),
            "),
             (SELECT bytes FROM garbage WHERE kind = 1 AND id = $1)"
        ),
        Kind::Content => concat!(
            "SELECT (SELECT ",
            count!("c.size"),
            " FROM content c WHERE c.id = $1 AND NOT ",
            entries::has_content_ref!("c.id"),
            "),
             (SELECT bytes FROM garbage WHERE kind = 2 AND id = $1)"
        ),
        Kind::Part => concat!(
            "SELECT (SELECT ",
            count!("p.size"),
            " FROM part p WHERE p.id = $1),
             (SELECT bytes FROM garbage WHERE kind = 3 AND id = $1)"
        ),
    };
    let row = tx.one(sql, params![target.id])?;
    let (bytes, before) = (row.opt_count(0)?, row.opt_count(1)?);
    // If the target is queued already, the later time counts.
    tx.execute(
        "INSERT INTO garbage (kind, id, since, bytes) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kind, id) DO UPDATE SET bytes = excluded.bytes, since =
           CASE WHEN excluded.since > garbage.since THEN excluded.since ELSE garbage.since END",
        params![target.kind_number(), target.id, since, bytes],
    )?;
    count_waiting(tx, before, bytes);
    Ok(())
}

/// Updates the sum of garbage, for a row whose bytes change from `before` to `after`.
fn count_waiting(tx: &mut Tx<'_>, before: Option<i64>, after: Option<i64>) {
    let count = i64::from(after.is_some()) - i64::from(before.is_some());
    tx.count(Counted::Waiting, count, after.unwrap_or(0) - before.unwrap_or(0));
}

/// The result of a step of reclamation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The targets processed, each of them by at most [`RECLAIM_CHUNK_ROWS`] rows.
    pub done: u64,
    /// Whether more may be due.
    pub is_more: bool,
}

/// Reclaims targets that were queued at least `grace` microseconds ago, until `is_enough` returns true for
/// the number of targets processed.
pub fn reclaim(tx: &mut Tx<'_>, grace: i64, is_enough: &dyn Fn(u64) -> bool) -> Result<Reclaimed> {
    let mut done = 0;
    let before = tx.now()?.saturating_sub(grace);
    loop {
        // Parts before contents before folders: a target that was just queued from below goes first, so the
        // queue stays short however much is below a folder.
        let sql = "SELECT kind, id, since FROM garbage WHERE since <= $1
                   ORDER BY since, kind DESC LIMIT 1";
        let Some(row) = tx.first(sql, params![before])? else {
            return Ok(Reclaimed { done, is_more: false });
        };
        let (kind, id, since) = (row.int(0)?, row.int(1)?, row.int(2)?);
        match kind {
            1 => reclaim_folder(tx, id, since)?,
            2 => reclaim_content(tx, id, since)?,
            _ => reclaim_part(tx, id)?,
        }
        done += 1;
        if is_enough(done) {
            return Ok(Reclaimed { done, is_more: true });
        }
    }
}

fn forget(tx: &mut Tx<'_>, target: Ref) -> Result<()> {
    let sql = "DELETE FROM garbage WHERE kind = $1 AND id = $2 RETURNING bytes";
    if let Some(row) = tx.first(sql, params![target.kind_number(), target.id])? {
        count_waiting(tx, row.opt_count(0)?, None);
    }
    Ok(())
}

/// Takes `bytes` off the row of a target, whose own targets are queued on their own now.
fn take_out(tx: &mut Tx<'_>, target: Ref, bytes: i64) -> Result<()> {
    let sql = "SELECT bytes FROM garbage WHERE kind = $1 AND id = $2";
    let row = tx.one(sql, params![target.kind_number(), target.id])?;
    let Some(before) = row.opt_count(0)? else { return Ok(()) };
    let after = (before - bytes).max(0);
    let sql = "UPDATE garbage SET bytes = $1 WHERE kind = $2 AND id = $3";
    tx.execute(sql, params![after, target.kind_number(), target.id])?;
    count_waiting(tx, Some(before), Some(after));
    Ok(())
}

fn reclaim_folder(tx: &mut Tx<'_>, id: i64, since: i64) -> Result<()> {
    let folder = Ref::folder(id);
    if is_referenced(tx, folder)? {
        return forget(tx, folder);
    }
    let taken = entries::take(tx, id, RECLAIM_CHUNK_ROWS)?;
    let mut bytes = 0;
    for entry in &taken {
        bytes += entry.bytes;
        for target in entry.link.refs() {
            enqueue_garbage_since(tx, target, since)?;
        }
    }
    if taken.len() < RECLAIM_CHUNK_ROWS {
        let gone = tx.execute("DELETE FROM folder WHERE id = $1", params![id])?;
        tx.count(Counted::Folders, -(gone as i64), 0);
        return forget(tx, folder);
    }
    // The rest of the folder still waits to be freed; what was taken out is counted at its own row.
    let sql = "UPDATE folder SET bytes = CASE WHEN bytes > $1 THEN bytes - $1 ELSE 0 END
               WHERE id = $2";
    tx.execute(sql, params![bytes, id])?;
    take_out(tx, folder, bytes)
}

fn reclaim_content(tx: &mut Tx<'_>, id: i64, since: i64) -> Result<()> {
    let content = Ref::content(id);
    if is_referenced(tx, content)? {
        return forget(tx, content);
    }
    tx.execute("UPDATE content SET etag = NULL WHERE id = $1", params![id])?;
    let sql = "SELECT cp.start, cp.part, p.size
               FROM content_part cp LEFT JOIN part p ON p.id = cp.part
               WHERE cp.content = $1 ORDER BY cp.start LIMIT $2";
    let rows = tx.all(sql, params![id, RECLAIM_CHUNK_ROWS as i64])?;
    let mut bytes = 0;
    for row in &rows {
        bytes += row.opt_count(2)?.unwrap_or_default();
        let sql = "DELETE FROM content_part WHERE content = $1 AND start = $2";
        tx.execute(sql, params![id, row.int(0)?])?;
        enqueue_garbage_since(tx, Ref::part(row.int(1)?), since)?;
    }
    if rows.len() < RECLAIM_CHUNK_ROWS {
        let gone = tx.execute("DELETE FROM content WHERE id = $1", params![id])?;
        tx.count(Counted::Contents, -(gone as i64), 0);
        return forget(tx, content);
    }
    let sql = "UPDATE content SET size = CASE WHEN size > $1 THEN size - $1 ELSE 0 END
               WHERE id = $2";
    tx.execute(sql, params![bytes, id])?;
    take_out(tx, content, bytes)
}

fn reclaim_part(tx: &mut Tx<'_>, id: i64) -> Result<()> {
    let part = Ref::part(id);
    if !is_referenced(tx, part)?
        && let Some(row) =
            tx.first("DELETE FROM part WHERE id = $1 RETURNING object, size", params![id])?
    {
        let object = row.opt_text(0)?;
        tx.count(counted_part(object.is_some()), -1, -row.count(1)?);
        if let Some(object) = object {
            tombstone_object(tx, &object, row.int(1)?)?;
        }
    }
    forget(tx, part)
}

/// The kind of sum that a part belongs to.
pub(super) fn counted_part(has_object: bool) -> Counted {
    if has_object { Counted::Objects } else { Counted::Inline }
}

/// The garbage of the store: folders, contents, parts and objects that wait to be freed, and an upper bound
/// of their bytes. `part_bytes` are the bytes of all parts: folders and contents may share bytes with each
/// other and with what stays, so they cannot free more than that. A target that an entry refers to again is
/// included until reclamation looks at it.
pub fn waiting(sums: &Sums, part_bytes: i64) -> Usage {
    let (objects, named) = (sums.of(Counted::Dead), sums.of(Counted::Waiting));
    let bytes = objects.bytes.saturating_add(named.bytes.min(part_bytes));
    Usage { count: objects.count + named.count, bytes: bytes.min(TOTAL_MAX) }
}

/// Whether a target was queued at least `grace` microseconds ago.
pub fn is_due(tx: &mut Tx<'_>, grace: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(grace);
    tx.exists("SELECT 1 FROM garbage WHERE since <= $1 LIMIT 1", params![before])
}
