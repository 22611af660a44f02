//! Escapes for characters that are invisible or change how other characters are displayed.
//!
//! The store accepts such characters in names. Unescaped, a control character sends commands to the terminal, a
//! bidirectional control makes `gpj.exe` look like `exe.jpg`, and a zero-width character makes two names look the
//! same. No path in the store has a backslash, so an escape cannot be mistaken for a part of a name.

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Letters and marks that are displayed as blank: Unicode's default-ignorable and blank characters that are not in
/// the general category Format.
const BLANK: [char; 8] =
    ['\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a character is escaped: C0 and C1 controls, format characters, line and paragraph separators, and
/// [`BLANK`].
fn is_hidden(c: char) -> bool {
    BLANK.contains(&c)
        || matches!(
            c.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
}

/// A line for people, in which each hidden character is `\u{...}` with its code point in hexadecimal.
pub(super) fn line(text: &str) -> String {
    escaped(text, |c, line| {
        write!(line, "{}", c.escape_unicode()).ok();
    })
}

/// JSON text in which each hidden character is a JSON escape. Such characters occur in JSON strings only.
pub(super) fn json(text: &str) -> String {
    escaped(text, |c, json| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(json, "\\u{unit:04x}").ok();
        }
    })
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { escape(c, &mut shown) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: C0, DEL, C1, soft hyphen, zero width, bidirectional override, isolate, line separator,
    /// byte order mark, tag, blank letter.
    const HIDDEN: &str =
        "\u{7}\u{7f}\u{9b}\u{ad}\u{200b}\u{202e}\u{2066}\u{2028}\u{feff}\u{e0041}\u{3164}";

    #[test]
    fn what_hides_is_shown() {
        for c in HIDDEN.chars() {
            let shown = line(&format!("a{c}b"));
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        let plain = "gr\u{f6}\u{df}e \u{6570} \u{1f389} \u{5e9} e\u{301} a b";
        assert_eq!(line(plain), plain);
        assert_eq!(json(plain), plain);
    }

    #[test]
    fn the_page_shows_the_same() {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for hidden in ('\0'..=char::MAX).filter(|c| is_hidden(*c)).map(u32::from) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == hidden => *last = hidden,
                _ => ranges.push((hidden, hidden)),
            }
        }
        let ranges: Vec<String> =
            ranges.iter().map(|(first, last)| format!("[{first:#x}, {last:#x}],")).collect();
        let page = include_str!("../web/page/escape.js");
        let (_, rest) = page.split_once("HIDDEN = [").expect("the ranges");
        let (of_page, _) = rest.split_once("];").expect("their end");
        assert_eq!(of_page.split_whitespace().collect::<Vec<_>>().join(" "), ranges.join(" "));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "name": HIDDEN });
        let shown = json(&value.to_string());
        assert!(!shown.chars().any(is_hidden), "{shown}");
        assert!(shown.contains("\\u009b") && shown.contains("\\udb40\\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }
}
