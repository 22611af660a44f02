//! The grants file: who has which role at which paths.
//!
//! ```toml
//! [[grant]]
//! who   = ["anonymous"]
//! role  = "reader"
//! paths = ["CalcApp*", "Store/Base"]
//! ```

use serde::Deserialize;
use toml::Spanned;

use super::{Pattern, Rights, Role, shown, who};
use crate::{
    limits::{GRANT_NAMES_MAX, GRANT_PATHS_MAX, GRANTS_BYTES_MAX, GRANTS_MAX},
    model::StorePath,
};

/// The grants of a grants file. Without a file there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    who: Vec<String>,
    role: Role,
    paths: Vec<Pattern>,
}

/// Why a grants file is refused, and where: its text is one line, `line 3, column 7: reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct GrantsError {
    /// The line of what is wrong, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what is accepted.
    pub reason: String,
}

/// The file as TOML has it. What is judged later keeps its position.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    grant: Vec<Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    who: Values,
    role: Spanned<String>,
    paths: Values,
}

type Values = Spanned<Vec<Spanned<String>>>;

impl Grants {
    /// Parses a grants file as a whole; an empty one has no grants.
    ///
    /// # Errors
    /// The first reason to refuse the file, with its position: it is larger than [`GRANTS_BYTES_MAX`], not
    /// UTF-8 or not TOML; a key is unknown or absent; a name, role or path is not accepted; there are more than
    /// [`GRANTS_MAX`] grants; one has no names or no paths, or more than [`GRANT_NAMES_MAX`] or
    /// [`GRANT_PATHS_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self, GrantsError> {
        if bytes.len() > GRANTS_BYTES_MAX {
            let reason = format!("the file has more than {GRANTS_BYTES_MAX} bytes");
            return Err(GrantsError { line: 1, column: 1, reason });
        }
        let text = utf8(bytes)?;
        // A byte order mark would count as the first column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            // The message may quote the file.
            GrantsError::new(text, start, shown(error.message()))
        })?;
        if let Some(first) = file.grant.get(GRANTS_MAX) {
            let reason = format!("the file has more than {GRANTS_MAX} grants");
            return Err(GrantsError::new(text, first.span().start, reason));
        }
        let grants = file.grant.iter().map(|table| Grant::new(text, table.get_ref()));
        Ok(Self(grants.collect::<Result<_, _>>()?))
    }

    /// The sum of what the grants give to a caller that has these names.
    pub fn rights(&self, names: &[String]) -> Rights {
        let given = self.0.iter().filter(|grant| grant.is_for(names));
        let pairs =
            given.flat_map(|grant| grant.paths.iter().map(|path| (grant.role, path.clone())));
        Rights::new(pairs.collect())
    }

    /// Whether the grants give a role at a path to a caller that has these names.
    pub fn may(&self, names: &[String], role: Role, path: &StorePath) -> bool {
        let is_given = |grant: &&Grant| grant.role >= role && grant.is_for(names);
        self.0.iter().filter(is_given).any(|grant| grant.paths.iter().any(|p| p.covers(path)))
    }

    /// Whether the grants give anything to a caller that has these names.
    pub fn is_any_for(&self, names: &[String]) -> bool {
        self.0.iter().any(|grant| grant.is_for(names))
    }

    /// The first name in the file that begins with one of these texts.
    pub fn first_name(&self, starts: &[&str]) -> Option<&str> {
        let names = self.0.iter().flat_map(|grant| &grant.who).map(String::as_str);
        names.into_iter().find(|name| starts.iter().any(|start| name.starts_with(start)))
    }

    /// Whether there is no grant at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Grant {
    fn new(text: &str, table: &Table) -> Result<Self, GrantsError> {
        let who = values(text, "who", &table.who, GRANT_NAMES_MAX, |name| {
            who::check(name).map(|()| name.to_owned())
        })?;
        let role = Role::parse(table.role.get_ref())
            .map_err(|reason| GrantsError::new(text, table.role.span().start, reason))?;
        let paths = values(text, "paths", &table.paths, GRANT_PATHS_MAX, Pattern::parse)?;
        Ok(Self { who, role, paths })
    }

    /// Whether one of the names is meant by this grant.
    fn is_for(&self, names: &[String]) -> bool {
        self.who.iter().any(|who| who::means(who, names))
    }
}

impl GrantsError {
    /// An error at the byte `start` of the text.
    fn new(text: &str, start: usize, reason: String) -> Self {
        let before = text.get(..text.floor_char_boundary(start)).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.get(line_start..).unwrap_or_default();
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, reason }
    }
}

/// Judges each value of a list of one to `most`; an error has the position of its value, or of the list.
fn values<T>(
    text: &str,
    key: &str,
    list: &Values,
    most: usize,
    judge: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, GrantsError> {
    if list.get_ref().is_empty() {
        let reason = format!("{key} is empty; give at least one");
        return Err(GrantsError::new(text, list.span().start, reason));
    }
    if let Some(first) = list.get_ref().get(most) {
        let reason = format!("{key} has more than {most} values");
        return Err(GrantsError::new(text, first.span().start, reason));
    }
    let judged = list.get_ref().iter().map(|value| {
        judge(value.get_ref()).map_err(|reason| GrantsError::new(text, value.span().start, reason))
    });
    judged.collect()
}

fn utf8(bytes: &[u8]) -> Result<&str, GrantsError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let text = String::from_utf8_lossy(good);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        GrantsError::new(text, text.len(), "the bytes here are not UTF-8".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::ANONYMOUS;

    /// A grant up to its paths.
    const GRANT: &str = "[[grant]]\nwho = [\"anonymous\"]\nrole = \"reader\"\n";

    fn check(text: &str, expect: &str) {
        let error = Grants::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), expect, "{text:?}");
    }

    /// A list of `count` equal values.
    fn list(value: &str, count: usize) -> String {
        format!("[{}]", vec![format!("\"{value}\""); count].join(", "))
    }

    #[test]
    fn a_caller_has_the_sum_of_its_grants() {
        let file = "\
            [[grant]] # for all\n\
            who = ['anonymous', 'anonymous']\n\
            role = 'reader'\n\
            paths = ['CalcApp*', 'Store/Base']\n\
            [[grant]]\r\n\
            who = ['anonymous']\n\
            role = 'writer'\n\
            paths = ['/']\n";
        for text in [file.to_owned(), format!("\u{feff}{file}")] {
            let grants = Grants::parse(text.as_bytes()).expect("grants");
            assert!(!grants.is_empty());
            let rights = grants.rights(&["x".to_owned(), ANONYMOUS.to_owned()]);
            assert_eq!(rights.to_string(), "reader CalcApp*\nreader Store/Base\nwriter /");
            for names in [vec![], vec!["x".to_owned()], vec!["Anonymous".to_owned()]] {
                assert!(grants.rights(&names).is_empty(), "{names:?}");
            }
        }
    }

    #[test]
    fn without_grants_there_are_no_rights() {
        for text in ["", "# none\n", "grant = []"] {
            let grants = Grants::parse(text.as_bytes()).expect(text);
            assert!(grants.is_empty() && grants == Grants::default());
            assert!(grants.rights(&[ANONYMOUS.to_owned()]).is_empty());
        }
    }

    #[test]
    fn what_is_not_accepted_is_refused_at_its_position() {
        let head = "[[grant]]\nwho = ";
        let star = "has a misplaced *; only its last name may have one, at the end";
        let roles = "the roles are monitor, reader, writer, admin";
        for (text, expect) in [
            (
                format!("{head}['anonymous', 'ü', 'anonymous']\nrole = 'reader'\npaths = ['a']"),
                "line 2, column 21: who \"ü\" is unknown; accepted are \"anonymous\", \"cert:cn=NAME\", \"cert:dns=NAME\", \"cert:uri=NAME\" (NAME may end in *) and \"cert:sha256=DIGITS\"".to_owned(),
            ),
            (
                format!("{head}['anonymous*']\nrole = 'reader'\npaths = ['a']"),
                "line 2, column 8: who \"anonymous*\" is unknown; accepted are \"anonymous\", \"cert:cn=NAME\", \"cert:dns=NAME\", \"cert:uri=NAME\" (NAME may end in *) and \"cert:sha256=DIGITS\""
                    .to_owned(),
            ),
            (
                format!("{head}['anonymous']\nrole = 'owner'\npaths = ['a']"),
                format!("line 3, column 8: role \"owner\" is unknown; {roles}"),
            ),
            (
                format!("{GRANT}paths = ['ä', 'b*c']"),
                format!("line 4, column 15: path \"b*c\" {star}"),
            ),
            (
                format!("{GRANT}paths = [\n  'a',\r\n  '..',\n]"),
                "line 6, column 3: path \"..\" has the name \"..\"; leave it out".to_owned(),
            ),
            (
                format!("{GRANT}paths = ['']"),
                "line 4, column 10: path \"\" names nothing; the root is \"/\"".to_owned(),
            ),
            (
                format!("{GRANT}paths = []"),
                "line 4, column 9: paths is empty; give at least one".to_owned(),
            ),
            (
                format!("{head}[]\nrole = 'reader'\npaths = ['a']"),
                "line 2, column 7: who is empty; give at least one".to_owned(),
            ),
        ] {
            check(&text, &expect);
        }
    }

    #[test]
    fn what_is_not_such_a_file_is_refused_at_its_position() {
        let keys = "expected one of `who`, `role`, `paths`";
        for (text, expect) in [
            ("a", "line 1, column 2: key with no value, expected `=`".to_owned()),
            (
                "\u{feff}\n[[grant",
                "line 2, column 8: unclosed array table, expected `]]`".to_owned(),
            ),
            ("[grant]", "line 1, column 1: invalid type: map, expected a sequence".to_owned()),
            (
                "\n[[issuer]]\n",
                "line 2, column 3: unknown field `issuer`, expected `grant`".to_owned(),
            ),
            (
                &format!("{GRANT}paths = ['a']\n\n[[grant]]\nwho = ['anonymous']"),
                "line 6, column 1: missing field `role`".to_owned(),
            ),
            (
                &format!("{GRANT}paths = ['a']\nclaims = {{ ref = 'x' }}"),
                format!("line 5, column 1: unknown field `claims`, {keys}"),
            ),
            (
                &format!("{GRANT}\"a\\n\\u001b\" = 1"),
                format!("line 4, column 1: unknown field `a\\n\\u{{1b}}`, {keys}"),
            ),
            (
                &format!("{GRANT}paths = 'a'"),
                "line 4, column 9: invalid type: string \"a\", expected a sequence".to_owned(),
            ),
            (
                &format!("{GRANT}paths = ['a', 1]"),
                "line 4, column 15: invalid type: integer `1`, expected a string".to_owned(),
            ),
            (&format!("{GRANT}role = 'writer'"), "line 4, column 1: duplicate key".to_owned()),
        ] {
            check(text, &expect);
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused_at_their_position() {
        for (bytes, expect) in [
            (b"\xff".as_slice(), "line 1, column 1: the bytes here are not UTF-8"),
            (b"\n# \xc3\xbc\xc3", "line 2, column 4: the bytes here are not UTF-8"),
            (b"\xef\xbb\xbf# \xff", "line 1, column 3: the bytes here are not UTF-8"),
        ] {
            let error = Grants::parse(bytes).expect_err(expect);
            assert_eq!(error.to_string(), expect);
        }
    }

    #[test]
    fn bounds_are_exact() {
        let grant = |names, paths| {
            let (names, paths) = (list(ANONYMOUS, names), list("a", paths));
            format!("[[grant]]\nwho = {names}\nrole = 'reader'\npaths = {paths}\n")
        };
        let most = grant(GRANT_NAMES_MAX, GRANT_PATHS_MAX);
        assert!(Grants::parse(most.as_bytes()).is_ok());
        check(&grant(GRANT_NAMES_MAX + 1, 1), "line 2, column 1308: who has more than 100 values");
        check(&grant(1, GRANT_PATHS_MAX + 1), "line 4, column 510: paths has more than 100 values");

        let most = grant(1, 1).repeat(GRANTS_MAX);
        assert!(Grants::parse(most.as_bytes()).is_ok());
        let error = "line 4001, column 1: the file has more than 1000 grants";
        check(&format!("{most}{}", grant(1, 1)), error);

        let full = " ".repeat(GRANTS_BYTES_MAX);
        assert!(Grants::parse(full.as_bytes()).is_ok());
        check(&format!("{full} "), "line 1, column 1: the file has more than 1048576 bytes");
    }

    #[test]
    fn an_error_is_one_short_line_whatever_the_file_has() {
        for text in [
            format!("a = {}", "[".repeat(10_000)),
            format!("[{}a]", "a.".repeat(10_000)),
            format!("\"{}\" = 1", "\\n".repeat(10_000)),
            format!("{GRANT}paths = [\"{}*x\"]", "\\u00fc".repeat(500)),
            format!("[[grant]]\nwho = [\"{}\"]\nrole = \"\"\npaths = []", "\\n".repeat(10_000)),
            "=\n".repeat(10_000),
        ] {
            let error = Grants::parse(text.as_bytes()).expect_err("an error").to_string();
            assert!(error.len() < 2000 && !error.contains(char::is_control), "{error:?}");
        }
    }
}
