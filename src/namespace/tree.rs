//! The copy-on-write tree: resolving paths, and changing one entry.
//!
//! A folder is *shared* when more than one reference to it exists, entries and pins counted together. A write
//! below a shared folder first clones that folder: its entries, not its sub-folders. The same happens for each
//! folder down the path.
//!
//! **Invariants:** whether a folder is shared is decided after its parent has become unshared, never before.
//! The totals of a folder and the number of its changes are updated in the transaction that changes the
//! entry, when all folders of the path are unshared. Every folder except the root contains a file at some
//! depth. A write that is refused, or that changes nothing, clones nothing. No write creates a path that is
//! deeper or longer than the limits allow, except the restore of a backup that has such paths.

mod place;
pub mod reach;
mod sets;

pub use super::entries::{File, Target};
pub use place::{check_file_fits, check_folder_fits, check_same_kind, resolve_for_write};
pub use sets::{Change, look_up_totals, new_folders, record_changes, tags};

use reach::Reach;

use crate::{
    error::{Error, Kind, Result},
    limits::TOTAL_MAX,
    model::{FileVersion, FolderTag, MARK_FILE, StorePath, Totals},
    namespace::{
        counted::Counted,
        entries,
        garbage::{Ref, enqueue_garbage, enqueue_if_unreferenced, is_pinned},
        schema::{self, ROOT},
        sql::{Tx, count, params},
    },
};

/// Looks up a path; the empty path is the root folder.
pub fn resolve(tx: &mut Tx<'_>, path: &StorePath) -> Result<Option<Target>> {
    entries::follow(tx, ROOT, path.names())
}

/// The totals of a folder, or of one file.
pub fn totals(tx: &mut Tx<'_>, target: &Target) -> Result<Totals> {
    match target {
        Target::File(file) => Ok(Totals { files: 1, bytes: file.size }),
        Target::Folder(id) => {
            let row = tx.one("SELECT files, bytes FROM folder WHERE id = $1", params![*id])?;
            Ok(Totals { files: row.count(0)?, bytes: row.count(1)? })
        }
    }
}

/// The change tag of a folder: two reads of the folder with the same tag have the same entries and totals.
///
/// The tag consists of the id of the store, the id of the folder, which is never used twice, and the folder's
/// number of changes. A write below the folder counts in every folder of its path; a sub-folder that is
/// shared is cloned by the write and never changed, so it cannot change without the folder.
pub fn change_tag(tx: &mut Tx<'_>, folder: i64) -> Result<String> {
    let store = schema::meta(tx, "store")?;
    let changes = tag(tx, folder)?.changes;
    Ok(format!("{store:x}-{folder:x}-{changes:x}"))
}

/// The change tag of a folder in its store.
pub fn tag(tx: &mut Tx<'_>, id: i64) -> Result<FolderTag> {
    let changes = tx.one("SELECT changes FROM folder WHERE id = $1", params![id])?.int(0)?;
    Ok(FolderTag { id, changes })
}

/// Counts a change of a folder that is not a write at a path, in the folder itself and in the folders that
/// have an entry for it.
pub fn count_change(tx: &mut Tx<'_>, folder: i64) -> Result<()> {
    let sql = concat!(
        "UPDATE folder SET changes = changes + 1 WHERE id = $1 OR id IN (",
        entries::folders_above!("$1"),
        ")"
    );
    tx.execute(sql, params![folder]).map(drop)
}

/// Whether a folder has its mark file: a file named exactly [`MARK_FILE`].
pub fn has_mark(tx: &mut Tx<'_>, folder: i64) -> Result<bool> {
    Ok(matches!(entries::get(tx, folder, MARK_FILE)?, Some(Target::File(_))))
}

/// The file version of a number, with the epoch of this store.
pub fn file_version(tx: &mut Tx<'_>, number: i64) -> Result<FileVersion> {
    let sql = "SELECT (SELECT value FROM meta WHERE name = 'epoch_data_loss'),
                 (SELECT value FROM meta WHERE name = 'epoch_configuration')";
    let row = tx.one(sql, &[])?;
    Ok(FileVersion { epoch_data_loss: row.int(0)?, epoch_configuration: row.int(1)?, number })
}

/// Removes the file at a parent of a path, if there is one. Returns its totals.
pub fn clear_above(tx: &mut Tx<'_>, path: &StorePath) -> Result<Totals> {
    match file_above(tx, path)? {
        Some(file) => Ok(remove(tx, &file)?.unwrap_or_default()),
        None => Ok(Totals::default()),
    }
}

/// The file at a parent of a path, if there is one.
pub fn file_above(tx: &mut Tx<'_>, path: &StorePath) -> Result<Option<StorePath>> {
    let (mut target, mut at) = (Target::Folder(ROOT), StorePath::root());
    for name in path.names() {
        let Target::Folder(folder) = target else { return Ok(Some(at)) };
        let Some(found) = entries::get(tx, folder, name)? else { break };
        (target, at) = (found, at.child(name));
    }
    Ok(None)
}

/// Puts a target at a path, in place of what is there. Returns the totals of what was there.
///
/// # Errors
/// `AlreadyExists` below a file, `PathTooLong` as [`reach::check`], `TooLarge` if the totals of the store
/// would exceed their bound. Nothing has changed then.
pub fn put(
    tx: &mut Tx<'_>,
    path: &StorePath,
    target: &Target,
    field: &'static str,
) -> Result<Totals> {
    let Some((above, name)) = path.split_last() else {
        return Err(Error::invalid(field, "the root cannot be replaced"));
    };
    let old = resolve_for_write(tx, path, field)?;
    let new_totals = totals(tx, target)?;
    let old_totals = old.as_ref().map(|old| totals(tx, old)).transpose()?.unwrap_or_default();
    let delta = Totals {
        files: new_totals.files - old_totals.files,
        bytes: new_totals.bytes - old_totals.bytes,
    };
    let below = reach::check(tx, path, target, field)?;
    check_totals(tx, delta)?;
    let chain = unshare(tx, ROOT, &above)?;
    let folder = chain.last().copied().unwrap_or(ROOT);
    entries::put(tx, folder, name, target)?;
    record_change(tx, &chain, delta)?;
    reach::raise(tx, path, &chain, below)?;
    if let Some(old) = old {
        enqueue_garbage(tx, old.as_ref())?;
    }
    Ok(old_totals)
}

/// Adds a target to a folder that no path leads to yet, at a path below that folder where nothing is. The bounds of
/// the store are checked when the folder is put at its path.
///
/// # Errors
/// `Internal` if something is at the path already, or a file above it.
pub fn add(tx: &mut Tx<'_>, root: i64, path: &StorePath, target: &Target) -> Result<()> {
    let Some((above, name)) = path.split_last() else {
        return Err(Error::internal("a folder that is built cannot be replaced"));
    };
    let (added, reach) = (totals(tx, target)?, reach::below(tx, target)?);
    let chain = unshare(tx, root, &above)?;
    let folder = chain.last().copied().unwrap_or(root);
    if entries::get(tx, folder, name)?.is_some() {
        return Err(Error::internal("a folder that is built has this entry already"));
    }
    entries::put(tx, folder, name, target)?;
    record_change(tx, &chain, added)?;
    reach::raise(tx, path, &chain, reach)
}

/// Removes what is at a path, and the folders that become empty. Returns the totals of what was there.
pub fn remove(tx: &mut Tx<'_>, path: &StorePath) -> Result<Option<Totals>> {
    let Some((above, name)) = path.split_last() else {
        return Err(Error::invalid("path", "the root cannot be deleted"));
    };
    let Some(target) = resolve(tx, path)? else { return Ok(None) };
    let gone = totals(tx, &target)?;
    let chain = unshare(tx, ROOT, &above)?;
    record_change(tx, &chain, Totals { files: -gone.files, bytes: -gone.bytes })?;
    let mut names: Vec<&str> = above;
    names.push(name);
    // From the deepest folder up: the entry is removed, and with its last entry the folder.
    for (folder, name) in chain.iter().zip(&names).rev() {
        delete_entry(tx, *folder, name)?;
        // The entries decide, not the totals: if the totals were wrong, files would be lost.
        if *folder == ROOT || !entries::is_empty(tx, *folder)? {
            break;
        }
    }
    Ok(Some(gone))
}

/// Makes the folders of a path below a folder, where they are missing, and unshares them. Returns the ids, that of
/// the folder first.
fn unshare(tx: &mut Tx<'_>, root: i64, names: &[&str]) -> Result<Vec<i64>> {
    let mut folder = root;
    let mut chain = vec![root];
    for name in names {
        folder = match entries::get(tx, folder, name)? {
            None => {
                let new = new_folder(tx, Totals::default(), Reach::default())?;
                entries::put(tx, folder, name, &Target::Folder(new))?;
                new
            }
            Some(Target::Folder(child)) if is_shared(tx, child)? => {
                let clone = clone(tx, child)?;
                entries::put(tx, folder, name, &Target::Folder(clone))?;
                // The path now leads through the clone, so the old folder is queued only if no reference is
                // left.
                enqueue_if_unreferenced(tx, Ref::folder(child))?;
                clone
            }
            Some(Target::Folder(child)) => child,
            Some(Target::File(_)) => {
                return Err(Error::internal("a file stands where a folder was just seen"));
            }
        };
        chain.push(folder);
    }
    Ok(chain)
}

/// Whether more than one entry or pin refers to a folder. This is looked up in the indexes; there is no
/// reference counter that could drift.
fn is_shared(tx: &mut Tx<'_>, folder: i64) -> Result<bool> {
    let refs = entries::folder_refs(tx, folder)?;
    Ok(refs > 1 || (refs > 0 && is_pinned(tx, Ref::folder(folder))?))
}

/// Makes a folder with the totals and entries of another one. Nothing refers to the new folder yet.
pub fn clone(tx: &mut Tx<'_>, folder: i64) -> Result<i64> {
    let sql = "INSERT INTO folder (files, bytes, depth, length)
               SELECT files, bytes, depth, length FROM folder WHERE id = $1 RETURNING id";
    let clone = tx.one(sql, params![folder])?.int(0)?;
    tx.count(Counted::Folders, 1, 0);
    entries::copy_all(tx, folder, clone)?;
    Ok(clone)
}

/// Gives the root, which must be empty, the totals and entries of another folder.
pub fn fill_root(tx: &mut Tx<'_>, folder: i64) -> Result<()> {
    let from = Target::Folder(folder);
    let (totals, reach) = (totals(tx, &from)?, reach::below(tx, &from)?);
    set_sums(tx, ROOT, totals, reach)?;
    count_change(tx, ROOT)?;
    entries::copy_all(tx, folder, ROOT)
}

/// Gives the root the totals and entries of another folder. What it had becomes garbage.
pub fn replace_root(tx: &mut Tx<'_>, folder: i64) -> Result<()> {
    if !entries::is_empty(tx, ROOT)? {
        let old = clone(tx, ROOT)?;
        entries::remove_all(tx, ROOT)?;
        enqueue_garbage(tx, Ref::folder(old))?;
    }
    fill_root(tx, folder)
}

/// Sets the totals and the reach of a folder.
pub fn set_sums(tx: &mut Tx<'_>, folder: i64, totals: Totals, reach: Reach) -> Result<()> {
    let sql = "UPDATE folder SET files = $1, bytes = $2, depth = $3, length = $4 WHERE id = $5";
    let sums = params![totals.files, totals.bytes, reach.depth, reach.length, folder];
    tx.execute(sql, sums).map(drop)
}

/// Makes a folder that nothing refers to yet.
pub fn new_folder(tx: &mut Tx<'_>, totals: Totals, reach: Reach) -> Result<i64> {
    let sql = "INSERT INTO folder (files, bytes, depth, length) VALUES ($1, $2, $3, $4)
               RETURNING id";
    let sums = params![totals.files, totals.bytes, reach.depth, reach.length];
    let id = tx.one(sql, sums)?.int(0)?;
    tx.count(Counted::Folders, 1, 0);
    Ok(id)
}

fn delete_entry(tx: &mut Tx<'_>, folder: i64, name: &str) -> Result<()> {
    for target in entries::remove(tx, folder, name)?.refs() {
        enqueue_garbage(tx, target)?;
    }
    Ok(())
}

/// Refuses a change that would take the totals of the root, which are the largest, above their bound.
fn check_totals(tx: &mut Tx<'_>, delta: Totals) -> Result<()> {
    let root = totals(tx, &Target::Folder(ROOT))?;
    if root.files + delta.files > TOTAL_MAX || root.bytes + delta.bytes > TOTAL_MAX {
        let message = format!("the store would hold more than {TOTAL_MAX} files or bytes");
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(())
}

/// Counts a write in each folder of its path, and adds `delta` to their totals.
fn record_change(tx: &mut Tx<'_>, chain: &[i64], delta: Totals) -> Result<()> {
    for folder in chain {
        tx.execute(
            concat!(
                "UPDATE folder SET files = ",
                count!("files"),
                " + $1, bytes = ",
                count!("bytes"),
                " + $2, changes = changes + 1 WHERE id = $3"
            ),
            params![delta.files, delta.bytes, *folder],
        )?;
    }
    Ok(())
}
