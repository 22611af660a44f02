//! `Content-Disposition` (RFC 6266): the name under which a client saves a download.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters to escape in `filename*`: all but `attr-char` of RFC 8187.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The `Content-Disposition` of a file: an attachment, so that browsers do not show it as a page, with the name of
/// the file. For clients that do not know `filename*` there is an ASCII `filename`, in which `_` replaces every other
/// character, and `"`, `\` and `%`, which some clients read as the start of an escape.
pub(super) fn attachment(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_plain =
        |letter: &char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\' | '%');
    let plain: String =
        name.chars().map(|letter| if is_plain(&letter) { letter } else { '_' }).collect();
    let exact = utf8_percent_encode(name, ESCAPED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_named_twice() {
        for (path, plain, exact) in [
            ("f", "f", "f"),
            ("a/b/notes.txt", "notes.txt", "notes.txt"),
            ("a b;c='d'.txt", "a b;c='d'.txt", "a%20b%3Bc%3D%27d%27.txt"),
            ("größe 数.txt", "gr__e _.txt", "gr%C3%B6%C3%9Fe%20%E6%95%B0.txt"),
            ("100%41", "100_41", "100%2541"),
            ("\u{202e}txt.exe", "_txt.exe", "%E2%80%AEtxt.exe"),
        ] {
            let expected = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}");
            assert_eq!(attachment(path), expected);
        }
    }

    #[test]
    fn no_name_breaks_out_of_the_header() {
        let value = attachment("a\"; x=\"\r\nb: c\\\u{7f}");
        assert_eq!(value.matches('"').count(), 2);
        assert!(http::HeaderValue::try_from(value).is_ok());
    }
}
