//! The names of `--skip`: one that cannot be the name of a file is an error of the command line.

use crate::client::path::unfit_name;

/// Returns why a `--skip` name is refused; `None` if it is accepted. Without `literal`, `*` and `?` are refused,
/// because the user may mean a pattern.
pub(super) fn unfit(name: &str, literal: bool) -> Option<String> {
    if name.is_empty() {
        return Some("--skip has an empty name; leave it out".to_owned());
    }
    if name.contains(['/', '\\']) {
        let why = "has a separator; names are compared at every depth, so give the last name alone";
        return Some(format!("--skip {name:?} {why}"));
    }
    if !literal && name.contains(['*', '?']) {
        let why =
            "is compared as a whole name, not as a pattern; --literal says that it is meant so";
        return Some(format!("--skip {name:?} {why}"));
    }
    unfit_name(name).map(|why| format!("--skip {name:?} is the name of no file: it {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn only_what_can_be_a_name_is_taken() {
        for name in ["a", "notes.txt", "a,b", "ä b", "_.dir", "[a]", "~", "-n"] {
            assert_eq!(unfit(name, false), None);
        }
        for name in ["", "Dir/x", r"Dir\x", "*.dll", "a?", "a\nb", "a|b", "..", "$", " ", "a "] {
            let why = unfit(name, false).expect(name);
            assert!(name.is_empty() || why.contains(&format!("{name:?}")), "{why}");
        }
        assert_eq!((unfit("*.dll", true), unfit("a?", true)), (None, None));
        assert!(unfit("*/x", true).is_some() && unfit("", true).is_some());
        assert!(unfit(&"n".repeat(limits::NAME_BYTES_MAX + 1), true).is_some());
    }
}
