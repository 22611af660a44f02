//! The properties that each parser of client text must have for every input: one function, called a body, for
//! each parser.
//!
//! `tests/spec/parsers.rs` runs the bodies over the corpus and over a million inputs derived from it;
//! cargo-fuzz runs the same bodies without a bound.

#![allow(dead_code, reason = "a fuzz target uses one of them")]

use imagestore::{
    error::{Error, Kind},
    limits,
    model::StorePath,
    rest::{api_version, content_range, copy_body, path, query},
};
use serde_json::Value;

/// The name of a parser, which is also the name of its corpus and its fuzz target, and its body.
pub(crate) type Body = (&'static str, fn(&[u8]));

/// The bodies of all parsers.
pub(crate) const ALL: [Body; 5] = [
    ("api_version", api_version),
    ("content_range", content_range),
    ("copy_body", copy_body),
    ("path", path),
    ("query", query),
];

/// Checks the parser of URL paths, and the store paths that they name.
pub(crate) fn path(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    store_path(raw);
    match path::parse(raw) {
        Err(error) => refused(&error, &[Kind::InvalidArgument]),
        Ok(None) => assert!(!raw.starts_with("/ImageStore/")),
        Ok(Some(target)) => {
            assert!(target.call.first().is_none_or(|first| first == "$"), "{target:?}");
            let Some(content) = target.content else { return };
            assert!(!path::normalize(&content).is_empty());
            assert_eq!(path::decode(&path::encode(&content)).ok().as_ref(), Some(&content));
            if let Some(stored) = store_path(&content) {
                let again = path::parse(&format!("/ImageStore/{}", path::encode(&stored)));
                let again = again.ok().flatten().and_then(|target| target.content);
                assert_eq!(again, Some(stored));
            }
        }
    }
}

/// Checks the parser of store paths. Returns the normalized path, which parses to itself; `None` if the text
/// is refused.
fn store_path(text: &str) -> Option<String> {
    let parsed = match StorePath::parse(text, "path") {
        Ok(parsed) => parsed,
        Err(error) => {
            refused(&error, &[Kind::InvalidArgument, Kind::PathTooLong]);
            return None;
        }
    };
    let kept = parsed.as_str();
    assert_eq!(kept, path::normalize(text));
    assert!(kept.len() <= limits::PATH_BYTES_MAX && parsed.depth() <= limits::PATH_DEPTH_MAX);
    for name in parsed.names() {
        assert!(!["", ".", "..", "$"].contains(&name), "{kept:?}");
        assert!(name.len() <= limits::NAME_BYTES_MAX && !name.ends_with(' '), "{kept:?}");
        assert!(!name.contains(|c: char| c.is_control() || "/\\\"<>|".contains(c)), "{kept:?}");
    }
    assert_eq!(StorePath::parse(kept, "path").ok(), Some(parsed.clone()));
    Some(kept.to_owned())
}

/// Checks the parser of a copy's request body: where the body is valid JSON with legal paths, the parser
/// returns these paths.
pub(crate) fn copy_body(data: &[u8]) {
    let parsed = copy_body::parse(data);
    match &parsed {
        Err(error) => refused(error, &[Kind::InvalidArgument]),
        Ok(copy_body::Body { request, .. }) => {
            assert!(!request.source.is_empty() && !request.destination.is_empty());
        }
    }
    let Ok(Value::Object(object)) = serde_json::from_slice(data) else { return };
    if object.keys().any(|key| key.trim() != key) {
        return;
    }
    let legal = |key: &str| {
        let text = object.get(key).and_then(Value::as_str)?;
        StorePath::parse(text, "path").is_ok().then_some(text)
    };
    let (Some(source), Some(destination)) = (legal("RemoteSource"), legal("RemoteDestination"))
    else {
        return;
    };
    if let Ok(copy_body::Body { request, .. }) = parsed {
        assert_eq!((&*request.source, &*request.destination), (source, destination));
    }
}

/// Checks the parser of a chunk's `Content-Range`: the range ends within the file.
pub(crate) fn content_range(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    match content_range::parse(value) {
        Err(error) => refused(&error, &[Kind::BadRange]),
        Ok(range) if range.total == 0 => assert_eq!((range.offset, range.length), (0, 0)),
        Ok(range) => {
            assert!(range.length > 0, "{range:?}");
            assert!(range.length <= range.total - range.offset, "{range:?}");
            let end = range.offset + (range.length - 1);
            let again = format!("bytes {}-{end}/{}", range.offset, range.total);
            assert_eq!(content_range::parse(&again).ok(), Some(range));
        }
    }
}

/// Checks the parser of the api-version.
pub(crate) fn api_version(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    match api_version::parse(value) {
        Err(error) => refused(&error, &[Kind::InvalidArgument]),
        Ok(version) => {
            assert!(version <= api_version::ApiVersion::NEWEST, "{value:?}");
            assert!(version.ticks() || version >= api_version::parse("3.0").expect("a version"));
        }
    }
}

/// Checks the parser of a query: a value comes from a whole `name=value` pair of the query.
pub(crate) fn query(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    let query = query::parse(raw);
    for name in raw.split(['&', '=']) {
        let Some(value) = query.value(name) else { continue };
        assert!(!value.is_empty() && !value.contains(['&', '=']), "{name:?}={value:?}");
        let pair = format!("{name}={value}");
        assert!(raw.split('&').any(|found| found == pair), "{pair:?}");
    }
    if let Some(timeout) = query.timeout() {
        assert!(timeout.as_secs() > 0 && timeout.as_secs() <= u32::MAX.into());
    }
    match query.continuation_token() {
        Err(error) => refused(&error, &[Kind::InvalidArgument, Kind::TooLarge]),
        Ok(token) => assert!(token.is_none_or(|token| token.len() <= limits::PATH_BYTES_MAX)),
    }
}

/// Checks that an error has an expected kind and a message.
fn refused(error: &Error, kinds: &[Kind]) {
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(!error.message().is_empty());
}
