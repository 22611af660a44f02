//! The body of `POST /ImageStore/$/Copy`, read leniently.
//!
//! The documented sample has single backslashes in its paths, which is not JSON, and the documented schema has spaces
//! around keys and a comma before the closing brace. So the object and the list of names are parsed here, and each
//! value by `serde_json`; values that are not used, or above the limits, are skipped without building them. If
//! the strict parse fails, or finds one of the escapes `\b \f \n \r \t` in a path, the body is parsed again with
//! every backslash in the two paths taken literally. `\uXXXX` is an escape in both parses. A UTF-8 byte order mark,
//! which some editors and shells write, is skipped.
//!
//! **Invariant:** a body that is valid JSON with valid paths has the meaning of that JSON.

mod value;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Deserializer;

use super::content_range;
use crate::{
    error::{Error, Kind},
    limits::{SKIP_FILES_BYTES_MAX, SKIP_FILES_MAX},
    rest::warning,
    wire::v1::{CopyRequest, IfExists},
};
use value::{Given, Value};

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// How many bytes of a body an error message repeats.
const SNIPPET_BYTES: usize = 40;
/// The number of `CopyFlag` that replaces the destination; all other numbers keep it.
const OVERWRITE: i64 = 2;
/// The value of `CopyFlag`, an extension, that replaces only a destination of the same kind.
const REPLACE_SAME_KIND: &str = "ReplaceSameKind";
/// How many unknown keys are kept.
const UNKNOWN_KEYS_MAX: usize = 20;
/// How many characters of an unknown key are kept.
const UNKNOWN_KEY_CHARS: usize = 64;

/// Parses the body of a copy into the request for it.
///
/// # Errors
/// `Kind::InvalidArgument`, with a message that says where the body is wrong; `Kind::TooLarge` for more than
/// [`SKIP_FILES_MAX`] names in `SkipFiles`, or more than [`SKIP_FILES_BYTES_MAX`] bytes of names.
pub fn parse(body: &[u8]) -> Result<Body, Error> {
    let strict = read(body, Paths::Json);
    let has_control =
        |request: &CopyRequest| has_control(&request.source) || has_control(&request.destination);
    let body = match strict {
        Ok(body) if !has_control(&body.request) => body,
        strict => read(body, Paths::Literal).or(strict)?,
    };
    let Body { request, unknown_keys } = &body;
    for (path, key, field) in [
        (&request.source, "RemoteSource", "source"),
        (&request.destination, "RemoteDestination", "destination"),
    ] {
        if path.is_empty() {
            let mut message = format!("the body has no {key}; give a path");
            if !unknown_keys.is_empty() {
                message = format!("{message} (unknown keys: {})", warning::list(unknown_keys));
            }
            return Err(Error::invalid(field, message));
        }
    }
    Ok(body)
}

/// A parsed body.
#[derive(Debug, Default)]
pub struct Body {
    /// The request.
    pub request: CopyRequest,
    /// Unknown keys, such as misspelled ones, in order: at most `UNKNOWN_KEYS_MAX`, each cut to
    /// `UNKNOWN_KEY_CHARS`.
    pub unknown_keys: Vec<String>,
}

/// How the backslashes of the two paths are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// As JSON escapes.
    Json,
    /// As separators.
    Literal,
}

/// Whether a path has a character that one of the escapes `\b \f \n \r \t` stands for.
fn has_control(path: &str) -> bool {
    path.contains(['\u{8}', '\u{c}', '\n', '\r', '\t'])
}

/// Parses the object. Bytes after its closing brace are ignored, as upstream does.
fn read(body: &[u8], paths: Paths) -> Result<Body, Error> {
    let at = if body.starts_with(MARK) { MARK.len() } else { 0 };
    let mut reader = Reader { body, at };
    let mut read = Body::default();
    read.request.if_exists = IfExists::Overwrite.into();
    reader.expect(b"{")?;
    while reader.peek() != Some(b'}') {
        let key = reader.value::<String>()?;
        reader.expect(b":")?;
        match key.trim() {
            "SkipFiles" => reader.names(&mut read.request.skip_files)?,
            key @ ("RemoteSource" | "RemoteDestination")
                if paths == Paths::Literal && reader.peek() == Some(b'"') =>
            {
                let value = Value::Text(reader.literal()?);
                assign(&mut read.request, key, Given { value, raw: b"" })?;
            }
            key @ ("RemoteSource" | "RemoteDestination" | "CheckMarkFile" | "CopyFlag"
            | "Verify" | "OperationId") => assign(&mut read.request, key, reader.given()?)?,
            unknown => {
                reader.value::<IgnoredAny>()?;
                if read.unknown_keys.len() < UNKNOWN_KEYS_MAX {
                    read.unknown_keys.push(unknown.chars().take(UNKNOWN_KEY_CHARS).collect());
                }
            }
        }
        if reader.expect(b",}")? == b'}' {
            break;
        }
    }
    Ok(read)
}

/// Sets the field of a key. `null` sets the default; a repeated key replaces the earlier value.
fn assign(request: &mut CopyRequest, key: &str, given: Given<'_>) -> Result<(), Error> {
    match key {
        "RemoteSource" => request.source = text(key, "source", given)?,
        "RemoteDestination" => request.destination = text(key, "destination", given)?,
        "OperationId" => request.operation_id = text(key, "operation_id", given)?,
        "CheckMarkFile" => request.check_mark_file = flag(key, "check_mark_file", &given)?,
        "Verify" => request.verify = flag(key, "verify", &given)?,
        "CopyFlag" => request.if_exists = if_exists(&given)?.into(),
        _ => {}
    }
    Ok(())
}

/// The string of a value. A number counts as its text.
fn text(key: &str, field: &'static str, given: Given<'_>) -> Result<String, Error> {
    match given.value {
        Value::Null => Ok(String::new()),
        Value::Text(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(_) | Value::Nested => {
            Err(Error::invalid(field, format!("{key} is {}; give a string", snippet(given.raw))))
        }
    }
}

/// `true` or `false`.
fn flag(key: &str, field: &'static str, given: &Given<'_>) -> Result<bool, Error> {
    match given.value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(flag),
        Value::Number(_) | Value::Text(_) | Value::Nested => {
            let value = snippet(given.raw);
            Err(Error::invalid(field, format!("{key} is {value}; give true or false")))
        }
    }
}

/// The meaning of `CopyFlag`.
fn if_exists(given: &Given<'_>) -> Result<IfExists, Error> {
    let number = match &given.value {
        Value::Null => Some(OVERWRITE),
        Value::Number(number) => number.as_i64(),
        Value::Text(name) => match name.as_str() {
            REPLACE_SAME_KIND => return Ok(IfExists::ReplaceSameKind),
            "Invalid" => Some(0),
            "Echo" => Some(1),
            "Overwrite" => Some(OVERWRITE),
            digits => content_range::number(digits).and_then(|number| number.try_into().ok()),
        },
        Value::Bool(_) | Value::Nested => None,
    };
    match number {
        Some(OVERWRITE) => Ok(IfExists::Overwrite),
        Some(_) => Ok(IfExists::Keep),
        None => {
            let value = snippet(given.raw);
            let message = format!(
                "CopyFlag is {value}; give 'Overwrite', 'Echo', '{REPLACE_SAME_KIND}' or a number"
            );
            Err(Error::invalid("if_exists", message))
        }
    }
}

/// A parser of a body.
struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The bytes that are not parsed yet.
    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// Skips white space, and returns the byte after it without taking it.
    fn peek(&mut self) -> Option<u8> {
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(space).count();
        self.rest().first().copied()
    }

    /// Skips white space, and takes the next byte, which must be one of `any`.
    fn expect(&mut self, any: &[u8]) -> Result<u8, Error> {
        let found = self.peek().filter(|byte| any.contains(byte));
        let byte = found.ok_or_else(|| {
            let expected: Vec<_> = any.iter().map(|&byte| char::from(byte).to_string()).collect();
            self.refused(&format!("'{}'", expected.join("' or '")))
        })?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes a JSON value.
    fn value<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let mut values = Deserializer::from_slice(self.rest()).into_iter::<T>();
        let value = values.next().and_then(Result::ok);
        let length = values.byte_offset();
        let value = value.ok_or_else(|| self.refused("a JSON value"))?;
        self.at += length;
        Ok(value)
    }

    /// Takes a JSON value of any type, without building arrays and objects.
    fn given(&mut self) -> Result<Given<'a>, Error> {
        self.peek();
        let from = self.rest();
        let value = self.value()?;
        let raw = from.get(..from.len() - self.rest().len()).unwrap_or_default();
        Ok(Given { value, raw })
    }

    /// Takes a skip list and adds its names; a repeated key adds to the earlier list. Names above
    /// [`SKIP_FILES_MAX`] are counted but not kept, since short names take more bytes in memory than in the body.
    fn names(&mut self, names: &mut Vec<String>) -> Result<(), Error> {
        let refused = |given: &Given<'_>| {
            let value = snippet(given.raw);
            Error::invalid("skip_files", format!("SkipFiles has {value}; give an array of strings"))
        };
        if self.peek() != Some(b'[') {
            let given = self.given()?;
            return if given.value == Value::Null { Ok(()) } else { Err(refused(&given)) };
        }
        self.expect(b"[")?;
        if self.peek() == Some(b']') {
            return self.expect(b"]").map(drop);
        }
        let mut bytes: usize = names.iter().map(String::len).sum();
        let mut count = names.len();
        loop {
            count += 1;
            if count > SKIP_FILES_MAX {
                self.value::<IgnoredAny>()?;
            } else {
                let given = self.given()?;
                if given.value == Value::Null {
                    return Err(refused(&given));
                }
                let name = text("an element of SkipFiles", "skip_files", given)?;
                bytes += name.len();
                if bytes > SKIP_FILES_BYTES_MAX {
                    let message = format!(
                        "the names of skip_files have more than {SKIP_FILES_BYTES_MAX} bytes; give fewer \
                         or shorter ones"
                    );
                    return Err(Error::new(Kind::TooLarge, message).field("skip_files"));
                }
                names.push(name);
            }
            if self.expect(b",]")? == b']' {
                break;
            }
        }
        if count > SKIP_FILES_MAX {
            let message =
                format!("skip_files has {count} names; a copy has at most {SKIP_FILES_MAX}");
            return Err(Error::new(Kind::TooLarge, message).field("skip_files"));
        }
        Ok(())
    }

    /// Takes a string in which every backslash is literal, except in `\uXXXX`.
    fn literal(&mut self) -> Result<String, Error> {
        let inside = self.rest().get(1..).unwrap_or_default();
        let end = inside.iter().position(|&byte| byte == b'"');
        let bytes = end.and_then(|end| inside.get(..end));
        let raw = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = raw.and_then(unescape).ok_or_else(|| self.refused("a string"))?;
        self.at += raw.map_or(0, |raw| raw.len() + 2);
        Ok(text)
    }

    /// The error for an unexpected byte.
    fn refused(&self, expected: &str) -> Error {
        let (at, found) = (self.at, snippet(self.rest()));
        Error::invalid("body", format!("the body has {found} at byte {at}, not {expected}"))
    }
}

/// Replaces each well-formed `\uXXXX`; `None` for half of a surrogate pair.
fn unescape(raw: &str) -> Option<String> {
    let mut pieces = raw.split("\\u");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    let mut high = None;
    for piece in pieces {
        let digits = piece.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let units = match (high.take(), unit) {
            (Some(high), unit) => vec![high, unit?],
            (None, Some(unit)) if (0xd800..0xdc00).contains(&unit) && piece.len() == 4 => {
                high = Some(unit);
                continue;
            }
            (None, Some(unit)) => vec![unit],
            (None, None) => {
                text.push_str("\\u");
                text.push_str(piece);
                continue;
            }
        };
        text.push_str(&String::from_utf16(&units).ok()?);
        text.push_str(piece.get(4..).unwrap_or_default());
    }
    high.is_none().then_some(text)
}

/// The beginning of some bytes, escaped for an error message.
fn snippet(bytes: &[u8]) -> String {
    let beginning = bytes.get(..SNIPPET_BYTES).unwrap_or(bytes);
    if beginning.is_empty() {
        return "its end".to_owned();
    }
    String::from_utf8_lossy(beginning).escape_debug().to_string()
}

#[cfg(test)]
mod tests;
