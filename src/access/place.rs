//! Where the grants file is wrong, and the checks that tell it.

use toml::Spanned;

use crate::model::Position;

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

/// A list of texts, each with its position.
pub(super) type Values = Spanned<Vec<Spanned<String>>>;

impl GrantsError {
    /// An error at the byte `start` of the text.
    pub(super) fn new(text: &str, start: usize, reason: String) -> Self {
        let Position { line, column } = Position::of(text, start);
        Self { line, column, reason }
    }
}

/// Judges a value; an error has its position.
pub(super) fn value<T>(
    text: &str,
    value: &Spanned<String>,
    judge: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, GrantsError> {
    judge(value.get_ref()).map_err(|reason| GrantsError::new(text, value.span().start, reason))
}

/// Judges each value of a list of one to `most`; an error has the position of its value, or of the list.
pub(super) fn values<T>(
    text: &str,
    key: &str,
    list: &Values,
    most: usize,
    judge: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, GrantsError> {
    count(text, key, list, most, |list| list.iter().map(|value| value.span().start).collect())?;
    list.get_ref().iter().map(|one| value(text, one, &judge)).collect()
}

/// Checks that a list has one to `most` elements, which begin at `starts`.
pub(super) fn count<T>(
    text: &str,
    key: &str,
    list: &Spanned<T>,
    most: usize,
    starts: impl FnOnce(&T) -> Vec<usize>,
) -> Result<(), GrantsError> {
    let starts = starts(list.get_ref());
    if starts.is_empty() {
        let reason = format!("{key} is empty; give at least one");
        return Err(GrantsError::new(text, list.span().start, reason));
    }
    if let Some(first) = starts.get(most) {
        let reason = format!("{key} has more than {most} values");
        return Err(GrantsError::new(text, *first, reason));
    }
    Ok(())
}

/// The text of a file.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, GrantsError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let text = String::from_utf8_lossy(good);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        GrantsError::new(text, text.len(), "the bytes here are not UTF-8".to_owned())
    })
}
