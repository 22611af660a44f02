//! The header `Warning` of successful responses, about input that the caller may have meant differently.

use axum::response::Response;
use http::{HeaderValue, header};

/// How many names a warning shows; further ones are only counted.
const NAMES_MAX: usize = 8;
/// How many characters of a name a warning shows.
const NAME_CHARS: usize = 40;

/// Adds a warning with a list of names, unless the list is empty. The names are from the request, so they are escaped
/// to ASCII.
pub(super) fn add(response: &mut Response, words: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let text = format!("{words}: {}", list(names));
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    // 299 is the code of a miscellaneous persistent warning, and "-" an unknown agent.
    if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// Joins names for a message: at most [`NAMES_MAX`], each cut to [`NAME_CHARS`] characters and escaped to ASCII.
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
