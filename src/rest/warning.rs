//! The header `Warning`: what a caller may have meant otherwise, in an answer that is a success.

use axum::response::Response;
use http::{HeaderValue, header};

/// Names that a warning shows; further ones are counted.
const NAMES_MAX: usize = 8;
/// How much of a name it shows.
const NAME_CHARS: usize = 40;

/// Adds a warning that ends in names, unless there are none. They come from the caller, and are escaped:
/// only ASCII is sent.
pub(super) fn add(response: &mut Response, words: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let text = format!("{words}: {}", list(names));
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    // 299 is a warning of any kind that lasts, and "-" an agent that does not say who it is.
    if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// Names for a message, a bounded number of bounded length, in ASCII.
pub(super) fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(|name| {
        let mut chars = name.chars();
        let beginning: String = chars.by_ref().take(NAME_CHARS).collect();
        let rest = if chars.next().is_some() { "..." } else { "" };
        format!("'{}{rest}'", beginning.escape_default())
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_short_and_quoted() {
        let mut response = Response::default();
        add(&mut response, "unknown keys", &[]);
        assert!(response.headers().is_empty());
        add(&mut response, "unknown keys", &["SkipFile".to_owned(), "a\"\\\r\nü".to_owned()]);
        let warning = response.headers()["warning"].to_str().expect("ASCII");
        let expected = r#"299 - "unknown keys: 'SkipFile', 'a\\\"\\\\\\r\\n\\u{fc}'""#;
        assert_eq!(warning, expected);
        let many: Vec<String> = (0..100).map(|number| format!("{number:0100}")).collect();
        let many = list(&many);
        assert!(many.len() < 400 && many.ends_with(" and 92 more"), "{many}");
    }
}
