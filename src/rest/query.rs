//! The query of a request, read as upstream reads it (reference, section 1.3).
//!
//! Names are case-sensitive, the first occurrence wins, and unknown names are ignored. A pair is ignored unless it has
//! exactly one `=` with text on both sides. Values are not percent-decoded, except the continuation token.

use std::time::Duration;

use super::{content_range, path};
use crate::{
    error::{Error, Kind},
    limits,
};

/// The pairs of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The well-formed pairs.
    pairs: Vec<(String, String)>,
    /// The ignored pairs: the name, and the text after the first `=`.
    dropped: Vec<(String, String)>,
}

/// Parses a raw query, without its `?`.
pub fn parse(raw: &str) -> Query {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    let counts = |(name, value): &(String, String)| {
        !name.is_empty() && !value.is_empty() && !value.contains('=')
    };
    let (pairs, dropped) = raw.split('&').map(pair).partition(counts);
    Query { pairs, dropped }
}

impl Query {
    /// The first value of a name, not percent-decoded.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value in an ignored pair of a name; `None` if the name has a well-formed pair.
    pub fn dropped(&self, name: &str) -> Option<&str> {
        let found = self.dropped.iter().find(|(key, _)| key == name)?;
        self.value(name).is_none().then_some(found.1.as_str())
    }

    /// The value of a name as it was given, also in an ignored pair: for a parameter that would silently count as absent.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.value(name).or_else(|| self.dropped(name))
    }

    /// The `timeout` in whole seconds, digits only; `None` where it is absent, unparsable or zero, which all
    /// mean the default.
    pub fn timeout(&self) -> Option<Duration> {
        let seconds = content_range::number(self.value("timeout")?)?;
        let seconds = u32::try_from(seconds).ok().filter(|&seconds| seconds > 0)?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// A parameter, an extension, that is `true` or `false`; absent: `false`.
    ///
    /// # Errors
    /// `Kind::InvalidArgument` for another value, also in an ignored pair: the caller would believe that it counted.
    pub fn flag(&self, name: &'static str) -> Result<bool, Error> {
        match self.given(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Error::invalid(name, format!("{name} is '{other}'; give 'true' or 'false'")))
            }
        }
    }

    /// The decoded `ContinuationToken`.
    ///
    /// # Errors
    /// `Kind::InvalidArgument` if the token is malformed, `Kind::TooLarge` if it has more than
    /// [`PATH_BYTES_MAX`](limits::PATH_BYTES_MAX) bytes.
    pub fn continuation_token(&self) -> Result<Option<String>, Error> {
        let Some(raw) = self.value("ContinuationToken") else { return Ok(None) };
        let token = path::decode(raw)?;
        if token.len() > limits::PATH_BYTES_MAX {
            let (bytes, most) = (token.len(), limits::PATH_BYTES_MAX);
            let message =
                format!("the ContinuationToken has {bytes} bytes, a path has at most {most}");
            return Err(Error::new(Kind::TooLarge, message).field("page_token"));
        }
        Ok(Some(token))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, name: &str, value: Option<&str>) {
        assert_eq!(parse(raw).value(name), value, "{raw}");
    }

    #[test]
    fn only_whole_pairs_count_and_the_first_wins() {
        check("x=1", "x", Some("1"));
        check("x=1&x=2", "x", Some("1"));
        check("x=&x=2", "x", Some("2"));
        check("x=a=b&x=3", "x", Some("3"));
        check("x==", "x", None);
        check("=1", "", None);
        check("x", "x", None);
        check("", "x", None);
        check("X=1", "x", None);
        check("x=%31", "x", Some("%31"));
        check("&&x=1&&", "x", Some("1"));
        check("remote-location=a&api-version=1.0", "api-version", Some("1.0"));
    }

    #[test]
    fn a_pair_that_does_not_count_is_known() {
        for (raw, value) in [
            ("x=", Some("")),
            ("x", Some("")),
            ("x=a=b", Some("a=b")),
            ("x==", Some("=")),
            ("x=a=b&x=", Some("a=b")),
            ("x=1", None),
            ("x=&x=1", None),
            ("x=1&x=", None),
            ("X=", None),
            ("", None),
        ] {
            assert_eq!(parse(raw).dropped("x"), value, "{raw}");
        }
    }

    #[test]
    fn a_timeout_is_whole_seconds_or_the_default() {
        for (raw, seconds) in [
            ("timeout=1", Some(1)),
            ("timeout=4294967295", Some(4_294_967_295)),
            ("timeout=4294967296", None),
            ("timeout=0", None),
            ("timeout=-1", None),
            ("timeout=+5", None),
            ("timeout=1.5", None),
            ("timeout=soon", None),
            ("timeout=", None),
            ("Timeout=1", None),
        ] {
            assert_eq!(parse(raw).timeout(), seconds.map(Duration::from_secs), "{raw}");
        }
    }

    #[test]
    fn a_token_is_decoded_once() {
        let token = |raw: &str| parse(raw).continuation_token();
        assert_eq!(token("ContinuationToken=a%2Fb%20c").expect("ok").as_deref(), Some("a/b c"));
        assert_eq!(token("ContinuationToken=%2541").expect("ok").as_deref(), Some("%41"));
        assert_eq!(token("ContinuationToken=").expect("ok"), None);
        assert_eq!(token("ContinuationToken=%").expect_err("bad").kind(), Kind::InvalidArgument);
        let long = format!("ContinuationToken={}", "a".repeat(limits::PATH_BYTES_MAX + 1));
        assert_eq!(token(&long).expect_err("long").kind(), Kind::TooLarge);
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in ".*") {
            let query = parse(&raw);
            query.timeout();
            drop(query.continuation_token());
        }
    }
}
