//! What one caller may do: the sum of its grants.

use std::fmt;

use super::{Pattern, Role, shown};
use crate::{limits::GRANTS_MAX, model::StorePath};

/// Roles, each with the paths that it is for. None at all allows nothing.
///
/// Every question looks at the pairs one by one; who has many pays for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(Role, Pattern)>);

impl Rights {
    /// The sum of these pairs; their order and their number are kept.
    pub const fn new(pairs: Vec<(Role, Pattern)>) -> Self {
        Self(pairs)
    }

    /// The rights of an admin of the whole store.
    pub fn everything() -> Self {
        Self(vec![(Role::Admin, Pattern::root())])
    }

    /// Parses the text that [`Rights`] is displayed as: for each pair a line with the role, a space and the
    /// pattern. An empty text is no rights.
    ///
    /// # Errors
    /// The reason, with the number of the line, for a line that is no such pair, and for more than
    /// [`GRANTS_MAX`] lines.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pairs = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if number > GRANTS_MAX {
                return Err(format!("line {number}: rights have at most {GRANTS_MAX} lines"));
            }
            pairs.push(parse_pair(line).map_err(|reason| format!("line {number}: {reason}"))?);
        }
        Ok(Self(pairs))
    }

    /// Whether the caller has this role, or one that includes it, at `path`.
    pub fn may(&self, role: Role, path: &StorePath) -> bool {
        self.at_least(role).any(|pattern| pattern.covers(path))
    }

    /// Whether the caller has no rights at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the caller may read `folder` or something below it. Without the role of a reader at the folder
    /// itself, it may see only the names that [lead](Rights::leads) to what it may read.
    pub fn may_see(&self, folder: &StorePath) -> bool {
        self.at_least(Role::Reader)
            .any(|pattern| pattern.covers(folder) || pattern.is_above(folder))
    }

    /// Whether the entry `name` of a folder above what the caller may read lies on the way there, or may be
    /// read itself. Whether the folder may be read as a whole is the question of [`Rights::may`].
    pub fn leads(&self, folder: &StorePath, name: &str) -> bool {
        self.at_least(Role::Reader).any(|pattern| pattern.leads(folder, name))
    }

    /// Whether `other` allows all that these rights allow. Each pair is compared with each pair of `other`: one
    /// of them must have the same or a higher role, and a pattern that covers all of it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.iter()
            .all(|(role, pattern)| other.at_least(*role).any(|wider| pattern.is_within(wider)))
    }

    /// The rights of another role at the same paths.
    #[must_use]
    pub fn as_role(&self, role: Role) -> Self {
        Self(self.iter().map(|(_, pattern)| (role, pattern.clone())).collect())
    }

    /// The pairs, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Role, Pattern)> {
        self.0.iter()
    }

    /// The patterns of this role and of those that include it.
    fn at_least(&self, role: Role) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(move |(has, _)| *has >= role).map(|(_, pattern)| pattern)
    }
}

/// Parses one line of the text of rights. The pattern may contain spaces.
fn parse_pair(line: &str) -> Result<(Role, Pattern), String> {
    let Some((role, pattern)) = line.split_once(' ') else {
        return Err(format!(
            "\"{}\" is no role and path; write both, such as \"reader /\"",
            shown(line)
        ));
    };
    Ok((Role::parse(role)?, Pattern::parse(pattern)?))
}

impl fmt::Display for Rights {
    /// Writes the text that [`Rights::parse`] reads as the same rights, if they are no more than it accepts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line_end = "";
        for (role, pattern) in self.iter() {
            write!(f, "{line_end}{role} {pattern}")?;
            line_end = "\n";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn rights(text: &str) -> Rights {
        Rights::parse(text).expect(text)
    }

    fn path(text: &str) -> StorePath {
        StorePath::parse_or_root(text, "path").expect(text)
    }

    #[test]
    fn a_role_includes_the_ones_before_it_at_its_paths() {
        let some = rights("reader Store/Base\nwriter CalcApp*\nmonitor x");
        for (role, at, allowed) in [
            (Role::Reader, "Store/Base/x", true),
            (Role::Monitor, "Store/Base", true),
            (Role::Writer, "Store/Base", false),
            (Role::Reader, "Store", false),
            (Role::Reader, "CalcApp1", true),
            (Role::Writer, "CalcApp1/x", true),
            (Role::Admin, "CalcApp1", false),
            (Role::Monitor, "x", true),
            (Role::Reader, "x", false),
            (Role::Monitor, "/", false),
        ] {
            assert_eq!(some.may(role, &path(at)), allowed, "{role} {at}");
            assert!(Rights::everything().may(role, &path(at)));
            assert!(!Rights::default().may(role, &path(at)));
        }
    }

    #[test]
    fn a_folder_above_what_may_be_read_is_seen_in_part() {
        let some = rights("reader Store/Base\nwriter CalcApp*\nmonitor x/y");
        for (folder, seen, leading, not) in [
            ("/", true, vec!["Store", "CalcApp", "CalcApp1"], vec!["x", "Calc", "Base"]),
            ("Store", true, vec!["Base"], vec!["Base2", "CalcApp1"]),
            ("Store/Base", true, vec![], vec!["a"]),
            ("Store/Base/a", true, vec![], vec!["b"]),
            ("CalcApp1", true, vec![], vec!["a"]),
            ("x", false, vec![], vec!["y"]),
            ("x/y", false, vec![], vec!["z"]),
            ("Store/Base2", false, vec![], vec!["Base"]),
        ] {
            assert_eq!(some.may_see(&path(folder)), seen, "{folder}");
            assert!(leading.iter().all(|name| some.leads(&path(folder), name)), "{folder}");
            assert!(!not.iter().any(|name| some.leads(&path(folder), name)), "{folder}");
        }
        assert!(!Rights::default().may_see(&StorePath::root()));
    }

    #[test]
    fn rights_are_within_wider_ones() {
        for (inner, outer, within) in [
            ("", "", true),
            ("", "reader a", true),
            ("reader a", "", false),
            ("reader a", "reader a", true),
            ("reader a/b", "writer a*", true),
            ("writer a", "reader /", false),
            ("writer a\nreader b/c", "admin a\nreader b", true),
            ("writer a\nreader c", "admin a\nreader b", false),
            // Both pairs together would do, but each is compared alone.
            ("reader *", "reader a*\nreader b*", false),
            ("admin *", "admin /", true),
            ("admin /", "admin *", false),
        ] {
            assert_eq!(rights(inner).is_within(&rights(outer)), within, "{inner:?} {outer:?}");
            assert!(rights(inner).is_within(&Rights::everything()));
        }
    }

    #[test]
    fn what_are_no_rights_is_refused_with_the_line() {
        let no_pair = "is no role and path; write both, such as \"reader /\"";
        for (text, reason) in [
            ("\n", format!("line 1: \"\" {no_pair}")),
            ("reader a\nwriter", format!("line 2: \"writer\" {no_pair}")),
            (
                "owner a",
                "line 1: role \"owner\" is unknown; the roles are monitor, reader, writer, admin"
                    .to_owned(),
            ),
            ("reader ", "line 1: path \"\" names nothing; the root is \"/\"".to_owned()),
        ] {
            assert_eq!(Rights::parse(text), Err(reason), "{text:?}");
        }
        let most = vec!["reader a"; GRANTS_MAX].join("\n");
        assert_eq!(rights(&most).iter().len(), GRANTS_MAX);
        let reason = "line 1001: rights have at most 1000 lines".to_owned();
        assert_eq!(Rights::parse(&format!("{most}\nreader a")), Err(reason));
    }

    #[test]
    fn the_text_of_rights_is_a_line_for_each_pair() {
        let text = "admin /\nwriter My App*\nreader a/ b";
        assert_eq!(rights(text).to_string(), text);
        assert_eq!(Rights::default().to_string(), "");
        assert_eq!(Rights::everything().to_string(), "admin /");
    }

    proptest! {
        #[test]
        fn the_text_of_rights_parses_to_them(
            pairs in prop::collection::vec((select(Role::ALL.to_vec()), r".{1,12}\*?|[ab/ ]{1,5}\*?"), 0..8),
        ) {
            let pairs = pairs
                .into_iter()
                .filter_map(|(role, text)| Some((role, Pattern::parse(&text).ok()?)));
            let rights = Rights::new(pairs.collect());
            prop_assert_eq!(Rights::parse(&rights.to_string()), Ok(rights));
        }
    }
}
