//! Where things go that a command line names.
//!
//! A path that ends in a separator is a folder, and what goes there goes into it, under its own name. So
//! do several things, which need a folder.

use std::{
    collections::HashSet,
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

/// A path in the store without what the store drops at its ends; empty for the root.
pub(super) fn trimmed(path: &str) -> &str {
    path.trim_matches([' ', '/', '\\'])
}

/// The last name of a path in the store; none for the root.
pub(super) fn own_name(path: &str) -> Option<&str> {
    trimmed(path).rsplit(['/', '\\']).next().filter(|name| !name.is_empty())
}

/// Whether a path on this machine can only be that of a folder: it ends in `/`, `.` or `..`.
pub(super) fn is_local_folder(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let last = path.components().next_back();
    text.ends_with(b"/") || text.ends_with(b"/.") || !matches!(last, Some(Component::Normal(_)))
}

/// Where each source goes: to `destination`, or into it under its own name.
///
/// # Errors
/// [`Failure::Said`] where several go to what is no folder, or two to one place.
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

/// The own names of several sources, given with them, that go into one folder.
///
/// # Errors
/// [`Failure::Said`] where one has none, or two have the same.
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

/// Sees that several things can go to a path.
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
    fn a_path_on_this_machine_can_say_that_it_is_a_folder() {
        for folder in ["a/", "a/.", ".", "..", "../..", "/"] {
            assert!(is_local_folder(Path::new(folder)), "{folder}");
        }
        for other in ["a", "./a", "a/b", "../a", ".a"] {
            assert!(!is_local_folder(Path::new(other)), "{other}");
        }
    }
}
