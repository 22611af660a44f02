//! Characters that nobody sees, or that change how others are seen, written so that they show.
//!
//! A name may have them: the store keeps what it is given. Shown as they are, a control character steers
//! the terminal, a bidirectional one lets `gpj.exe` look like `exe.jpg`, and one without width makes two
//! names look like one. No path has a backslash, so an escape cannot be taken for a name.

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Letters and marks that show nothing: those that Unicode lets programs leave out, beside the ones of
/// its category of formats.
const BLANK: [char; 8] =
    ['\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a character is shown escaped: controls of both sets, formats, separators of lines.
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

/// A line for people, on which each such character is `\u{...}` with its number.
pub(super) fn line(text: &str) -> String {
    escaped(text, |c, line| {
        write!(line, "{}", c.escape_unicode()).ok();
    })
}

/// JSON text in which each such character is an escape of JSON. They are in its strings only.
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

    /// One of each kind: C0, DEL, C1, soft hyphen, no width, bidirectional, isolate, line, mark of the
    /// byte order, tag, blank letter.
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
