//! Conditions on a path: a write happens only if they hold, as the conditional requests of HTTP.

use crate::{
    error::{Error, Kind, Result},
    limits::CONDITION_TAGS_MAX,
    model::{Digest, StorePath},
};

/// The wildcard in a list of entity tags: any file or folder.
const ANY: &str = "*";

/// A list of entity tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any file or folder.
    Any,
    /// A file with one of these entity tags.
    These(Vec<Digest>),
}

impl Tags {
    /// Parses a list of tags, or `*` alone; `None` for an empty list. A tag that no file can have is dropped,
    /// since it never matches. `field` names the argument in an error.
    ///
    /// # Errors
    /// `InvalidArgument` for `*` beside tags, `TooLarge` above [`CONDITION_TAGS_MAX`] of them.
    pub fn parse<T: AsRef<str>>(tags: &[T], field: &'static str) -> Result<Option<Self>> {
        let (has_any, count) = (tags.iter().any(|tag| tag.as_ref() == ANY), tags.len());
        if has_any && count > 1 {
            let message = format!("{field} has '{ANY}' beside other entity tags; give it alone");
            return Err(Error::invalid(field, message));
        }
        if count > CONDITION_TAGS_MAX {
            let message = format!(
                "{field} has {count} entity tags; a condition has at most {CONDITION_TAGS_MAX}"
            );
            return Err(Error::new(Kind::TooLarge, message).field(field));
        }
        if count == 0 {
            return Ok(None);
        }
        // The tags of files are in lower case, and tags are compared case-sensitively.
        let known = |text: &str| text.parse().ok().filter(|tag: &Digest| tag.to_string() == text);
        let these = || tags.iter().filter_map(|tag| known(tag.as_ref())).collect();
        Ok(Some(if has_any { Self::Any } else { Self::These(these()) }))
    }

    /// Whether the list matches what was found.
    fn has(&self, found: &Found) -> bool {
        match (self, found) {
            (_, Found::Nothing) | (Self::These(_), Found::Folder) => false,
            (Self::Any, Found::Folder | Found::File { .. }) => true,
            (Self::These(tags), Found::File { etag, .. }) => {
                etag.is_some_and(|etag| tags.contains(&etag))
            }
        }
    }
}

/// What a write found at its path, as far as conditions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A folder, which has neither an entity tag nor a time.
    Folder,
    /// A file.
    File {
        /// Its entity tag.
        etag: Option<Digest>,
        /// When it was uploaded, in microseconds since 1970.
        modified: i64,
    },
}

/// The conditions of a write. All must hold; a write without conditions always happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The tags match what is at the path.
    pub if_match: Option<Tags>,
    /// The tags do not match what is at the path. Holds if nothing is there.
    pub if_none_match: Option<Tags>,
    /// The file was not uploaded later than this, in microseconds since 1970. Holds if nothing is at the
    /// path, and never for a folder.
    pub if_unmodified_since: Option<i64>,
}

impl Conditions {
    /// Whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Evaluates the conditions on what was found at a path.
    ///
    /// # Errors
    /// `PreconditionFailed`, whose field names the first condition that does not hold.
    pub fn check(&self, path: &StorePath, found: &Found) -> Result<()> {
        let what = || match found {
            Found::Nothing => format!("nothing is at \"{path}\""),
            Found::Folder => format!("\"{path}\" is a folder, which has no entity tag and no time"),
            Found::File { etag: Some(etag), .. } => format!("\"{path}\" has the entity tag {etag}"),
            Found::File { etag: None, .. } => format!("\"{path}\" is a file"),
        };
        let refused = |field: &'static str, what: String| {
            let message = format!("{field} does not hold: {what}; nothing has changed");
            let error = Error::new(Kind::PreconditionFailed, message);
            Err(error.field(field).with("path", path.as_str()))
        };
        if self.if_match.as_ref().is_some_and(|tags| !tags.has(found)) {
            return refused("if_match", what());
        }
        if let Some(since) = self.if_unmodified_since {
            match found {
                Found::File { modified, .. } if *modified > since => {
                    let what = format!("\"{path}\" was uploaded later than that");
                    return refused("if_unmodified_since", what);
                }
                Found::Folder => return refused("if_unmodified_since", what()),
                Found::Nothing | Found::File { .. } => {}
            }
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.has(found)) {
            return refused("if_none_match", what());
        }
        Ok(())
    }

    /// An unambiguous encoding of the conditions, for the fingerprint of a request; empty without conditions.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, tags) in [(b'm', &self.if_match), (b'n', &self.if_none_match)] {
            match tags {
                None => {}
                Some(Tags::Any) => bytes.extend([name, b'*']),
                Some(Tags::These(tags)) => {
                    bytes.extend([name, b'=']);
                    bytes.extend((tags.len() as u64).to_le_bytes());
                    bytes.extend(tags.iter().flat_map(|tag| tag.0));
                }
            }
        }
        if let Some(since) = self.if_unmodified_since {
            bytes.push(b'u');
            bytes.extend(since.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn file(text: &str) -> Found {
        Found::File { etag: Some(tag(text)), modified: 100 }
    }

    fn tags(list: &[&str]) -> Option<Tags> {
        Tags::parse(list, "if_match").unwrap()
    }

    /// The name of the condition that does not hold, if any.
    fn failed(conditions: &Conditions, found: Found) -> Option<&'static str> {
        let path = StorePath::parse("a/f", "path").unwrap();
        let error = conditions.check(&path, &found).err()?;
        assert_eq!(error.kind(), Kind::PreconditionFailed);
        assert!(error.message().contains("\"a/f\""), "{error}");
        error.violated_field()
    }

    #[test]
    fn a_list_has_tags_or_a_star() {
        let a = tag("a").to_string();
        assert_eq!(tags(&[]), None);
        assert_eq!(tags(&["*"]), Some(Tags::Any));
        assert_eq!(tags(&[&a, "x", &a.to_uppercase()]), Some(Tags::These(vec![tag("a")])));
        assert_eq!(tags(&["x", ""]), Some(Tags::These(vec![])));
        let kind = |list: &[&str]| Tags::parse(list, "if_match").unwrap_err().kind();
        assert_eq!(kind(&["*", &a]), Kind::InvalidArgument);
        assert_eq!(kind(&["*", "*"]), Kind::InvalidArgument);
        assert_eq!(kind(&vec!["x"; CONDITION_TAGS_MAX + 1]), Kind::TooLarge);
        assert!(tags(&vec!["x"; CONDITION_TAGS_MAX]).is_some());
    }

    #[test]
    fn a_match_needs_what_it_names() {
        let (a, b) = (tag("a").to_string(), tag("b").to_string());
        let with = |list| Conditions { if_match: tags(list), ..Conditions::default() };
        for (list, found, holds) in [
            (&["*"][..], Found::Nothing, false),
            (&["*"], Found::Folder, true),
            (&["*"], file("a"), true),
            (&[&a], file("a"), true),
            (&[&b, &a], file("a"), true),
            (&[&b], file("a"), false),
            (&["x"], file("a"), false),
            (&[&a], Found::Folder, false),
            (&[&a], Found::Nothing, false),
            (&[&a], Found::File { etag: None, modified: 0 }, false),
        ] {
            let expected = (!holds).then_some("if_match");
            assert_eq!(failed(&with(list), found), expected, "{list:?} {found:?}");
        }
    }

    #[test]
    fn no_match_is_the_contrary() {
        let (a, b) = (tag("a").to_string(), tag("b").to_string());
        let with = |list| Conditions { if_none_match: tags(list), ..Conditions::default() };
        for (list, found, holds) in [
            (&["*"][..], Found::Nothing, true),
            (&["*"], Found::Folder, false),
            (&["*"], file("a"), false),
            (&[&a], file("a"), false),
            (&[&b], file("a"), true),
            (&["x"], file("a"), true),
            (&[&a], Found::Folder, true),
            (&[&a], Found::Nothing, true),
        ] {
            let expected = (!holds).then_some("if_none_match");
            assert_eq!(failed(&with(list), found), expected, "{list:?} {found:?}");
        }
    }

    #[test]
    fn a_time_is_that_of_a_file() {
        let by = |since| Conditions { if_unmodified_since: Some(since), ..Conditions::default() };
        assert_eq!(failed(&by(100), file("a")), None);
        assert_eq!(failed(&by(99), file("a")), Some("if_unmodified_since"));
        assert_eq!(failed(&by(i64::MAX), Found::Folder), Some("if_unmodified_since"));
        assert_eq!(failed(&by(0), Found::Nothing), None);
    }

    #[test]
    fn all_must_hold_and_without_any_everything_does() {
        for found in [Found::Nothing, Found::Folder, file("a")] {
            assert_eq!(failed(&Conditions::default(), found), None);
        }
        let a = tag("a").to_string();
        let both = Conditions {
            if_match: tags(&["*"]),
            if_none_match: tags(&[&a]),
            if_unmodified_since: None,
        };
        assert_eq!(failed(&both, file("a")), Some("if_none_match"));
        assert_eq!(failed(&both, file("b")), None);
        assert_eq!(failed(&both, Found::Nothing), Some("if_match"));
        let old = Conditions { if_unmodified_since: Some(1), ..both };
        assert_eq!(failed(&old, file("b")), Some("if_unmodified_since"));
    }

    #[test]
    fn a_fingerprint_tells_conditions_apart() {
        let (a, b) = (tag("a").to_string(), tag("b").to_string());
        let lists = [&[][..], &["*"], &["x"], &[&a], &[&a, &b]];
        let mut seen = Vec::new();
        for if_match in lists.map(tags) {
            for if_none_match in lists.map(tags) {
                for if_unmodified_since in [None, Some(0), Some(1)] {
                    let (if_match, if_none_match) = (if_match.clone(), if_none_match.clone());
                    let all = Conditions { if_match, if_none_match, if_unmodified_since };
                    assert_eq!(all.fingerprint().is_empty(), all.is_empty());
                    assert!(!seen.contains(&all.fingerprint()), "{all:?}");
                    seen.push(all.fingerprint());
                }
            }
        }
    }
}
