//! The conditional headers of a request (RFC 9110, section 13), with entity tags and dates.
//!
//! The conditions of a read are evaluated here. The conditions of a write are evaluated by the backend, in the
//! transaction of the write, and are only parsed and passed on here. A malformed condition of a write is refused: the
//! caller would believe that a write without the condition was safe.
//!
//! Dates are parsed by the crate `headers`. Its entity tags are not used: its lists give no access to their members,
//! and a space in a tag fails an assertion in its debug build.

use std::time::{Duration, SystemTime};

use headers::{HeaderMapExt, IfModifiedSince, IfRange, IfUnmodifiedSince, LastModified};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost_types::Timestamp;

use super::{call::Call, query::Query};
use crate::{
    error::{Error, Kind},
    wire::v1::{Entry, IfExists},
};

/// The headers with the conditions of a write.
const OF_WRITES: [HeaderName; 3] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
/// The query parameter, an extension, that says what an upload may replace.
const IF_EXISTS: &str = "if-exists";
/// The wildcard in a list of entity tags: any existing file.
const ANY: &str = "*";
/// The nanoseconds of a date in a condition. Dates have whole seconds and `Last-Modified` is rounded down, so a date
/// means the end of its second.
const SECOND_END_NANOS: i32 = 999_999_999;

/// The conditions of a write, in the form of the requests to the backend.
#[derive(Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "these are the names in the requests")]
pub(super) struct WriteConditions {
    pub(super) if_match: Vec<String>,
    pub(super) if_none_match: Vec<String>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

/// Parses the conditions of a write.
///
/// # Errors
/// `Kind::InvalidArgument` for a malformed condition.
pub(super) fn write_conditions(call: &Call) -> Result<WriteConditions, Error> {
    let headers = &call.head.headers;
    let if_match = tags(headers, &header::IF_MATCH, "if_match", Strength::Strong)?;
    // `If-Unmodified-Since` is ignored if there is `If-Match`, as RFC 9110 says: entity tags are more precise.
    let if_unmodified_since = if if_match.is_empty() { date(headers)? } else { None };
    let if_none_match = tags(headers, &header::IF_NONE_MATCH, "if_none_match", Strength::Weak)?;
    Ok(WriteConditions { if_match, if_none_match, if_unmodified_since })
}

/// Parses `if-exists` in the query: what an upload may replace.
///
/// # Errors
/// `Kind::InvalidArgument` for an unknown or malformed value.
pub(super) fn if_exists(query: &Query) -> Result<i32, Error> {
    match query.given(IF_EXISTS) {
        None => Ok(IfExists::Unspecified.into()),
        Some("Overwrite") => Ok(IfExists::Overwrite.into()),
        Some("ReplaceSameKind") => Ok(IfExists::ReplaceSameKind.into()),
        Some(other) => {
            let message =
                format!("{IF_EXISTS} is '{other}'; give 'Overwrite' or 'ReplaceSameKind'");
            Err(Error::invalid("if_exists", message))
        }
    }
}

/// Refuses conditions in a call that makes nothing visible.
///
/// # Errors
/// `Kind::InvalidArgument` if the request has any.
pub(super) fn refuse(call: &Call) -> Result<(), Error> {
    let Some(name) = OF_WRITES.into_iter().find(|name| call.head.headers.contains_key(name)) else {
        return Ok(());
    };
    let message = format!("a chunk has no '{name}'; send it with the commit of its session");
    Err(Error::new(Kind::InvalidArgument, message))
}

/// How entity tags are compared (RFC 9110, section 8.8.3.2). In a strong comparison a weak tag matches nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

/// Parses a list of tags into the form of the backend, without quotes. A tag that can never match keeps its quotes.
fn tags(
    headers: &HeaderMap,
    name: &HeaderName,
    field: &'static str,
    strength: Strength,
) -> Result<Vec<String>, Error> {
    let mut tags = Vec::new();
    if !headers.contains_key(name) {
        return Ok(Vec::new());
    }
    let refused = |text: &str| {
        let message = format!("the {name} '{text}' is not '*' or entity tags such as '\"abc\"'");
        Error::invalid(field, message)
    };
    for value in headers.get_all(name) {
        let text =
            value.to_str().map_err(|_| refused(&String::from_utf8_lossy(value.as_bytes())))?;
        for tag in members(text) {
            let weak = tag.strip_prefix("W/");
            let quoted =
                weak.unwrap_or(tag).strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            tags.push(match quoted.filter(|opaque| !opaque.contains('"')) {
                None if tag == ANY => ANY,
                None => return Err(refused(text)),
                // `"*"` in quotes is not the wildcard but a tag, which no file has.
                Some(ANY) => tag,
                Some(_) if weak.is_some() && strength == Strength::Strong => tag,
                Some(opaque) => opaque,
            });
        }
    }
    if tags.is_empty() {
        return Err(refused(""));
    }
    Ok(tags.into_iter().map(str::to_owned).collect())
}

/// The members of a list. A comma within quotes does not separate members.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |letter| {
        is_quoted ^= letter == '"';
        letter == ',' && !is_quoted
    })
    .map(str::trim)
    .filter(|member| !member.is_empty())
}

/// Parses the date of `If-Unmodified-Since`.
fn date(headers: &HeaderMap) -> Result<Option<Timestamp>, Error> {
    let mut lines = headers.get_all(header::IF_UNMODIFIED_SINCE).into_iter();
    let Some(text) = lines.next() else { return Ok(None) };
    let parsed = headers.typed_get::<IfUnmodifiedSince>().filter(|_| lines.next().is_none());
    let since = parsed.map(SystemTime::from).ok_or_else(|| {
        let text = String::from_utf8_lossy(text.as_bytes());
        let message = format!(
            "the If-Unmodified-Since '{text}' is not one date such as 'Sun, 06 Nov 1994 08:49:37 GMT'"
        );
        Error::invalid("if_unmodified_since", message)
    })?;
    let seconds = match since.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    Ok(Some(Timestamp { seconds, nanos: SECOND_END_NANOS }))
}

/// The validators of a file or a listing (RFC 9110, section 8.8).
pub(super) struct Validators {
    /// The entity tag, in quotes.
    pub(super) tag: String,
    /// The modification time, in whole seconds.
    modified: Option<SystemTime>,
}

/// The result of evaluating the conditions of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send the file.
    Send,
    /// The client has the file already (304).
    NotModified,
    /// A condition fails (412).
    Failed,
}

impl Validators {
    /// The validators of a file.
    pub(super) fn of(entry: &Entry) -> Self {
        let tag = format!("\"{}\"", entry.etag);
        let seconds = entry.modified_at.and_then(|time| u64::try_from(time.seconds).ok());
        let modified = seconds.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        Self { tag, modified }
    }

    /// The validator of a listing. It is weak: listings with the same tag show the same, but their bytes may differ.
    pub(super) fn of_listing(change_tag: &str) -> Self {
        Self { tag: format!("\"{change_tag}\""), modified: None }
    }

    /// The validator of a package.
    pub(super) fn of_package(etag: &str) -> Self {
        Self { tag: format!("\"{etag}\""), modified: None }
    }

    /// Whether `If-None-Match` has the tag, which means that the client has this version.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        self.is_in(headers, &header::IF_NONE_MATCH, Strength::Weak) == Some(true)
    }

    /// The tag as the header value of a weak tag.
    pub(super) fn weak_tag(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("W/{}", self.tag)).ok()
    }

    /// The modification time as a header.
    pub(super) fn last_modified(&self) -> Option<LastModified> {
        self.modified.map(LastModified::from)
    }

    /// Whether a list header has the entity tag; `None` without that header.
    fn is_in(&self, headers: &HeaderMap, name: &HeaderName, strength: Strength) -> Option<bool> {
        headers.get(name)?;
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        Some(lines.flat_map(members).any(|tag| {
            let weak = tag.strip_prefix("W/").filter(|_| strength == Strength::Weak);
            tag == ANY || weak.unwrap_or(tag) == self.tag
        }))
    }

    /// Evaluates the conditions of a read, in the order of RFC 9110, section 13.2.2. A malformed date is ignored.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let holds = self.is_in(headers, &header::IF_MATCH, Strength::Strong).unwrap_or_else(|| {
            let since = headers.typed_get::<IfUnmodifiedSince>().zip(self.modified);
            since.is_none_or(|(since, at)| since.precondition_passes(at))
        });
        if !holds {
            return Verdict::Failed;
        }
        let is_known = self.is_in(headers, &header::IF_NONE_MATCH, Strength::Weak);
        let is_known = is_known.unwrap_or_else(|| {
            let since = headers.typed_get::<IfModifiedSince>().zip(self.modified);
            since.is_some_and(|(since, at)| !since.is_modified(at))
        });
        if is_known { Verdict::NotModified } else { Verdict::Send }
    }

    /// Whether `Range` applies: always without `If-Range`, otherwise only if `If-Range` names this version.
    pub(super) fn is_in_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(header::IF_RANGE) else { return true };
        if condition.as_bytes().contains(&b'"') {
            return condition.as_bytes() == self.tag.as_bytes();
        }
        let condition = headers.typed_get::<IfRange>();
        condition.is_some_and(|known| !known.is_modified(None, self.last_modified().as_ref()))
    }
}
