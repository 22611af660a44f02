//! Stores that are copies of other stores: the marks of a copy, and what it knows of the folders of its source.
//!
//! A copy is made by restores, each of which replaces the whole root in its last transaction. Between them the table
//! `copied_folder` keeps which folder of the target has which state of a folder of the source, so that the next restore
//! needs only what differs. The marks are rows of the table `meta`; a store that is no copy has neither marks nor the
//! table.
//!
//! **Invariants:** a copy is marked as unfinished before the first change of a restore, and as whole in the transaction
//! that makes the restore visible. An unfinished copy is opened only for the next restore. A server that serves a copy
//! makes it a store of its own before its first call: it drops the marks and the table, for from then on the folders may
//! change.

use std::collections::HashSet;

use crate::{
    error::{Error, Kind, Result},
    model::{BackupPart, CopySource, Digest, FolderTag},
    namespace::{
        entries, link,
        schema::{self, ROOT},
        sql::{Param, Rows, Set, Tx, params, set},
        token, tree,
    },
};

/// The table of a copy. A state of a folder in the source is the folder `folder` of the copy.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS copied_folder (
  source BIGINT NOT NULL, changes BIGINT NOT NULL, folder BIGINT NOT NULL,
  PRIMARY KEY (source, changes)){clustered};";

/// The id of the store of which this one is a copy.
const SOURCE: &str = "copy_source";
/// 1 if the copy is whole, 0 while it is unfinished.
const IS_WHOLE: &str = "copy_is_whole";
/// The number of changes of the source when it was read last.
const SOURCE_CHANGES: &str = "copy_source_changes";
/// The number of changes of the root of this store when the copy became whole.
const ROOT_CHANGES: &str = "copy_root_changes";

/// What a store is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To serve clients.
    #[default]
    Serve,
    /// For one command, such as a check or a backup.
    Command,
    /// To become a copy of another store, or a newer one.
    Copy,
}

/// What of a store is not in its backups: who may use it.
#[derive(Clone, Debug)]
pub struct Credentials {
    tokens: Vec<token::Kept>,
    link_key: Option<[i64; 4]>,
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the engine.
    pub fn read(tx: &mut Tx<'_>) -> Result<Self> {
        Ok(Self { tokens: token::all(tx)?, link_key: link::key(tx)? })
    }

    /// The number of tokens, ended ones included.
    pub fn tokens(&self) -> u64 {
        self.tokens.len() as u64
    }
}

fn mark(tx: &mut Tx<'_>, name: &str) -> Result<Option<i64>> {
    let row = tx.first("SELECT value FROM meta WHERE name = $1", params![name])?;
    row.map(|row| row.int(0)).transpose()
}

fn set_mark(tx: &mut Tx<'_>, name: &str, value: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO meta (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![name, value],
    )
    .map(drop)
}

/// Decides whether a store may be opened for a purpose.
///
/// # Errors
/// `InvalidArgument` for an unfinished copy.
pub(super) fn admit(tx: &mut Tx<'_>, purpose: Purpose) -> Result<()> {
    if purpose == Purpose::Copy || mark(tx, IS_WHOLE)?.is_none_or(|whole| whole == 1) {
        return Ok(());
    }
    let message = "the store is an unfinished copy of another one; run 'imagestore migrate' again until it ends";
    Err(Error::new(Kind::InvalidArgument, message))
}

/// Whether the store is a copy.
///
/// # Errors
/// Those of the engine.
pub fn is_copy(tx: &mut Tx<'_>) -> Result<bool> {
    Ok(mark(tx, SOURCE)?.is_some())
}

/// Makes a copy a store of its own: its folders may change from now on. Does nothing if another server has done so since
/// the copy was seen.
///
/// # Errors
/// Those of the engine.
pub fn release(tx: &mut Tx<'_>) -> Result<()> {
    if !is_copy(tx)? {
        return Ok(());
    }
    for name in [SOURCE, SOURCE_CHANGES, IS_WHOLE, ROOT_CHANGES] {
        tx.execute("DELETE FROM meta WHERE name = $1", params![name])?;
    }
    tx.execute("DROP TABLE copied_folder", &[]).map(drop)
}

/// Marks the store as an unfinished copy of another one. Returns whether it knows folders of it.
///
/// # Errors
/// `InvalidArgument` for a store that is the source itself, that holds something of its own, or that is a copy of a third
/// one; for a source that has lost changes. Nothing has changed then.
pub fn begin(tx: &mut Tx<'_>, source: &CopySource) -> Result<bool> {
    let refused = |why: String| Err(Error::new(Kind::InvalidArgument, why));
    let own = schema::meta(tx, "store")?;
    if own == source.store {
        return refused(format!(
            "the source and the target are the same store, {own:x}, or a copy of its files; name an empty target"
        ));
    }
    match mark(tx, SOURCE)? {
        None => {
            check_unused(tx)?;
            tx.make_tables(TABLE)?;
            set_mark(tx, SOURCE, source.store)?;
        }
        Some(other) if other != source.store => {
            let source = source.store;
            return refused(format!(
                "the target is a copy of the store {other:x}, and the source is {source:x}; name an empty target"
            ));
        }
        Some(_) => {
            let now = tree::tag(tx, ROOT)?.changes;
            if mark(tx, IS_WHOLE)? == Some(1) && mark(tx, ROOT_CHANGES)? != Some(now) {
                return refused(
                    "the target was changed after it was copied; name an empty target".to_owned(),
                );
            }
        }
    }
    // The ids of folders that the source has lost can be those of other folders by now.
    if mark(tx, SOURCE_CHANGES)?.is_some_and(|last| last > source.changes) {
        return refused(
            "the source has fewer changes than when it was copied last, so it has lost some, as by a restore of its \
             database; name an empty target"
                .to_owned(),
        );
    }
    set_mark(tx, SOURCE_CHANGES, source.changes)?;
    set_mark(tx, IS_WHOLE, 0)?;
    tx.exists("SELECT 1 FROM copied_folder LIMIT 1", &[])
}

/// Refuses a store that something was stored in.
fn check_unused(tx: &mut Tx<'_>) -> Result<()> {
    let files = tree::totals(tx, &tree::Target::Folder(ROOT))?.files;
    let what = if !entries::is_empty(tx, ROOT)? {
        format!("holds {files} files of its own")
    } else if !token::all(tx)?.is_empty() {
        "has tokens of its own".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("the target {what}; name an empty target");
    Err(Error::new(Kind::InvalidArgument, message))
}

const PARTS: Set = set!(
    "SELECT p.digest FROM",
    ["$1" "hash" "BYTEA"],
    "JOIN part p ON p.digest = r.hash"
);

/// For each part of an offer, whether the store does not have it.
///
/// # Errors
/// Those of the engine.
pub fn missing_parts(tx: &mut Tx<'_>, parts: &[BackupPart]) -> Result<Vec<bool>> {
    let asked = Rows::new(PARTS, parts.iter().map(|part| [Param::from(&part.digest)]));
    let [rows] = tx.run(&[asked])?;
    let found: HashSet<Digest> = rows.iter().map(|row| row.digest(0)).collect::<Result<_>>()?;
    Ok(parts.iter().map(|part| !found.contains(&part.digest)).collect())
}

const FOLDERS: Set = set!(
    "SELECT c.source, c.changes FROM",
    ["$1" "asked" "BIGINT", "$2" "stamp" "BIGINT"],
    concat!(
        "JOIN copied_folder c ON c.source = r.asked AND c.changes = r.stamp WHERE ",
        entries::has_folder_ref!("c.folder")
    )
);

/// For each folder of an offer, whether the store does not have it, as [`folder_of`] decides it.
///
/// # Errors
/// Those of the engine.
pub fn missing_folders(tx: &mut Tx<'_>, tags: &[FolderTag]) -> Result<Vec<bool>> {
    let row = |tag: &FolderTag| [Param::from(tag.id), Param::from(tag.changes)];
    let [rows] = tx.run(&[Rows::new(FOLDERS, tags.iter().map(row))])?;
    let found: HashSet<_> =
        rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect::<Result<_>>()?;
    Ok(tags.iter().map(|tag| !found.contains(&(tag.id, tag.changes))).collect())
}

/// The folder of this store that has a state of a folder of the source; `None` if it has none that something refers to.
/// The folder stays only if the caller pins it or refers to it in this transaction.
///
/// # Errors
/// Those of the engine.
pub fn folder_of(tx: &mut Tx<'_>, tag: &FolderTag) -> Result<Option<i64>> {
    // A folder that an entry refers to is complete, whatever that entry is in: reclamation removes the entry first.
    let sql = concat!(
        "SELECT c.folder FROM copied_folder c WHERE c.source = $1 AND c.changes = $2 AND ",
        entries::has_folder_ref!("c.folder")
    );
    tx.first(sql, params![tag.id, tag.changes])?.map(|row| row.int(0)).transpose()
}

/// Records that a folder of this store, which is complete, has a state of a folder of the source.
///
/// # Errors
/// Those of the engine.
pub fn record_folder(tx: &mut Tx<'_>, tag: &FolderTag, folder: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO copied_folder (source, changes, folder) VALUES ($1, $2, $3)
         ON CONFLICT (source, changes) DO UPDATE SET folder = excluded.folder",
        params![tag.id, tag.changes, folder],
    )
    .map(drop)
}

/// Marks the store as a whole copy, in the transaction that has filled its root. Takes over the credentials of a source
/// that was stopped; those that the target took over before go.
///
/// # Errors
/// Those of the engine.
pub fn finish(tx: &mut Tx<'_>, credentials: Option<&Credentials>) -> Result<()> {
    if let Some(Credentials { tokens, link_key }) = credentials {
        token::replace_all(tx, tokens)?;
        if let Some(key) = link_key {
            link::set_key(tx, *key)?;
        }
    }
    let changes = tree::tag(tx, ROOT)?.changes;
    set_mark(tx, ROOT_CHANGES, changes)?;
    set_mark(tx, IS_WHOLE, 1)
}
