//! The `api-version` of a request (reference, section 1.4).
//!
//! Every call accepts every version in range. The version only determines the form of some responses.

use crate::{error::Error, limits};

/// The versions whose listings are not paged; versions between them, such as 1.5, have pages.
const UNPAGED: [f64; 3] = [1.0, 2.0, 3.0];
/// The first version that writes dates as ISO 8601.
const ISO_DATES: f64 = 3.0;

/// A version in range.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct ApiVersion(f64);

impl ApiVersion {
    /// The newest version, which calls without a version get.
    pub const NEWEST: Self = Self(limits::API_VERSION_MAX);

    /// Whether a listing is one response without pages.
    pub fn unpaged(self) -> bool {
        UNPAGED.contains(&self.0)
    }

    /// Whether dates are ticks: units of 100 ns since 1601.
    pub fn ticks(self) -> bool {
        self.0 < ISO_DATES
    }
}

/// Parses the value of `api-version`: a number, with an optional `-preview` after it.
///
/// # Errors
/// `Kind::InvalidArgument` if the value is not a number, or out of range.
pub fn parse(value: &str) -> Result<ApiVersion, Error> {
    let number = value.strip_suffix("-preview").unwrap_or(value);
    let number = number.parse::<f64>().ok().filter(|_| !number.contains('+'));
    let range = limits::API_VERSION_MIN..=limits::API_VERSION_MAX;
    number.filter(|number| range.contains(number)).map(ApiVersion).ok_or_else(|| refused(value))
}

/// The error for a call that needs a version and has none.
pub fn missing() -> Error {
    let (min, max) = (limits::API_VERSION_MIN, limits::API_VERSION_MAX);
    let message = format!("the query has no api-version; give one from {min:.1} to {max:.1}");
    Error::invalid("api-version", message)
}

/// The error for a value that is not a number, or out of range.
fn refused(value: &str) -> Error {
    let (min, max) = (limits::API_VERSION_MIN, limits::API_VERSION_MAX);
    let message = format!("the api-version '{value}' is not a number from {min:.1} to {max:.1}");
    Error::invalid("api-version", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: &str, shapes: &str) {
        let version = parse(value).expect(value);
        let list = if version.unpaged() { "whole" } else { "paged" };
        let dates = if version.ticks() { "ticks" } else { "iso" };
        assert_eq!(format!("{list} {dates}"), shapes, "{value}");
    }

    #[test]
    fn a_version_chooses_the_shapes() {
        check("1.0", "whole ticks");
        check("1", "whole ticks");
        check("1.0-preview", "whole ticks");
        check("1.5", "paged ticks");
        check("2.0", "whole ticks");
        check("3.0", "whole iso");
        check("3.1", "paged iso");
        check("6.0", "paged iso");
        check("6.25", "paged iso");
        check("11.4", "paged iso");
        check("1e1", "paged iso");
    }

    #[test]
    fn other_values_are_refused() {
        for value in [
            "",
            "0.9",
            "0",
            "-1",
            "11.41",
            "12",
            "x",
            "6.0x",
            "NaN",
            "inf",
            "-preview",
            "6,0",
            "6.0-preview-preview",
            "6.0-Preview",
            "1.0.0",
            " 6.0",
            "+6.0",
            "1e+1",
        ] {
            let error = parse(value).expect_err(value);
            assert!(error.message().contains(&format!("'{value}'")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_version_panics(value in ".*") {
            drop(parse(&value));
        }
    }
}
