//! The path of a file or folder in the store.
//!
//! **Invariants** of a [`StorePath`]: no empty name; no name `.`, `..` or `$`; no control character and none
//! of `" < > |`; no name that ends in a space; names, whole length and depth within the bounds of
//! [`crate::limits`]; the parse of its text is the same path. `:`, `*` and `?` are legal, since packages
//! built on Linux contain them. Other modules use the methods, and hardly ever the text of a path.

use std::fmt;

use crate::{
    error::{Error, Kind, Result},
    limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX},
};

/// The name of the file that marks a folder as complete (reference, section 3.2).
pub const MARK_FILE: &str = "_.dir";

/// The folded form of a name (lower case), for case-insensitive comparison and the order of listings.
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// A path relative to the root of the store; the root itself is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(String);

impl StorePath {
    /// The root.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Parses the path of a file or folder below the root.
    ///
    /// `/` and `\` are separators; leading, trailing and repeated ones are dropped, as are spaces at both ends
    /// of the path. A name that ends in a space is refused: as the last name of a path it would lose the space.
    /// `field` names the argument in an error.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is empty or has a forbidden name or character, `PathTooLong`
    /// beyond the bounds.
    pub fn parse(text: &str, field: &'static str) -> Result<Self> {
        let path = Self::parse_or_root(text, field)?;
        if path.is_root() {
            return Err(refused(text, field, "names nothing below the root; give a path"));
        }
        Ok(path)
    }

    /// Parses the path of a file or folder, or the root.
    ///
    /// # Errors
    /// Those of [`StorePath::parse`], except that an empty path is the root.
    pub fn parse_or_root(text: &str, field: &'static str) -> Result<Self> {
        if text.len() > PATH_BYTES_MAX {
            let message =
                format!("{field} has {} bytes; a path has at most {PATH_BYTES_MAX}", text.len());
            return Err(Error::new(Kind::PathTooLong, message).field(field));
        }
        let mut path = String::with_capacity(text.len());
        let mut depth = 0;
        let trimmed = text.trim_matches([' ', '/', '\\']);
        for name in trimmed.split(['/', '\\']).filter(|name| !name.is_empty()) {
            check_name(text, name, field)?;
            depth += 1;
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name);
        }
        if depth > PATH_DEPTH_MAX {
            let message = format!(
                "{field} \"{text}\" has {depth} names; a path has at most {PATH_DEPTH_MAX}"
            );
            return Err(Error::new(Kind::PathTooLong, message).field(field).with("path", text));
        }
        Ok(Self(path))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path, its names joined by `/`; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the root down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The names of the parent folders, and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(Vec<&str>, &str)> {
        let mut names: Vec<&str> = self.names().collect();
        let last = names.pop()?;
        Some((names, last))
    }

    /// The number of names.
    pub fn depth(&self) -> usize {
        self.names().count()
    }

    /// The path of an entry of this folder. The name is not checked.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.is_root() { Self(name.to_owned()) } else { Self(format!("{}/{name}", self.0)) }
    }

    /// Whether this path is below `other`. Compares whole names; a path is not below itself.
    pub fn is_below(&self, other: &Self) -> bool {
        other.is_root() && !self.is_root()
            || self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether this is a top-level folder that upstream reserves. Compares the whole path without case, as
    /// upstream does (reference, section 5).
    pub fn is_reserved(&self) -> bool {
        ["store", "windowsfabricstore"].contains(&self.0.to_ascii_lowercase().as_str())
    }
}

fn check_name(path: &str, name: &str, field: &'static str) -> Result<()> {
    if matches!(name, "." | ".." | "$") {
        return Err(refused(path, field, &format!("has the name \"{name}\"; leave it out")));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control() || matches!(c, '"' | '<' | '>' | '|')) {
        return Err(refused(path, field, &format!("has the character {bad:?}; leave it out")));
    }
    if name.ends_with(' ') {
        let why = format!("has the name \"{name}\", which ends in a space; leave the space out");
        return Err(refused(path, field, &why));
    }
    if name.len() > NAME_BYTES_MAX {
        let message = format!(
            "{field} has a name of {} bytes; a name has at most {NAME_BYTES_MAX}",
            name.len()
        );
        return Err(Error::new(Kind::PathTooLong, message).field(field));
    }
    Ok(())
}

fn refused(path: &str, field: &'static str, why: &str) -> Error {
    // Control characters of the input are escaped, since the text may reach a terminal or a log.
    let shown: String = path
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    Error::invalid(field, format!("{field} \"{shown}\" {why}")).with("path", shown)
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: Result<&str, Kind>) {
        let found = StorePath::parse(text, "path");
        match (found, expect) {
            (Ok(path), Ok(expect)) => assert_eq!(path.as_str(), expect, "{text:?}"),
            (Err(error), Err(kind)) => {
                assert_eq!(error.kind(), kind, "{text:?}");
                assert_eq!(error.violated_field(), Some("path"));
            }
            (found, expect) => panic!("{text:?}: {found:?}, not {expect:?}"),
        }
    }

    #[test]
    fn both_separators_separate_and_surplus_ones_are_dropped() {
        check("a", Ok("a"));
        check(r"\a\\b//c/", Ok("a/b/c"));
        check("  a/b  ", Ok("a/b"));
        check(r" / a/b \ /", Ok("a/b"));
        check("a b/ c", Ok("a b/ c"));
        check("a:b*?/ü", Ok("a:b*?/ü"));
        check("$a/a$", Ok("$a/a$"));
        check("...", Ok("..."));
    }

    #[test]
    fn what_no_path_may_hold_is_refused() {
        for text in [
            "", " ", "/", r"\ ", "/ / ", "a /b", "a/ /b", "a/../b", ".", r"..\a", "a/$/b", "$",
            "a\0b", "a\tb", "a\u{7f}",
        ] {
            check(text, Err(Kind::InvalidArgument));
        }
        for bad in ['"', '<', '>', '|', '\u{85}'] {
            check(&format!("a{bad}b"), Err(Kind::InvalidArgument));
        }
    }

    #[test]
    fn bounds_are_exact() {
        check(&"n".repeat(NAME_BYTES_MAX), Ok(&"n".repeat(NAME_BYTES_MAX)));
        check(&"n".repeat(NAME_BYTES_MAX + 1), Err(Kind::PathTooLong));
        let deep = vec!["d"; PATH_DEPTH_MAX].join("/");
        check(&deep, Ok(&deep));
        check(&format!("{deep}/d"), Err(Kind::PathTooLong));
        check(&"a/".repeat(PATH_BYTES_MAX), Err(Kind::PathTooLong));
    }

    #[test]
    fn below_is_judged_by_names() {
        let path = |text| StorePath::parse_or_root(text, "path").unwrap();
        assert!(path("a/b").is_below(&path("a")));
        assert!(!path("ab").is_below(&path("a")));
        assert!(!path("a").is_below(&path("a")));
        assert!(path("a").is_below(&StorePath::root()));
        assert!(!StorePath::root().is_below(&StorePath::root()));
    }

    proptest! {
        #[test]
        fn a_parsed_path_parses_to_itself(text in ".{0,40}|[ab/ \\\\]{0,12}") {
            if let Ok(path) = StorePath::parse(&text, "path") {
                prop_assert_eq!(StorePath::parse(path.as_str(), "path").ok(), Some(path));
            }
        }
    }
}
