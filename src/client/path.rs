//! Paths in the store and local paths, and conversions between them.
//!
//! **Invariants:** a name that the store would refuse, or read as another path, is refused before anything is sent. The
//! local path of a downloaded entry is always below the target folder, even if the server is hostile.

use std::path::{Component, Path, PathBuf};

use crate::{
    client::error::{Error, Result},
    limits,
};

/// The name of the file that marks a folder as complete.
pub const MARK: &str = "_.dir";

/// Joins a folder and a name or path below it; the empty folder is the root.
pub fn join(folder: &str, name: &str) -> String {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => folder.to_owned(),
        (false, false) => format!("{folder}/{name}"),
    }
}

/// The last name of a path.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name of a local file or folder in the store.
///
/// # Errors
/// [`Error::NotUploadable`] if the store refuses the name.
pub fn validate_name(local: &Path) -> Result<&str> {
    let unfit = |why: String| Error::NotUploadable { path: local.to_owned(), why };
    let name = local.file_name().unwrap_or(local.as_os_str());
    let name = name.to_str().ok_or_else(|| unfit("its name is not UTF-8; rename it".to_owned()))?;
    unfit_name(name).map_or(Ok(name), |why| Err(unfit(format!("its name {why}; rename it"))))
}

/// Why a name cannot be the name of a file in the store, as the end of a sentence; `None` if it can.
pub fn unfit_name(name: &str) -> Option<String> {
    let is_bad = |c: &char| c.is_control() || matches!(c, '/' | '\\' | '"' | '<' | '>' | '|');
    if let Some(found) = name.chars().find(is_bad) {
        return Some(format!("contains {found:?}, which the store refuses"));
    }
    if matches!(name, "" | "." | ".." | "$") {
        return Some("is reserved".to_owned());
    }
    if name.trim_matches(' ') != name {
        return Some("begins or ends with a space, which the store drops".to_owned());
    }
    (name.len() > limits::NAME_BYTES_MAX)
        .then(|| format!("is longer than {} bytes", limits::NAME_BYTES_MAX))
}

/// The path of an entry relative to a folder above it.
///
/// # Errors
/// [`Error::Answer`] if the entry is not below the folder.
pub(super) fn relative<'a>(folder: &str, entry: &'a str) -> Result<&'a str> {
    let rest = if folder.is_empty() {
        Some(entry)
    } else {
        entry.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'))
    };
    rest.filter(|rest| !rest.is_empty())
        .ok_or_else(|| Error::Answer(format!("{entry:?} is not below {folder:?}")))
}

/// The local form of a relative path in the store, for a target below a local folder.
///
/// # Errors
/// [`Error::Answer`] if the path would lead out of the folder, or is no local path.
pub fn target(relative: &str) -> Result<PathBuf> {
    let mut target = PathBuf::new();
    for segment in relative.split('/') {
        let mut components = Path::new(segment).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if name == segment && !segment.contains('\0') => {
                target.push(name);
            }
            _ => return Err(Error::Answer(format!("{relative:?} leads out of its folder"))),
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_below_a_folder() {
        for (folder, name, path) in
            [("a/b", "c", "a/b/c"), ("", "c", "c"), ("a", "", "a"), ("", "", "")]
        {
            assert_eq!(join(folder, name), path);
        }
        assert_eq!(name("a/b"), "b");
        assert_eq!(name("b"), "b");
    }

    #[test]
    fn a_name_that_would_change_is_refused() {
        for fine in ["a", "a b", "ä:*?.txt", "_.dir", "$x"] {
            assert_eq!(validate_name(&Path::new("/tmp").join(fine)).expect("fit"), fine);
        }
        for (unfit, says) in [
            (r"a\b", "contains '\\\\'"),
            ("a\tb", "contains '\\t'"),
            ("a|b", "contains '|'"),
            ("$", "reserved"),
            ("a ", "space"),
            (" a", "space"),
        ] {
            let error = validate_name(&Path::new("/tmp").join(unfit)).expect_err(unfit).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf_8_is_refused() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        let error =
            validate_name(Path::new(OsStr::from_bytes(b"/tmp/\xff"))).expect_err("no UTF-8");
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }

    #[test]
    fn an_entry_stays_below_its_folder() {
        assert_eq!(relative("a/b", "a/b/c/d").expect("below"), "c/d");
        assert_eq!(relative("", "c").expect("below"), "c");
        for (folder, entry) in [("a", "ab"), ("a", "a"), ("a", "b/c"), ("", ""), ("a", "a/")] {
            assert!(relative(folder, entry).is_err(), "{folder:?} {entry:?}");
        }
    }

    #[test]
    fn a_target_stays_below_its_folder() {
        assert_eq!(target("a/b").expect("below"), Path::new("a/b"));
        for evil in ["../x", "a/../../x", "/etc/passwd", "a//b", "a/.", ".", "a/", "", "a\0b"] {
            assert!(target(evil).is_err(), "{evil:?}");
        }
    }
}
