//! Durations on the command line, such as `5`, `0.5s` or `7d`.

use std::{fmt, time::Duration};

use crate::limits;

/// A duration, displayed in whole days or in seconds, in the form that [`time`] reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, day) = (self.0.as_secs() / 86_400, Duration::from_hours(24));
        if days > 0 && self.0.as_nanos().is_multiple_of(day.as_nanos()) {
            write!(f, "{days}d")
        } else {
            write!(f, "{}s", self.0.as_secs_f64())
        }
    }
}

/// Parses a duration: a number of seconds, or a number with the unit `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// A text of another form, and a duration of more than [`limits::SETTING_TIME_MAX`].
pub fn time(text: &str) -> Result<Time, String> {
    let (digits, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("expected a time, such as 5, 0.5 or 7d".to_owned()),
    };
    let number: Option<f64> = digits.parse().ok().filter(|_| !digits.starts_with(['+', '-']));
    let number = number.ok_or("expected a time, such as 5, 0.5 or 7d")?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if time <= limits::SETTING_TIME_MAX => Ok(Time(time)),
        _ => Err(format!("at most {} days", limits::SETTING_TIME_MAX.as_secs() / 86_400)),
    }
}

/// Parses a duration of at least a millisecond.
///
/// # Errors
/// Those of [`time`], and a shorter duration.
pub fn some_time(text: &str) -> Result<Time, String> {
    match time(text)? {
        Time(time) if time < Duration::from_millis(1) => {
            Err("expected a time of at least 1ms".to_owned())
        }
        time => Ok(time),
    }
}

/// Splits a text into a number and the ASCII letters after it.
pub fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    (digits, text.strip_prefix(digits).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, ms) in [
            ("0", 0),
            ("0.25", 250),
            ("5s", 5_000),
            ("40ms", 40),
            ("1.5h", 5_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(time(text), Ok(Time(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "s", "-1", "+1", "nan", "inf", "1e300", "4000d", "1y"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(some_time("1ms"), time("1ms"));
        for text in ["0", "0.0004", "-1", "x"] {
            assert!(some_time(text).is_err(), "{text}");
        }
    }
}
