//! Reads for clients: one path, one page of a folder, the space used.

use crate::{
    error::{Error, Kind, Result},
    limits::{LIST_PAGE_BYTES, LIST_PAGE_DEFAULT, LIST_PAGE_MAX},
    model::{Entry, EntryKind, FileVersion, Info, Listing, Stat, StorePath, Totals, Usage},
    namespace::{
        content,
        counted::Counted,
        entries, garbage, schema,
        sql::Tx,
        sums,
        tree::{self, File, Target},
    },
};

/// The bytes of an entry on a page beside its path: the other fields of its message.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Describes the folder or file at a path.
///
/// # Errors
/// `PathNotFound`.
pub fn stat(tx: &mut Tx<'_>, path: &StorePath) -> Result<Stat> {
    let target = find(tx, path)?;
    describe(tx, path, &target)
}

/// Describes the folder or file that a path leads to.
///
/// # Errors
/// Those of the engine.
pub fn describe(tx: &mut Tx<'_>, path: &StorePath, target: &Target) -> Result<Stat> {
    let totals = tree::totals(tx, target)?;
    let entry = |kind| Entry { path: path.clone(), kind, totals };
    match target {
        Target::Folder(id) => Ok(Stat {
            entry: entry(EntryKind::Folder),
            digest: None,
            etag: None,
            has_mark_file: tree::has_mark(tx, *id)?,
            change_tag: Some(tree::change_tag(tx, *id)?),
        }),
        Target::File(file) => {
            let (etag, digest) = content::digests(tx, file.content)?;
            let kind = file_kind(tree::file_version(tx, file.version)?, file);
            Ok(Stat { entry: entry(kind), digest, etag, has_mark_file: false, change_tag: None })
        }
    }
}

fn find(tx: &mut Tx<'_>, path: &StorePath) -> Result<Target> {
    tree::resolve(tx, path)?.ok_or_else(|| {
        let message = format!("\"{path}\" does not exist");
        Error::new(Kind::PathNotFound, message).field("path").with("path", path.as_str())
    })
}

fn file_kind(version: FileVersion, file: &File) -> EntryKind {
    EntryKind::File { version, modified: file.modified }
}

/// Refuses a page token with a control character: no name has one, and not every engine accepts one.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_token(token: &str) -> Result<()> {
    if token.contains(char::is_control) {
        return Err(Error::invalid("page_token", "page_token is not one of a page"));
    }
    Ok(())
}

/// Lists a page of one level below a folder, in the order of folded name, then name. For the path of a file,
/// lists that file.
///
/// `token` is the name of the first entry; the page begins there even if that entry is gone. A page ends at
/// `size` entries (0: the default) or at [`LIST_PAGE_BYTES`].
///
/// # Errors
/// `PathNotFound`, `InvalidArgument` for a token that no page has.
pub fn list(tx: &mut Tx<'_>, path: &StorePath, size: usize, token: &str) -> Result<Listing> {
    check_token(token)?;
    let target = find(tx, path)?;
    let version = tree::file_version(tx, 0)?;
    let Target::Folder(folder) = target else {
        let item = to_entry(path.clone(), &target, Totals::default(), version);
        return Ok(Listing { items: vec![item], next: None, change_tag: None, is_partial: false });
    };
    let change_tag = Some(tree::change_tag(tx, folder)?);
    let size = if size == 0 { LIST_PAGE_DEFAULT } else { size.min(LIST_PAGE_MAX) };
    let rows = entries::list(tx, folder, token, size + 1)?;
    let mut items: Vec<Entry> = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let name = row.name()?;
        bytes += path.as_str().len() + name.len() + ENTRY_OVERHEAD_BYTES;
        if items.len() == size || (bytes > LIST_PAGE_BYTES && !items.is_empty()) {
            return Ok(Listing { items, next: Some(name), change_tag, is_partial: false });
        }
        items.push(to_entry(path.child(&name), &row.target()?, row.totals()?, version));
    }
    Ok(Listing { items, next: None, change_tag, is_partial: false })
}

/// `folder` are the totals if the target is a folder; `version` has the epoch of the store.
fn to_entry(path: StorePath, target: &Target, folder: Totals, version: FileVersion) -> Entry {
    match target {
        Target::Folder(_) => Entry { path, kind: EntryKind::Folder, totals: folder },
        Target::File(file) => {
            let version = FileVersion { number: file.version, ..version };
            let totals = Totals { files: 1, bytes: file.size };
            Entry { path, kind: file_kind(version, file), totals }
        }
    }
}

/// The space used, as far as the namespace knows it; the other fields have their defaults.
pub fn info(tx: &mut Tx<'_>) -> Result<Info> {
    let logical = tree::totals(tx, &Target::Folder(schema::ROOT))?;
    let registered = match entries::get(tx, schema::ROOT, "Store")? {
        Some(target) => tree::totals(tx, &target)?,
        None => Totals::default(),
    };
    let sums = sums::kept(tx)?;
    let (inline, objects) = (sums.of(Counted::Inline), sums.of(Counted::Objects));
    let unique = Usage { count: inline.count + objects.count, bytes: inline.bytes + objects.bytes };
    Ok(Info {
        logical: logical.into(),
        unique,
        on_disk: objects,
        staging: sums.of(Counted::Staging),
        garbage: garbage::waiting(&sums, unique.bytes),
        registered: registered.into(),
        folders: sums.of(Counted::Folders).count,
        metadata_bytes: tx.disk_bytes()? as u64,
        ..Info::default()
    })
}

impl From<Totals> for Usage {
    fn from(totals: Totals) -> Self {
        Self { bytes: totals.bytes, count: totals.files }
    }
}
