//! Whether a target may be put at a path, and what it would replace.

use crate::{
    error::{Error, Kind, Result},
    model::{Replaces, StorePath},
    namespace::{
        entries,
        schema::ROOT,
        sql::Tx,
        tree::{Target, totals},
    },
};

/// Looks up a path that is about to be written.
///
/// # Errors
/// `AlreadyExists` if a parent of the path is a file.
pub fn resolve_for_write(
    tx: &mut Tx<'_>,
    path: &StorePath,
    field: &'static str,
) -> Result<Option<Target>> {
    let mut target = Target::Folder(ROOT);
    for (depth, name) in path.names().enumerate() {
        let Target::Folder(folder) = target else {
            let above = path.names().take(depth);
            let file = above.fold(StorePath::root(), |path, name| path.child(name));
            let message =
                format!("\"{file}\" is a file, so nothing can be at \"{path}\"; delete it first");
            return Err(Error::new(Kind::AlreadyExists, message)
                .field(field)
                .with("path", file.as_str()));
        };
        match entries::get(tx, folder, name)? {
            Some(found) => target = found,
            None => return Ok(None),
        }
    }
    Ok(Some(target))
}

/// Refuses a file at a path where it would replace something that `replaces` does not allow.
///
/// # Errors
/// `AlreadyExists` if the path is a folder, or a parent of it is a file.
pub fn check_file_fits(tx: &mut Tx<'_>, path: &StorePath, replaces: Replaces) -> Result<()> {
    if replaces == Replaces::Anything {
        return Ok(());
    }
    let old = resolve_for_write(tx, path, "path")?;
    check_not_folder(tx, path, old.as_ref(), "path")
}

fn check_not_folder(
    tx: &mut Tx<'_>,
    path: &StorePath,
    old: Option<&Target>,
    field: &'static str,
) -> Result<()> {
    let Some(folder @ Target::Folder(_)) = old else { return Ok(()) };
    let files = match totals(tx, folder)?.files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let message = format!("\"{path}\" is a folder of {files}, and a file would replace all of it");
    Err(other_kind(path, &message, field))
}

fn other_kind(path: &StorePath, message: &str, field: &'static str) -> Error {
    let message = format!("{message}; name another path, or ask to overwrite it");
    Error::new(Kind::AlreadyExists, message).field(field).with("path", path.as_str())
}

/// Refuses to put a target at a path where a target of the other kind is.
///
/// # Errors
/// `AlreadyExists` for a file onto a folder, for a folder onto a file, and below a file.
pub fn check_same_kind(
    tx: &mut Tx<'_>,
    path: &StorePath,
    target: &Target,
    field: &'static str,
) -> Result<()> {
    match target {
        Target::File(_) => {
            let old = resolve_for_write(tx, path, field)?;
            check_not_folder(tx, path, old.as_ref(), field)
        }
        Target::Folder(_) => check_folder_fits(tx, path, field),
    }
}

/// Refuses a folder at a path where a file is.
///
/// # Errors
/// `AlreadyExists` if the path or a parent of it is a file.
pub fn check_folder_fits(tx: &mut Tx<'_>, path: &StorePath, field: &'static str) -> Result<()> {
    match resolve_for_write(tx, path, field)? {
        Some(Target::File(_)) => {
            let message = format!("\"{path}\" is a file, and a folder would replace it");
            Err(other_kind(path, &message, field))
        }
        Some(Target::Folder(_)) | None => Ok(()),
    }
}
