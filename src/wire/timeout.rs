//! The header with the timeout of a call, as gRPC over HTTP/2 defines it: up to 8 digits and a unit.

use std::time::Duration;

use tonic::{Request, metadata::AsciiMetadataValue};

/// The name of the header.
pub const TIMEOUT: &str = "grpc-timeout";

/// The timeout that a header value says; `None` for a value that is none.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The header value of a timeout, in the finest unit that its digits have room for.
pub fn value(time: Duration) -> Option<AsciiMetadataValue> {
    let mut request = Request::new(());
    request.set_timeout(time);
    request.metadata().get(TIMEOUT).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
            (" 1S", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_timeout_survives_the_wire() {
        for time in [Duration::from_millis(1), Duration::from_mins(1), Duration::from_hours(99)] {
            let value = value(time).expect("a value");
            assert_eq!(parse(value.as_bytes()), Some(time));
        }
    }
}
