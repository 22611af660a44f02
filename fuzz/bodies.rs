//! What must hold for whatever a client sends to a parser: one body for each parser.
//!
//! The test run drives them over the corpus and a million inputs made from it
//! (`tests/spec/parsers.rs`); cargo-fuzz drives the same ones for as long as it is let.

#![allow(dead_code, reason = "a fuzz target uses one of them")]

use imagestore::{
    error::{Error, Kind},
    limits,
    model::StorePath,
    rest::{api_version, content_range, copy_body, path, query},
};
use serde_json::Value;

/// A parser's name, which is that of its corpus and its target, and its body.
pub(crate) type Body = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: [Body; 5] = [
    ("api_version", api_version),
    ("content_range", content_range),
    ("copy_body", copy_body),
    ("path", path),
    ("query", query),
];

/// The path of a URL, and the path in the store that it names.
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

/// A path in the store: what it is refused for, or the form in which it is kept, which means itself.
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

/// The body of a copy. Where it is JSON and names legal paths, it means what JSON says.
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

/// The `Content-Range` of a chunk, which ends within its file.
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

/// The api-version of a query.
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

/// A query. Only whole pairs count, and the first of a name.
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

/// A refusal is of an expected kind and says something.
fn refused(error: &Error, kinds: &[Kind]) {
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(!error.message().is_empty());
}
