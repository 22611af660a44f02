//! Links: addresses with which whoever has one reads one file or package, for some time, with the rights of its maker.
//!
//! A link has its end, its maker, and an HMAC-SHA-256 of both, of the path and of what is read, by a key of the store.
//! It is for the verbs `GET` and `HEAD`. The rights of the maker are looked up at each use, so a link allows no more
//! than its maker may do at that moment.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use super::{ANONYMOUS, Principal, shown};
use crate::{
    error::{Error, Kind, Result},
    limits::LINK_MAKER_BYTES_MAX,
    model::{Digest, StorePath},
    secret::Secret,
};

/// The query parameter with the end of a link, in seconds since 1970.
pub const LINK_EXPIRES: &str = "link-expires";
/// The query parameter with the maker of a link.
pub const LINK_MAKER: &str = "link-maker";
/// The query parameter with the signature of a link.
pub const LINK_SIGNATURE: &str = "link-signature";
/// The first line of what is signed. It changes with the form of that text.
const VERSION: &str = "imagestore-link-1";
/// The bytes of the digest of a secret by which a link names it.
const FINGERPRINT_BYTES: usize = 8;

/// What a link reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkForm {
    /// The bytes of a file.
    Content,
    /// A folder as an archive.
    Package,
    /// A folder as an archive whose files are compressed.
    DeflatedPackage,
}

impl LinkForm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Package => "package",
            Self::DeflatedPackage => "package-deflate",
        }
    }
}

/// Who has made a link, by what its rights are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A token: its id, and the secret that was used.
    Token {
        /// The id of the token.
        id: String,
        /// The secret.
        secret: Fingerprint,
    },
    /// Who has rights by the grants.
    Granted(Principal),
}

/// The beginning of the digest of a secret. It tells the secrets of one token apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl From<Digest> for Fingerprint {
    fn from(digest: Digest) -> Self {
        let mut bytes = [0; FINGERPRINT_BYTES];
        bytes.iter_mut().zip(digest.0).for_each(|(byte, of)| *byte = of);
        Self(bytes)
    }
}

impl Maker {
    /// Whether the maker has a credential that somebody else has issued, and may have revoked since: a certificate or a
    /// JWT. A link looks at the grants alone, so it does not notice.
    pub fn is_of_issuer(&self) -> bool {
        match self {
            Self::Token { .. } => false,
            Self::Granted(principal) => principal.names().iter().any(|name| name != ANONYMOUS),
        }
    }

    /// The text of a maker in a link, of the characters of base64url and dots.
    ///
    /// # Errors
    /// `TooLarge` for names and claims that are too long for an address.
    fn to_text(&self) -> Result<String> {
        let text = match self {
            Self::Token { id, secret } => format!("t.{id}.{}", URL_SAFE_NO_PAD.encode(secret.0)),
            Self::Granted(principal) => {
                let (names, claims) = principal.to_lines();
                let encode = |lines: String| URL_SAFE_NO_PAD.encode(lines);
                format!("g.{}.{}", encode(names), encode(claims))
            }
        };
        if text.len() > LINK_MAKER_BYTES_MAX {
            let message = "the names and claims of the caller are too long for a link; use a token";
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let (kind, rest) = text.split_once('.')?;
        match kind {
            "t" => {
                let (id, secret) = rest.split_once('.')?;
                let secret = Fingerprint(decode(secret)?.try_into().ok()?);
                Some(Self::Token { id: id.to_owned(), secret })
            }
            "g" => {
                let (names, claims) = rest.split_once('.')?;
                let lines = |text: &str| String::from_utf8(decode(text)?).ok();
                Some(Self::Granted(Principal::of_lines(&lines(names)?, &lines(claims)?)))
            }
            _ => None,
        }
    }
}

/// The key that signs the links of a store.
#[derive(Clone, Debug)]
pub struct LinkKey(hmac::Key);

/// The numbers as which a store keeps its key.
pub type LinkKeyNumbers = [i64; 4];

impl LinkKey {
    /// Makes the numbers of a new key.
    ///
    /// # Errors
    /// `Internal` if the system has no random numbers.
    pub fn new_numbers() -> Result<LinkKeyNumbers> {
        let mut numbers = [0; 4];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
            *number = i64::from_le_bytes(bytes);
        }
        Ok(numbers)
    }
}

impl From<LinkKeyNumbers> for LinkKey {
    fn from(numbers: LinkKeyNumbers) -> Self {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(i64::to_le_bytes).collect();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}

/// A link, without the path and the form that its address has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its end, in seconds since 1970.
    pub expires: i64,
    /// The maker.
    pub maker: Maker,
}

impl Link {
    /// The query parameters of the link, with its signature.
    ///
    /// # Errors
    /// `TooLarge` for a maker with too long names or claims.
    pub fn sign(&self, key: &LinkKey, form: LinkForm, path: &StorePath) -> Result<Secret> {
        let (expires, maker) = (self.expires.to_string(), self.maker.to_text()?);
        let tag = hmac::sign(&key.0, signed((form, path), &expires, &maker).as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(tag);
        Ok(Secret::from(format!(
            "{LINK_EXPIRES}={expires}&{LINK_MAKER}={maker}&{LINK_SIGNATURE}={signature}"
        )))
    }
}

/// What is signed. No part has a line feed.
fn signed((form, path): (LinkForm, &StorePath), expires: &str, maker: &str) -> String {
    let form = form.as_str();
    format!("{VERSION}\nGET\n{form}\n{path}\n{expires}\n{maker}")
}

/// The parameters of a link in a request, which are not checked yet.
#[derive(Clone, Debug)]
pub struct SignedLink {
    /// What the address reads.
    pub form: LinkForm,
    /// The path in the address.
    pub path: StorePath,
    /// The value of [`LINK_EXPIRES`].
    pub expires: String,
    /// The value of [`LINK_MAKER`].
    pub maker: String,
    /// The value of [`LINK_SIGNATURE`].
    pub signature: Secret,
}

impl SignedLink {
    /// Checks the signature, in a time that does not depend on how much of it is right.
    ///
    /// # Errors
    /// `Forbidden` for a link that is malformed, altered, for another address, or signed by another key.
    pub fn verify(&self, key: &LinkKey) -> Result<Link> {
        let Self { form, path, expires, maker, signature } = self;
        let tag = URL_SAFE_NO_PAD.decode(signature.expose()).unwrap_or_default();
        let text = signed((*form, path), expires, maker);
        let is_good = hmac::verify(&key.0, text.as_bytes(), &tag).is_ok();
        let parsed = expires.parse().ok().zip(Maker::parse(maker));
        let (expires, maker) = parsed.filter(|_| is_good).ok_or_else(|| {
            let what = match form {
                LinkForm::Content => "file",
                LinkForm::Package | LinkForm::DeflatedPackage => "package",
            };
            let path = shown(path.as_str());
            let message = format!(
                "the link is not one for the {what} '{path}': it was altered, is for another address, or all links \
                 were ended; ask for a new one"
            );
            Error::new(Kind::Forbidden, message)
        })?;
        Ok(Link { expires, maker })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PATH_BYTES_MAX;

    fn path(text: &str) -> StorePath {
        StorePath::parse(text, "path").expect("a path")
    }

    /// The parameters of a query, for an address.
    fn read(query: &Secret, form: LinkForm, at: &str) -> SignedLink {
        let value = |name: &str| {
            let pair = query.expose().split('&').find_map(|pair| pair.strip_prefix(name));
            pair.and_then(|rest| rest.strip_prefix('=')).expect("a value").to_owned()
        };
        SignedLink {
            form,
            path: path(at),
            expires: value(LINK_EXPIRES),
            maker: value(LINK_MAKER),
            signature: Secret::from(value(LINK_SIGNATURE)),
        }
    }

    fn makers() -> [Maker; 3] {
        let secret = Digest::of(b"secret").into();
        [
            Maker::Token { id: "abcd1234".to_owned(), secret },
            Maker::Granted(Principal::named(vec!["anonymous".to_owned()])),
            Maker::Granted(Principal::with_claims(
                vec!["x:a b&c=d".to_owned(), "x:group=ü".to_owned()],
                [("ref".to_owned(), "refs/heads/main".to_owned())].into(),
            )),
        ]
    }

    #[test]
    fn a_link_is_for_its_address_only() {
        let key = LinkKey::from(LinkKey::new_numbers().expect("random"));
        for maker in makers() {
            let link = Link { expires: 1_800_000_000, maker };
            let query = link.sign(&key, LinkForm::Package, &path("a/b")).expect("a link");
            let here = read(&query, LinkForm::Package, "a/b");
            assert_eq!(here.verify(&key).expect("good"), link);
            let other = |change: &dyn Fn(&mut SignedLink)| {
                let mut other = here.clone();
                change(&mut other);
                let error = other.verify(&key).expect_err("another link");
                assert_eq!(error.kind(), Kind::Forbidden);
                assert!(!error.message().contains(here.signature.expose()));
            };
            other(&|link| link.form = LinkForm::Content);
            other(&|link| link.path = path("a/c"));
            other(&|link| link.path = path("a"));
            other(&|link| link.expires = "1800000001".to_owned());
            other(&|link| link.expires = "01800000000".to_owned());
            other(&|link| link.maker.push('A'));
            other(&|link| link.maker = "g.YW5vbnltb3Vzc.".to_owned());
            for bad in ["", "%", "AAAA", &"A".repeat(43), &"A".repeat(PATH_BYTES_MAX)] {
                other(&|link| link.signature = Secret::from(bad.to_owned()));
            }
            let renewed = LinkKey::from(LinkKey::new_numbers().expect("random"));
            assert!(here.verify(&renewed).is_err(), "all links have ended");
        }
    }

    #[test]
    fn a_query_has_no_character_that_needs_an_escape() {
        let key = LinkKey::from([1, -2, 3, i64::MIN]);
        for maker in makers() {
            let link = Link { expires: 1, maker };
            let query = link.sign(&key, LinkForm::Content, &path("a")).expect("a link");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.=&".contains(c);
            assert!(query.expose().chars().all(is_plain), "{}", query.expose());
        }
    }

    #[test]
    fn a_maker_of_too_many_names_makes_no_link() {
        let names = vec!["a".repeat(100); LINK_MAKER_BYTES_MAX / 100];
        let error = Maker::Granted(Principal::named(names)).to_text().expect_err("long");
        assert_eq!(error.kind(), Kind::TooLarge);
    }
}
