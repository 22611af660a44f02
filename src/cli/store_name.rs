//! The name of a store in the configuration file, and before a path.

use crate::limits::STORE_NAME_BYTES_MAX;

/// Checks the name of a store.
///
/// # Errors
/// What a name has.
pub(super) fn name(text: &str) -> Result<String, String> {
    if matches!(text, "http" | "https") {
        return Err("an address begins with it; take another name".to_owned());
    }
    if !is_name(text) {
        return Err(format!(
            "a name has letters, digits, ., _ and -, begins with a letter or digit, and has at most \
             {STORE_NAME_BYTES_MAX} characters"
        ));
    }
    Ok(text.to_owned())
}

/// Whether a text could be the name of a store.
fn is_name(text: &str) -> bool {
    text.len() <= STORE_NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The name of a store before a path, and the path.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| is_name(name))
}
