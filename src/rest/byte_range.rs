//! The `Range` of a download (RFC 9110). The parser of the crate `headers` is not used: it refuses a suffix that is
//! longer than the file.

use super::content_range::number;

/// The bytes of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// The whole file.
    Whole,
    /// A range of at least one byte within the file.
    Part {
        /// The offset of the first byte.
        offset: u64,
        /// The number of bytes.
        length: u64,
    },
    /// No byte: the range begins beyond the end, or is a suffix of 0 bytes.
    Unsatisfiable,
}

/// Parses the value of `Range` for a file of `size` bytes. A malformed value, another unit, or more than one range
/// means the whole file, as RFC 9110 allows.
pub(super) fn parse(value: &str, size: u64) -> Requested {
    let Some((unit, range)) = value.trim().split_once('=') else { return Requested::Whole };
    let Some((start, end)) = range.trim().split_once('-') else { return Requested::Whole };
    if !unit.trim_end().eq_ignore_ascii_case("bytes") {
        return Requested::Whole;
    }
    let (start, end) = match (start, end, number(start), number(end)) {
        ("", _, _, Some(0)) => return Requested::Unsatisfiable,
        ("", _, _, Some(_)) if size == 0 => return Requested::Whole,
        ("", _, _, Some(suffix)) => (size.saturating_sub(suffix), size - 1),
        (_, "", Some(start), _) => (start, u64::MAX),
        (_, _, Some(start), Some(end)) if start <= end => (start, end),
        _ => return Requested::Whole,
    };
    if start >= size {
        return Requested::Unsatisfiable;
    }
    Requested::Part { offset: start, length: end.min(size - 1) - start + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Requested::*, *};

    #[track_caller]
    fn check(value: &str, size: u64, expected: Requested) {
        assert_eq!(parse(value, size), expected, "{value} of {size}");
    }

    #[test]
    fn one_range_is_served() {
        check("bytes=0-9", 100, Part { offset: 0, length: 10 });
        check("bytes=90-", 100, Part { offset: 90, length: 10 });
        check("bytes=90-1000", 100, Part { offset: 90, length: 10 });
        check("bytes=-10", 100, Part { offset: 90, length: 10 });
        check("bytes=-1000", 100, Part { offset: 0, length: 100 });
        check("BYTES = 0-0", 100, Part { offset: 0, length: 1 });
        check("bytes=0-18446744073709551615", 100, Part { offset: 0, length: 100 });
    }

    #[test]
    fn a_range_beyond_the_end_is_refused() {
        check("bytes=100-", 100, Unsatisfiable);
        check("bytes=100-200", 100, Unsatisfiable);
        check("bytes=-0", 100, Unsatisfiable);
        check("bytes=0-", 0, Unsatisfiable);
    }

    #[test]
    fn everything_else_asks_for_the_whole() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=9-0",
            "bytes=0-1,5-6",
            "bytes=a-b",
            "bytes=0",
            "bytes=+0-1",
            "items=0-1",
            "bytes=99999999999999999999-",
        ] {
            check(value, 100, Whole);
        }
        check("bytes=-5", 0, Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_file(value in "bytes=[0-9]{0,4}-[0-9]{0,4}|.*", size in 0..10_000_u64) {
            if let Part { offset, length } = parse(&value, size) {
                prop_assert!(length > 0 && offset + length <= size);
            }
        }
    }
}
