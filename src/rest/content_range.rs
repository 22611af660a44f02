//! The `Content-Range` of a chunk (reference, section 3.3).

use crate::error::{Error, Kind};

/// The position of a chunk in a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentRange {
    /// The offset of the chunk.
    pub offset: u64,
    /// The length of the chunk; 0 only for an empty file.
    pub length: u64,
    /// The size of the whole file. The chunk ends within it.
    pub total: u64,
}

/// Parses `bytes START-END/TOTAL`, both ends included; `bytes` may be absent. `0-0/0` and `*/0` mean
/// the empty chunk of an empty file.
///
/// # Errors
/// `Kind::BadRange` if the value is malformed, or not START <= END < TOTAL.
pub fn parse(value: &str) -> Result<ContentRange, Error> {
    let refused = || {
        let message = format!(
            "the Content-Range '{value}' is not 'bytes START-END/TOTAL' with START <= END < TOTAL"
        );
        Error::new(Kind::BadRange, message).field("offset")
    };
    let value = value.trim();
    let value = value.strip_prefix("bytes").map_or(value, str::trim_start);
    let (range, total) = value.split_once('/').ok_or_else(refused)?;
    let total = number(total).ok_or_else(refused)?;
    if total == 0 && (range == "*" || range == "0-0") {
        return Ok(ContentRange::default());
    }
    let (start, end) = range.split_once('-').ok_or_else(refused)?;
    let (start, end) = number(start).zip(number(end)).ok_or_else(refused)?;
    if start > end || end >= total {
        return Err(refused());
    }
    Ok(ContentRange { offset: start, length: end - start + 1, total })
}

/// Parses a decimal number: digits only, without sign and space.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: &str, offset: u64, length: u64, total: u64) {
        let range = parse(value).expect(value);
        assert_eq!(range, ContentRange { offset, length, total }, "{value}");
    }

    #[test]
    fn a_range_includes_both_ends() {
        check("bytes 0-99/250", 0, 100, 250);
        check("bytes 100-249/250", 100, 150, 250);
        check("bytes 0-0/1", 0, 1, 1);
        check("0-0/1", 0, 1, 1);
        check("  bytes   5-5/6 ", 5, 1, 6);
        check("bytes0-9/10", 0, 10, 10);
        let most = u64::MAX;
        check(&format!("bytes 0-{}/{most}", most - 1), 0, most, most);
    }

    #[test]
    fn an_empty_file_has_an_empty_range() {
        check("bytes 0-0/0", 0, 0, 0);
        check("bytes */0", 0, 0, 0);
    }

    #[test]
    fn other_values_are_refused() {
        for value in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes 0-9/",
            "bytes /10",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "bytes 0-11/10",
            "bytes -1/10",
            "bytes 0-/10",
            "bytes 0-9/*",
            "bytes */10",
            "bytes a-b/c",
            "bytes +0-9/10",
            "bytes 0-9/10/11",
            "bytes 0-5-9/10",
            "bytes=0-9/10",
            "Bytes 0-9/10",
            "bytes 0-18446744073709551616/18446744073709551617",
            "bytes 1-1/0",
            "bytes 0 - 9 / 10",
        ] {
            assert_eq!(parse(value).expect_err(value).kind(), Kind::BadRange, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value in ".*") {
            drop(parse(&value));
        }

        #[test]
        fn a_range_fits_its_file(start: u64, end: u64, total: u64) {
            if let Ok(range) = parse(&format!("bytes {start}-{end}/{total}")) {
                prop_assert!(range.offset.checked_add(range.length).expect("fits") <= total);
            }
        }
    }
}
