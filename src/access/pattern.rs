//! The path pattern of a grant.

use std::fmt;

use super::shown;
use crate::model::StorePath;

/// The paths that a grant is for: a file or folder and all below it, or all entries of a folder whose names
/// begin alike, and all below them.
///
/// Its text is a path whose last name may end in one `*`, which stands for any end of that name, the empty one
/// included: `CalcApp*` covers `CalcApp`, `CalcApp1` and `CalcApp1/x`. A last name that is only `*` stands for
/// any name. `/` is the root, so everything. Names are compared with their case, as paths of the store are.
///
/// A name in the store may contain `*`. A pattern cannot name it, but the pattern of a folder above covers it,
/// and so does a pattern that ends in `*` before it: `a*` covers `a*b`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    /// What is covered with all below it, or the folder whose entries are covered.
    path: StorePath,
    /// The start of the names of the entries that are covered; `None` if `path` itself is covered.
    start: Option<String>,
}

impl Pattern {
    /// Parses a pattern by the rules of [`StorePath::parse`] for its names and their bounds; only `/` is the
    /// root.
    ///
    /// # Errors
    /// The reason, which quotes the text and says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = StorePath::parse_or_root(text, "path").map_err(|e| e.message().to_owned())?;
        let Some((mut names, last)) = path.split_last() else {
            // An empty text is more likely a mistake than a grant of everything.
            return if text == "/" {
                Ok(Self::root())
            } else {
                Err(format!("path \"{}\" names nothing; the root is \"/\"", shown(text)))
            };
        };
        let start = last.strip_suffix('*');
        if names.iter().chain([&start.unwrap_or(last)]).any(|name| name.contains('*')) {
            let why = "has a misplaced *; only its last name may have one, at the end";
            return Err(format!("path \"{}\" {why}", shown(text)));
        }
        let start = start.map(str::to_owned);
        if start.is_none() {
            names.push(last);
        }
        let path = names.iter().fold(StorePath::root(), |path, name| path.child(name));
        Ok(Self { path, start })
    }

    /// The pattern of the root, which covers everything.
    pub const fn root() -> Self {
        Self { path: StorePath::root(), start: None }
    }

    /// Whether `path` is one of the paths that the pattern is for, or below one of them.
    pub fn covers(&self, path: &StorePath) -> bool {
        match &self.start {
            None => *path == self.path || path.is_below(&self.path),
            Some(start) => {
                path.is_below(&self.path)
                    && path
                        .names()
                        .nth(self.path.depth())
                        .is_some_and(|name| name.starts_with(start))
            }
        }
    }

    /// Whether `path` is a folder above all that the pattern covers, and not covered itself. The root is above
    /// every pattern but `/`.
    pub fn is_above(&self, path: &StorePath) -> bool {
        self.path.is_below(path) || self.start.is_some() && self.path == *path
    }

    /// Whether `folder` is above what the pattern covers, and its entry `name` lies on the way there or is
    /// covered. In a folder that is covered itself, no name leads anywhere.
    pub fn leads(&self, folder: &StorePath, name: &str) -> bool {
        if !self.is_above(folder) {
            return false;
        }
        match (self.path.names().nth(folder.depth()), &self.start) {
            (Some(next), _) => name == next,
            (None, Some(start)) => name.starts_with(start),
            (None, None) => false,
        }
    }

    /// Whether `other` covers everything that this pattern covers.
    pub fn is_within(&self, other: &Self) -> bool {
        match (&self.start, &other.start) {
            (Some(start), Some(wider)) if self.path == other.path => start.starts_with(wider),
            // No pattern of another folder covers all names with the same start, unless it covers the folder.
            _ => other.covers(&self.path),
        }
    }
}

impl fmt::Display for Pattern {
    /// Writes the text that [`Pattern::parse`] reads as the same pattern.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            None if self.path.is_root() => f.write_str("/"),
            None => write!(f, "{}", self.path),
            Some(start) => write!(f, "{}*", self.path.child(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;
    use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    fn path(text: &str) -> StorePath {
        StorePath::parse_or_root(text, "path").expect(text)
    }

    #[test]
    fn a_pattern_is_written_in_one_way() {
        for (text, shown) in [
            ("/", "/"),
            ("*", "*"),
            ("/*", "*"),
            ("a", "a"),
            (" /a/b/ ", "a/b"),
            (r"a\\b*\", "a/b*"),
            ("a/*", "a/*"),
            ("My App *", "My App *"),
            ("a/ *", "a/ *"),
            (".*", ".*"),
            ("..*", "..*"),
            ("$*", "$*"),
            ("ü*", "ü*"),
        ] {
            assert_eq!(pattern(text).to_string(), shown, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        let star = "has a misplaced *; only its last name may have one, at the end";
        for (text, reason) in [
            ("", r#"path "" names nothing; the root is "/""#.to_owned()),
            (" ", r#"path " " names nothing; the root is "/""#.to_owned()),
            ("//", r#"path "//" names nothing; the root is "/""#.to_owned()),
            ("**", format!(r#"path "**" {star}"#)),
            ("a**", format!(r#"path "a**" {star}"#)),
            ("a*b", format!(r#"path "a*b" {star}"#)),
            ("*a", format!(r#"path "*a" {star}"#)),
            ("*/a", format!(r#"path "*/a" {star}"#)),
            ("a*/b*", format!(r#"path "a*/b*" {star}"#)),
            ("a/../b", r#"path "a/../b" has the name ".."; leave it out"#.to_owned()),
            ("a\nb", r#"path "a\nb" has the character '\n'; leave it out"#.to_owned()),
            ("a|", r#"path "a|" has the character '|'; leave it out"#.to_owned()),
        ] {
            assert_eq!(Pattern::parse(text), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn the_bounds_are_those_of_paths() {
        assert!(Pattern::parse(&"n".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(Pattern::parse(&"n".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(Pattern::parse(&vec!["d"; PATH_DEPTH_MAX].join("/")).is_ok());
        assert!(Pattern::parse(&vec!["d"; PATH_DEPTH_MAX + 1].join("/")).is_err());
        assert!(Pattern::parse(&"a/".repeat(PATH_BYTES_MAX)).is_err());
    }

    #[test]
    fn a_pattern_covers_by_whole_names() {
        for (text, covered, not) in [
            ("/", vec!["/", "a", "a/b"], vec![]),
            ("*", vec!["a", "a/b"], vec!["/"]),
            (
                "CalcApp*",
                vec!["CalcApp", "CalcApp1", "CalcApp1/x", "CalcApp/x/y", "CalcApp*"],
                vec!["/", "calcapp1", "Calc", "x/CalcApp1"],
            ),
            (
                "Store/Base",
                vec!["Store/Base", "Store/Base/x", "Store/Base/x/y"],
                vec!["/", "Store", "Store/Base2", "Store/base", "x/Store/Base", "Base"],
            ),
            ("a/b*", vec!["a/b", "a/bc", "a/bc/d"], vec!["a", "a/c", "ab", "a/c/b", "ab/b"]),
            ("a/*", vec!["a/b", "a/b/c"], vec!["/", "a", "ab", "b/a"]),
            ("ü*", vec!["ü", "üa"], vec!["u", "Ü"]),
        ] {
            for one in covered {
                assert!(pattern(text).covers(&path(one)), "{text} covers {one}");
            }
            for one in not {
                assert!(!pattern(text).covers(&path(one)), "{text} does not cover {one}");
            }
        }
    }

    #[test]
    fn names_lead_to_what_is_covered() {
        for (text, folder, leading, not) in [
            ("/", "/", vec![], vec!["a"]),
            ("*", "/", vec!["a", "b"], vec![]),
            ("*", "a", vec![], vec!["b"]),
            ("Calc*", "/", vec!["Calc", "Calc1"], vec!["calc", "Cal", "x"]),
            ("Calc*", "Calc1", vec![], vec!["Calc"]),
            ("a/b/c", "/", vec!["a"], vec!["b", "ab", "A"]),
            ("a/b/c", "a", vec!["b"], vec!["a", "c"]),
            ("a/b/c", "a/b", vec!["c"], vec!["cd"]),
            ("a/b/c", "a/b/c", vec![], vec!["d"]),
            ("a/b/c", "a/c", vec![], vec!["c", "b"]),
            ("a/b*", "a", vec!["b", "bc"], vec!["a"]),
        ] {
            for name in leading {
                assert!(pattern(text).leads(&path(folder), name), "{text}: {folder}, {name}");
            }
            for name in not {
                assert!(!pattern(text).leads(&path(folder), name), "{text}: {folder}, {name}");
            }
        }
    }

    /// Every path of up to three names. For each pattern of [`small`] they have a path that it covers and a
    /// narrower one does not.
    fn paths() -> Vec<StorePath> {
        let names = ["a", "b", "ab", "aa", "bb", "abc", "c"];
        let mut paths = vec![StorePath::root()];
        let mut from = 0;
        for _ in 0..3 {
            let to = paths.len();
            for at in from..to {
                let children: Vec<_> = names.iter().map(|name| paths[at].child(name)).collect();
                paths.extend(children);
            }
            from = to;
        }
        paths
    }

    fn small() -> impl Strategy<Value = Pattern> {
        let name = || select(vec!["a", "b", "ab"]);
        let last = select(vec!["", "a", "b", "ab", "*", "a*", "b*", "ab*"]);
        (prop::option::of(name()), last).prop_map(|(folder, last)| match (folder, last) {
            (None, "") => Pattern::root(),
            (None, last) => pattern(last),
            (Some(folder), last) => pattern(&format!("{folder}/{last}")),
        })
    }

    proptest! {
        #[test]
        fn the_text_of_a_pattern_parses_to_it(text in r".{0,30}\*?|[ab*/ \\]{0,8}\*?") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
            }
        }

        #[test]
        fn within_means_that_all_is_covered(inner in small(), outer in small()) {
            let all = paths().iter().all(|path| !inner.covers(path) || outer.covers(path));
            prop_assert_eq!(inner.is_within(&outer), all, "{} {}", inner, outer);
        }

        #[test]
        fn above_and_the_way_agree_with_what_is_covered(pattern in small()) {
            let paths = paths();
            for folder in paths.iter().filter(|path| path.depth() < 3) {
                let below = paths.iter().any(|path| path.is_below(folder) && pattern.covers(path));
                let above = below && !pattern.covers(folder);
                prop_assert_eq!(pattern.is_above(folder), above, "{} {}", pattern, folder);
                for name in ["a", "b", "ab", "abc", "c"] {
                    let child = folder.child(name);
                    let way = above && (pattern.covers(&child) || pattern.is_above(&child));
                    prop_assert_eq!(pattern.leads(folder, name), way, "{} {}", pattern, child);
                }
            }
        }
    }
}
