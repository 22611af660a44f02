//! The destinations of the sources on a command line.
//!
//! A destination that ends in a separator is a folder, and the source goes into it under its own name. Several
//! sources always go into a folder.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fmt::Display,
    path::{Component, Path},
};

use crate::{
    cli::Failure,
    client::{Client, path::join},
    error::Kind,
    wire::v1::EntryKind,
};

/// Whether a path in the store ends in a separator.
pub(super) fn ends_as_folder(path: &str) -> bool {
    path.trim_matches(' ').ends_with(['/', '\\'])
}

/// A path in the store without the spaces and separators at its ends, which the store ignores; empty for the root.
pub(super) fn trimmed(path: &str) -> &str {
    path.trim_matches([' ', '/', '\\'])
}

/// The last name of a path in the store; `None` for the root.
pub(super) fn own_name(path: &str) -> Option<&str> {
    trimmed(path).rsplit(['/', '\\']).next().filter(|name| !name.is_empty())
}

/// Whether a local path can only be that of a folder: it is empty, or ends in `/`, `.` or `..`.
pub(super) fn is_local_folder(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let last = path.components().next_back();
    text.ends_with(b"/") || text.ends_with(b"/.") || !matches!(last, Some(Component::Normal(_)))
}

/// Whether a local path is that of a package: its name ends in `.zip` or `.sfpkg`.
pub(super) fn is_package(path: &Path) -> bool {
    let is_one = |end: &OsStr| end.eq_ignore_ascii_case("zip") || end.eq_ignore_ascii_case("sfpkg");
    !is_local_folder(path) && path.extension().is_some_and(is_one)
}

/// The path in the store for each source: `destination`, or a path in it under the source's own name. Each source has
/// its text for messages and its own name.
///
/// # Errors
/// [`Failure::Said`] if there are several sources and `destination` is no folder, or two sources have the same name, or
/// one has no name; the errors of `Stat`.
pub(super) async fn destinations(
    client: &Client,
    sources: &[(String, Option<&str>)],
    destination: &str,
) -> Result<Vec<String>, Failure> {
    let [_] = sources else {
        check_folder(client, destination).await?;
        let names = names(sources)?;
        return Ok(names.into_iter().map(|name| join(trimmed(destination), name)).collect());
    };
    let name = sources.first().and_then(|(_, name)| *name);
    let into = name.filter(|_| ends_as_folder(destination));
    Ok(vec![into.map_or_else(|| destination.to_owned(), |name| join(trimmed(destination), name))])
}

/// The own names of several sources that go into one folder.
///
/// # Errors
/// [`Failure::Said`] if a source has no name, or two have the same name.
pub(super) fn names<'a>(
    sources: &[(impl Display, Option<&'a str>)],
) -> Result<Vec<&'a str>, Failure> {
    let mut seen = HashSet::new();
    let names = sources.iter().map(|(source, name)| {
        let name =
            name.ok_or_else(|| Failure::Said(format!("{source} has no name; give it alone")))?;
        if !seen.insert(name) {
            let message = format!("two of the sources have the name {name}; nothing is done");
            return Err(Failure::Said(message));
        }
        Ok(name)
    });
    names.collect()
}

/// Checks that several sources can go into a path: it ends in a separator, or is the root or an existing folder.
async fn check_folder(client: &Client, path: &str) -> Result<(), Failure> {
    if ends_as_folder(path) || trimmed(path).is_empty() {
        return Ok(());
    }
    let kind = match client.stat(path).await {
        Ok(found) => found.entry.map(|entry| entry.kind()),
        Err(error) if error.kind() == Some(Kind::PathNotFound) => None,
        Err(error) => return Err(error.into()),
    };
    if kind == Some(EntryKind::Folder) {
        return Ok(());
    }
    let message = format!("{path} is no folder, into which several can go; {path}/ makes one");
    Err(Failure::Said(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_store_has_an_end_and_a_name() {
        for (path, is_folder, name) in [
            ("a/b", false, Some("b")),
            ("a/b/", true, Some("b")),
            (r"a\b\ ", true, Some("b")),
            ("a", false, Some("a")),
            ("/", true, None),
            ("", false, None),
        ] {
            assert_eq!((ends_as_folder(path), own_name(path)), (is_folder, name), "{path}");
        }
    }

    #[test]
    fn a_package_is_known_by_its_name() {
        for (path, is_one) in [
            ("a.zip", true),
            ("a/b.SfPkg", true),
            ("a.zip/", false),
            ("a.zip/.", false),
            (".zip", false),
            ("zip", false),
            ("a.zip.b", false),
        ] {
            assert_eq!(is_package(Path::new(path)), is_one, "{path}");
        }
    }

    #[test]
    fn a_path_on_this_machine_can_say_that_it_is_a_folder() {
        for folder in ["a/", "a/.", ".", "..", "../..", "/"] {
            assert!(is_local_folder(Path::new(folder)), "{folder}");
        }
        for other in ["a", "./a", "a/b", "../a", ".a"] {
            assert!(!is_local_folder(Path::new(other)), "{other}");
        }
    }
}
