//! The path of a request, split into the content path and the call, which begins with the first segment `$`.
//!
//! axum matches literals before it decodes, so that `%24/Copy` and `a%2Fb` would be wrong: this parser is used behind
//! one catch-all route. The path is split on `/` first, and the segments are decoded after that, so that an encoded
//! separator belongs to the content path and never begins a call.

use crate::error::{Error, Kind};

/// The first segment of a path that the gateway serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `ImageStore`: every call on the store.
    ImageStore,
    /// `Packages`: folders as archives.
    Packages,
}

impl Prefix {
    const ALL: [Self; 2] = [Self::ImageStore, Self::Packages];

    /// The segment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageStore => "ImageStore",
            Self::Packages => "Packages",
        }
    }
}

/// The parsed path of a request below `/ImageStore` or `/Packages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The first segment.
    pub prefix: Prefix,
    /// The decoded content path, not empty; `None` for the root.
    pub content: Option<String>,
    /// The decoded segments from the first `$` on, including `$`.
    pub call: Vec<String>,
}

/// The suffixes of packages.
pub(super) const PACKAGE_SUFFIXES: [&str; 2] = [".sfpkg", ".zip"];

impl Target {
    /// What a link can be for: the bytes of a file (`ImageStore`), or a folder as a package (`Packages`); with its path.
    pub fn linked(self) -> Option<(Prefix, String)> {
        let content = self.content?;
        match self.prefix {
            Prefix::ImageStore if self.call == ["$", "Content"] => Some((self.prefix, content)),
            Prefix::Packages if self.call.is_empty() => {
                let mut suffixes = PACKAGE_SUFFIXES.iter();
                let path = suffixes.find_map(|suffix| content.strip_suffix(suffix))?;
                Some((self.prefix, path.to_owned()))
            }
            Prefix::ImageStore | Prefix::Packages => None,
        }
    }
}

/// Parses the raw path of a request; `None` if the path has neither prefix.
///
/// # Errors
/// `Kind::InvalidArgument` if the prefix has another letter case, an escape is malformed, the
/// bytes are not UTF-8, or the content path has only separators and spaces.
pub fn parse(raw: &str) -> Result<Option<Target>, Error> {
    let mut segments = raw.split('/').filter(|segment| !segment.is_empty());
    let Some(Ok(first)) = segments.next().map(decode) else { return Ok(None) };
    let is_named = |prefix: &Prefix| first.eq_ignore_ascii_case(prefix.as_str());
    let Some(prefix) = Prefix::ALL.into_iter().find(is_named) else { return Ok(None) };
    if first != prefix.as_str() {
        let message = format!("'{first}' is written '{}'", prefix.as_str());
        return Err(Error::invalid("path", message));
    }
    let mut content = Vec::new();
    let mut call = Vec::new();
    for segment in segments {
        let segment = decode(segment)?;
        let target = if call.is_empty() && segment != "$" { &mut content } else { &mut call };
        target.push(segment);
    }
    let content = (!content.is_empty()).then(|| content.join("/"));
    if let Some(content) = &content
        && normalize(content).is_empty()
    {
        return Err(Error::invalid("path", format!("the path '{content}' names nothing")));
    }
    Ok(Some(Target { prefix, content, call }))
}

/// Decodes percent escapes.
///
/// # Errors
/// `Kind::InvalidArgument` if an escape is malformed or the bytes are not UTF-8.
pub fn decode(text: &str) -> Result<String, Error> {
    let malformed = || {
        Error::new(
            Kind::InvalidArgument,
            format!("'{text}' is not percent-encoded UTF-8; write '%' as '%25'"),
        )
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = bytes.next().and_then(hex).zip(bytes.next().and_then(hex));
            let (high, low) = digits.ok_or_else(malformed)?;
            decoded.push(high << 4 | low);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The characters that are escaped: all except the unreserved characters and `/`.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Percent-encodes a text for a query.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, ESCAPED).to_string()
}

/// Normalizes a path to its form in responses: without spaces at both ends and empty segments, with `/` as the
/// separator.
pub fn normalize(path: &str) -> String {
    let trimmed = path.trim_matches([' ', '/', '\\']);
    trimmed.split(['/', '\\']).filter(|name| !name.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, content: Option<&str>, call: &[&str]) {
        let target = parse(raw).expect("a path").expect("below the prefix");
        assert_eq!(target.content.as_deref(), content, "{raw}");
        assert_eq!(target.call, call, "{raw}");
        assert_eq!(target.prefix, Prefix::ImageStore, "{raw}");
    }

    #[test]
    fn a_path_names_content_and_a_call() {
        check("/ImageStore", None, &[]);
        check("//ImageStore//", None, &[]);
        check("/%49mageStor%65/a", Some("a"), &[]);
        check("/ImageStore/a/b", Some("a/b"), &[]);
        check("/ImageStore//a///b/", Some("a/b"), &[]);
        check("/ImageStore/$/Copy", None, &["$", "Copy"]);
        check("/ImageStore/%24/Copy", None, &["$", "Copy"]);
        check("/ImageStore/%24/%43opy", None, &["$", "Copy"]);
        check("/ImageStore/a/b/$/UploadChunk", Some("a/b"), &["$", "UploadChunk"]);
        check("/ImageStore/a/$", Some("a"), &["$"]);
        check(
            "/ImageStore/$/Operations/7/$/Cancel",
            None,
            &["$", "Operations", "7", "$", "Cancel"],
        );
    }

    #[test]
    fn a_package_has_its_own_prefix() {
        let target = parse("/Packages/a/b%20c.zip").expect("a path").expect("below the prefix");
        assert_eq!(
            (target.prefix, target.content.as_deref()),
            (Prefix::Packages, Some("a/b c.zip"))
        );
        assert!(target.call.is_empty());
    }

    #[test]
    fn an_encoded_separator_belongs_to_the_content() {
        check("/ImageStore/a%2Fb", Some("a/b"), &[]);
        check("/ImageStore/a%5Cb", Some("a\\b"), &[]);
        check("/ImageStore/a\\b", Some("a\\b"), &[]);
        check("/ImageStore/%24%2FCopy", Some("$/Copy"), &[]);
        check("/ImageStore/a%20b+c", Some("a b+c"), &[]);
        check("/ImageStore/%C3%A4", Some("ä"), &[]);
        check("/ImageStore/%252F", Some("%2F"), &[]);
    }

    #[test]
    fn a_malformed_path_is_refused() {
        for raw in ["%", "%4", "%zz", "%+1", "a%2", "%ff", "%C3", "%20", "%5C%2F", "%20/%20"] {
            let error = parse(&format!("/ImageStore/{raw}")).expect_err(raw);
            assert_eq!(error.kind(), Kind::InvalidArgument, "{raw}");
        }
        assert!(parse("/imagestore/a").is_err());
        assert!(parse("/%69magestore/a").is_err());
        assert!(parse("/IMAGESTORE").is_err());
        assert!(parse("/packages/a.zip").is_err());
    }

    #[test]
    fn other_prefixes_are_not_ours() {
        for raw in [
            "",
            "/",
            "/health",
            "/ImageStores",
            "/$/GetClusterVersion",
            "/a/ImageStore",
            "/ImageStore%2Fa",
            "/%zz/a",
        ] {
            assert_eq!(parse(raw).expect("no error"), None, "{raw}");
        }
    }

    #[test]
    fn paths_are_normalized_as_in_answers() {
        for (path, normal) in
            [("", ""), ("a", "a"), (" \\a\\\\b/ ", "a/b"), ("/a b/c", "a b/c"), ("//", "")]
        {
            assert_eq!(normalize(path), normal, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(raw in ".*") {
            drop(parse(&raw));
            drop(parse(&format!("/ImageStore/{raw}")));
        }

        #[test]
        fn an_encoded_text_decodes_to_itself(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.is_ascii() && !encoded.contains(['=', '&', '+', '#', ' ', '\\']));
            prop_assert_eq!(decode(&encoded).expect("it was encoded"), text);
        }
    }
}
