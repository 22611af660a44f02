//! The conditions of a request (RFC 9110, section 13): all lines of a header, entity tags and dates.
//!
//! Those of a read are judged here. Those of a write are the backend's to judge, in the transaction of
//! the write, so they are only handed on. There a condition that cannot be read is refused: a write
//! that went ahead without it would look safe to its caller.
//!
//! Dates are those of the crate `headers`. Its entity tags are not used: it keeps a list to itself, so
//! that none can be handed on, and a blank in a tag trips an assertion of its debug build.

use std::time::{Duration, SystemTime};

use headers::{HeaderMapExt, IfModifiedSince, IfRange, IfUnmodifiedSince, LastModified};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost_types::Timestamp;

use super::{call::Call, query::Query};
use crate::{
    error::{Error, Kind},
    wire::v1::{Entry, IfExists},
};

/// The headers that are conditions of a write.
const OF_WRITES: [HeaderName; 3] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
/// The name in the query, an extension, of what an upload may replace.
const IF_EXISTS: &str = "if-exists";
/// What stands for whatever is there in a list of entity tags.
const ANY: &str = "*";
/// A date has whole seconds, and a file's time in it is cut: it counts up to the end of its second.
const SECOND_END_NANOS: i32 = 999_999_999;

/// The conditions of a write, as the requests to the backend have them.
#[derive(Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "these are the names in the requests")]
pub(super) struct Written {
    pub(super) if_match: Vec<String>,
    pub(super) if_none_match: Vec<String>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

/// Reads the conditions of a write.
///
/// # Errors
/// `Kind::InvalidArgument` where one is malformed.
pub(super) fn written(call: &Call) -> Result<Written, Error> {
    let headers = &call.head.headers;
    let if_match = tags(headers, &header::IF_MATCH, "if_match", Strength::Strong)?;
    // Entity tags tell more than a date, so that counts only without them.
    let if_unmodified_since = if if_match.is_empty() { date(headers)? } else { None };
    let if_none_match = tags(headers, &header::IF_NONE_MATCH, "if_none_match", Strength::Weak)?;
    Ok(Written { if_match, if_none_match, if_unmodified_since })
}

/// What an upload may replace, as the query says by `if-exists`.
///
/// # Errors
/// `Kind::InvalidArgument` for what it cannot say.
pub(super) fn if_exists(query: &Query) -> Result<i32, Error> {
    let said = query.value(IF_EXISTS).or_else(|| query.dropped(IF_EXISTS));
    match said {
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

/// Refuses the conditions of a call that makes nothing visible.
///
/// # Errors
/// `Kind::InvalidArgument` where it has any.
pub(super) fn refuse(call: &Call) -> Result<(), Error> {
    let Some(name) = OF_WRITES.into_iter().find(|name| call.head.headers.contains_key(name)) else {
        return Ok(());
    };
    let message = format!("a chunk has no '{name}'; send it with the commit of its session");
    Err(Error::new(Kind::InvalidArgument, message))
}

/// How the tags of a list are compared: a weak one is none where bytes are at stake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

/// The tags of a list as the backend has them: without quotes. One that never matches keeps its form.
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
                // In quotes it is a tag like others, and no file has it.
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

/// The members of a list. A comma within quotes is none of the list's.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |letter| {
        is_quoted ^= letter == '"';
        letter == ',' && !is_quoted
    })
    .map(str::trim)
    .filter(|member| !member.is_empty())
}

/// The date of `If-Unmodified-Since`.
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

/// What tells a file from what it was before.
pub(super) struct Validators {
    /// Its entity tag, in quotes.
    pub(super) tag: String,
    /// Its date.
    modified: Option<SystemTime>,
}

/// What a read answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The file.
    Send,
    /// That the client has it.
    NotModified,
    /// That it is not the one which is asked for.
    Failed,
}

impl Validators {
    /// Those of a file.
    pub(super) fn of(entry: &Entry) -> Self {
        let tag = format!("\"{}\"", entry.etag);
        let seconds = entry.modified_at.and_then(|time| u64::try_from(time.seconds).ok());
        let modified = seconds.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        Self { tag, modified }
    }

    /// Those of a listing. They tell whether it shows the same, not whether it has the same bytes.
    pub(super) fn of_listing(change_tag: &str) -> Self {
        Self { tag: format!("\"{change_tag}\""), modified: None }
    }

    /// Whether a client names the tag as that of what it has.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        self.is_in(headers, &header::IF_NONE_MATCH, Strength::Weak) == Some(true)
    }

    /// The tag as a header, where it tells no bytes.
    pub(super) fn weak_tag(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("W/{}", self.tag)).ok()
    }

    /// The date as a header.
    pub(super) fn last_modified(&self) -> Option<LastModified> {
        self.modified.map(LastModified::from)
    }

    /// Whether a list has the entity tag; `None` where there is no list.
    fn is_in(&self, headers: &HeaderMap, name: &HeaderName, strength: Strength) -> Option<bool> {
        headers.get(name)?;
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        Some(lines.flat_map(members).any(|tag| {
            let weak = tag.strip_prefix("W/").filter(|_| strength == Strength::Weak);
            tag == ANY || weak.unwrap_or(tag) == self.tag
        }))
    }

    /// Judges the conditions of a read, in the order of RFC 9110, section 13.2.2. A date that cannot be
    /// read counts as absent.
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

    /// Whether a `Range` counts: only of the file that `If-Range` names.
    pub(super) fn is_in_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(header::IF_RANGE) else { return true };
        if condition.as_bytes().contains(&b'"') {
            return condition.as_bytes() == self.tag.as_bytes();
        }
        let condition = headers.typed_get::<IfRange>();
        condition.is_some_and(|known| !known.is_modified(None, self.last_modified().as_ref()))
    }
}
