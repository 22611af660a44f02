//! The digests that a client sends with a body (`Content-MD5`, `Content-Digest`), and their verification.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::HeaderMap;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::answer::Failure;
use crate::{error::Kind, limits::OFFLOAD_BYTES_MIN, offload};

/// Pieces of a body from this size on are hashed on the blocking pool. Hashing this many bytes takes a tenth of a
/// millisecond; many pieces can arrive at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The expected digests of a body, each with the hasher of the received bytes.
#[derive(Debug, Default)]
pub(super) struct Digests {
    md5: Option<(Md5, Vec<u8>)>,
    sha256: Option<(Sha256, Vec<u8>)>,
}

impl Digests {
    /// Parses `Content-MD5` and the `sha-256` of `Content-Digest` (RFC 9530). Other algorithms are
    /// ignored.
    ///
    /// # Errors
    /// `Kind::InvalidArgument` for a malformed header.
    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut digests = Self::default();
        for value in headers.get_all("content-md5") {
            let text = value.to_str().unwrap_or_default().trim();
            let bytes = decode::<Md5>(text).ok_or_else(|| {
                malformed("Content-MD5", text, "the 16 bytes of an MD5 in base64")
            })?;
            digests.md5 = Some((Md5::new(), bytes));
        }
        for value in headers.get_all("content-digest") {
            let text = value.to_str().unwrap_or_default();
            for member in text.split(',') {
                let refused = || malformed("Content-Digest", text, "as in 'sha-256=:BASE64:'");
                let (name, digest) = member.trim().split_once('=').ok_or_else(refused)?;
                let digest = digest.split(';').next().unwrap_or_default().trim();
                let digest = digest.strip_prefix(':').and_then(|d| d.strip_suffix(':'));
                let digest = digest.ok_or_else(refused)?;
                if name == "sha-256" {
                    let bytes = decode::<Sha256>(digest).ok_or_else(refused)?;
                    digests.sha256 = Some((Sha256::new(), bytes));
                }
            }
        }
        Ok(digests)
    }

    /// Adds bytes of the body.
    pub(super) async fn add(mut self, bytes: &Bytes) -> Self {
        if self.md5.is_none() && self.sha256.is_none() {
            return self;
        }
        let (bytes, work) = (bytes.clone(), bytes.len() * (OFFLOAD_BYTES_MIN / PIECE_BYTES));
        offload::run(work, move || {
            self.update(&bytes);
            self
        })
        .await
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some((hash, _)) = &mut self.md5 {
            hash.update(bytes);
        }
        if let Some((hash, _)) = &mut self.sha256 {
            hash.update(bytes);
        }
    }

    /// Compares the digests. To be called when the body is complete.
    ///
    /// # Errors
    /// `Kind::InvalidArgument` if a digest differs.
    pub(super) fn verify(self) -> Result<(), Failure> {
        compare("MD5", "Content-MD5", self.md5)?;
        compare("SHA-256", "Content-Digest", self.sha256)
    }
}

/// Decodes a digest from base64; `None` if its length is not that of the algorithm.
fn decode<D: Digest>(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|bytes| bytes.len() == <D as Digest>::output_size())
}

/// The failure of a malformed header.
fn malformed(header: &str, text: &str, expected: &str) -> Failure {
    let message = format!("the {header} '{text}' is not {expected}");
    Failure::new(Kind::InvalidArgument, message)
}

/// Compares one digest.
fn compare<D: Digest>(name: &str, header: &str, pair: Option<(D, Vec<u8>)>) -> Result<(), Failure> {
    let Some((hash, expected)) = pair else { return Ok(()) };
    let actual = hash.finalize();
    if *actual == *expected {
        return Ok(());
    }
    let (actual, expected) = (STANDARD.encode(actual), STANDARD.encode(expected));
    let message =
        format!("the {name} of the body is {actual}, {header} says {expected}; nothing is stored");
    Err(Failure::new(Kind::InvalidArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";
    const SHA256: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

    fn digest(name: &'static str, value: &str) -> Result<Digests, Failure> {
        let headers = HeaderMap::from_iter([(
            name.parse().expect("a name"),
            value.parse().expect("a value"),
        )]);
        Digests::parse(&headers)
    }

    /// Whether the digests of a header match a body.
    fn holds(name: &'static str, value: &str, body: &str) -> bool {
        let mut digests = digest(name, value).expect(value);
        let (first, second) = body.as_bytes().split_at(1);
        digests.update(first);
        digests.update(second);
        digests.verify().is_ok()
    }

    #[test]
    fn a_digest_is_that_of_the_bytes() {
        assert!(holds("content-md5", MD5, "hello"));
        assert!(!holds("content-md5", MD5, "hellO"));
        assert!(holds("content-digest", SHA256, "hello"));
        assert!(!holds("content-digest", SHA256, "hellO"));
        assert!(holds("content-digest", &format!("sha-512=:AAAA:, {SHA256};x=1"), "hello"));
        assert!(holds("content-digest", "unixsum=:AA==:", "hello"));
        assert!(holds("host", "x", "hello"));
    }

    #[test]
    fn a_malformed_digest_is_refused() {
        for value in ["", "x", "5d41402abc4b2a76b9719d911017c592", "XUFAKrxLKna5cZ2REBfF"] {
            assert!(digest("content-md5", value).is_err(), "{value}");
        }
        for value in ["", "sha-256", "sha-256=abc", "sha-256=:abc:", "sha-256=:AAAA:", "sha-512"] {
            assert!(digest("content-digest", value).is_err(), "{value}");
        }
    }
}
