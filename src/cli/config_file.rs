//! The configuration file: the named stores.
//!
//! ```toml
//! [store.prod]
//! address = "https://store.example:19443"
//! token-file = "/home/me/ci.token"
//! ```
//!
//! The file has no secret, only the paths of files that have one. But who can change it chooses the server that gets
//! the token, so a file of others is refused. It is replaced as a whole, under a lock, and keeps its comments.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::geteuid};
use serde::Deserialize;
use toml::Spanned;
use toml_edit::{DocumentMut, Item, Table, TableLike, value};
use uuid::Uuid;

use crate::{
    cli::{Failure, store_name},
    client::error::Error,
    limits::{CONFIG_BYTES_MAX, STORES_MAX},
    model::Position,
};

/// The key of the table of stores.
const STORE: &str = "store";
/// The permissions of a file that others than its owner have.
const OTHERS: u32 = 0o077;

/// A named store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Store {
    /// The address of its server.
    pub(super) address: String,
    /// The authorities of the server.
    pub(super) ca: Option<PathBuf>,
    /// The certificate of the caller.
    pub(super) cert: Option<PathBuf>,
    /// The key of this certificate.
    pub(super) key: Option<PathBuf>,
    /// The file with the token of the caller.
    pub(super) token_file: Option<PathBuf>,
}

impl Store {
    /// The files with their keys in the configuration file, which are those of the flags.
    pub(super) fn files(&self) -> [(&'static str, Option<&Path>); 4] {
        [
            ("ca", self.ca.as_deref()),
            ("cert", self.cert.as_deref()),
            ("key", self.key.as_deref()),
            ("token-file", self.token_file.as_deref()),
        ]
    }
}

/// The stores by name.
pub(super) type Stores = BTreeMap<String, Store>;

/// The file as TOML has it. What is judged later keeps its position.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    store: BTreeMap<Spanned<String>, StoreTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StoreTable {
    address: String,
    ca: Option<Spanned<PathBuf>>,
    cert: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    token_file: Option<Spanned<PathBuf>>,
}

/// The named stores of a file; none if there is no file.
///
/// # Errors
/// A file that cannot be read, that others may read or change, that belongs to another user, that is no regular file,
/// has more than [`CONFIG_BYTES_MAX`], or is wrong; the message has the position of what is wrong.
pub(super) fn read(path: &Path) -> Result<Stores, Failure> {
    parse(path, &text(path)?)
}

/// Adds a store. `replace` replaces one of this name.
///
/// # Errors
/// Those of [`read`]; a store of this name, without `replace`; more than [`STORES_MAX`]; a file that cannot be written.
pub(super) fn add(path: &Path, name: &str, store: &Store, replace: bool) -> Result<(), Failure> {
    let mut files = Vec::new();
    for (key, file) in store.files() {
        let Some(file) = file else { continue };
        let Some(file) = file.to_str() else {
            let message = format!("the path {} is not UTF-8; rename it", file.display());
            return Err(Failure::Said(message));
        };
        files.push((key, file));
    }
    change(path, |stores| {
        if !replace && stores.contains_key(name) {
            let shown = path.display();
            let message = format!("{shown} has a store '{name}' already; --replace replaces it");
            return Err(Failure::Said(message));
        }
        let mut table = Table::new();
        table.insert("address", value(&store.address));
        for (key, file) in files {
            table.insert(key, value(file));
        }
        stores.insert(name, Item::Table(table));
        Ok(())
    })
}

/// Removes a store.
///
/// # Errors
/// Those of [`read`]; no store of this name; a file that cannot be written.
pub(super) fn remove(path: &Path, name: &str) -> Result<(), Failure> {
    change(path, |stores| match stores.remove(name) {
        Some(_) => Ok(()),
        None => Err(unknown(path, name)),
    })
}

/// The failure of a name that no store has.
pub(super) fn unknown(path: &Path, name: &str) -> Failure {
    Failure::Said(format!(
        "no store '{name}' is in the configuration file {}; 'imagestore store add {name} ADDRESS' adds it, \
         and a path that begins with '{name}:' is written with a / before it",
        path.display()
    ))
}

/// Changes the file as a whole.
fn change(
    path: &Path,
    apply: impl FnOnce(&mut dyn TableLike) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // A symbolic link to the file stays.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |why| Failure::from(Error::Local { action: "write", path: path.clone(), why });
    let _lock = lock(path).map_err(failed)?;
    let old = text(path)?;
    parse(path, &old)?;
    let mut document: DocumentMut = old.parse().map_err(|error: toml_edit::TomlError| {
        wrong(path, &old, error.span().map_or(0, |span| span.start), error.message())
    })?;
    let mut parent = Table::new();
    parent.set_implicit(true);
    let stores = document.entry(STORE).or_insert(Item::Table(parent));
    let Some(stores) = stores.as_table_like_mut() else {
        return Err(wrong(path, &old, 0, "'store' is not a table"));
    };
    apply(stores)?;
    let new = document.to_string();
    parse(path, &new)?;
    write(path, new.as_bytes()).map_err(failed)
}

/// The text of the file; empty if there is none.
fn text(path: &Path) -> Result<String, Failure> {
    let failed = |why| Failure::from(Error::Local { action: "read", path: path.to_owned(), why });
    let refused = |why: &str| {
        let shown = path.display();
        Err(Failure::Said(format!(
            "the configuration file {shown} {}",
            why.replace("FILE", &shown.to_string())
        )))
    };
    // NONBLOCK: the open of a pipe does not wait for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(failed)?,
    };
    // Of the open file, so that another one cannot take its place in between.
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return refused("is no regular file; --config names another one");
    }
    if found.uid() != geteuid().as_raw() {
        return refused("belongs to another user; --config names another one");
    }
    if found.mode() & OTHERS != 0 {
        return refused("can be read or changed by others; run 'chmod 600 FILE'");
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).or_else(|_| refused("is not UTF-8"))
}

/// The stores in a text. `path` is for messages.
fn parse(path: &Path, text: &str) -> Result<Stores, Failure> {
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let reason = format!("the file has more than {CONFIG_BYTES_MAX} bytes");
        return Err(wrong(path, text, 0, &reason));
    }
    let content: Content = toml::from_str(text).map_err(|error| {
        wrong(path, text, error.span().map_or(0, |span| span.start), error.message())
    })?;
    let mut stores = Stores::new();
    for (name, table) in content.store {
        let start = name.span().start;
        if stores.len() == STORES_MAX {
            let reason = format!("the file has more than {STORES_MAX} stores");
            return Err(wrong(path, text, start, &reason));
        }
        let name =
            store_name::name(name.get_ref()).map_err(|why| wrong(path, text, start, &why))?;
        let absolute = |file: Option<Spanned<PathBuf>>| match file {
            Some(file) if !file.get_ref().is_absolute() => {
                let reason = "a path begins with / in this file";
                Err(wrong(path, text, file.span().start, reason))
            }
            file => Ok(file.map(Spanned::into_inner)),
        };
        let store = Store {
            address: table.address,
            ca: absolute(table.ca)?,
            cert: absolute(table.cert)?,
            key: absolute(table.key)?,
            token_file: absolute(table.token_file)?,
        };
        stores.insert(name, store);
    }
    Ok(stores)
}

/// The failure of a wrong file, with the position of the byte `start`.
fn wrong(path: &Path, text: &str, start: usize, reason: &str) -> Failure {
    let Position { line, column } = Position::of(text, start);
    let shown = path.display();
    let reason = reason.trim_end().replace('\n', ", ");
    Failure::Said(format!(
        "the configuration file {shown} is wrong at line {line}, column {column}: {reason}"
    ))
}

/// Makes the folder of the file, and locks the file against other commands until the lock is dropped. Waits for them.
fn lock(path: &Path) -> io::Result<File> {
    let folder = folder(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(name))?;
    lock.lock()?;
    Ok(lock)
}

/// Replaces the file by one that only its owner may read, durably. A failure leaves the old one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder(path);
    let new = folder.join(format!(".imagestore-{}.part", Uuid::new_v4().simple()));
    let mut options = OpenOptions::new();
    let written =
        options.write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            rustix::fs::rename(&new, path)?;
            File::open(folder)?.sync_all()
        });
    if written.is_err() {
        fs::remove_file(&new).ok();
    }
    written
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
