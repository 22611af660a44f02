//! The public keys of an issuer (RFC 7517), and the signatures of JWTs that they verify.
//!
//! `ring` verifies: it is the one provider of cryptography, and the crates for JWTs that use it accept more than this
//! server does, or bring another provider.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use tokio_util::sync::CancellationToken;

use crate::limits::{ISSUER_KEY_NAME_BYTES_MAX, ISSUER_KEYS_MAX, RSA_BITS_MAX, RSA_BITS_MIN};

/// The first byte of the form of a point on a curve that has both coordinates (SEC 1, section 2.3.3).
const BOTH_COORDINATES: u8 = 4;
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
const ED25519_BYTES: usize = 32;

/// The algorithms of signatures that are taken. Their names are those of RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub(super) enum Algorithm {
    #[strum(serialize = "RS256")]
    Rs256,
    #[strum(serialize = "PS256")]
    Ps256,
    #[strum(serialize = "ES256")]
    Es256,
    #[strum(serialize = "ES384")]
    Es384,
    #[strum(serialize = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Finds an algorithm by its name; `None` if it is not taken.
    pub(super) fn named(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The names of all algorithms.
    pub(super) fn names() -> String {
        let names: Vec<&str> = Self::VARIANTS.iter().map(Into::into).collect();
        names.join(", ")
    }
}

/// A public key that signs JWTs.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    /// The only algorithm that it is for, if its issuer says so.
    only: Option<Algorithm>,
    public: Public,
    /// Cancelled when the issuer no longer has it.
    pub(super) gone: CancellationToken,
}

#[derive(Debug, PartialEq, Eq)]
enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A set of keys as JSON has it.
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A key as JSON has it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    /// Whether the key has this id, and verifies signatures of this algorithm.
    pub(super) fn is(&self, id: &str, algorithm: Algorithm) -> bool {
        let fits = match self.public {
            Public::Rsa { .. } => matches!(algorithm, Algorithm::Rs256 | Algorithm::Ps256),
            Public::P256(_) => algorithm == Algorithm::Es256,
            Public::P384(_) => algorithm == Algorithm::Es384,
            Public::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        self.id == id && fits && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether a signature of an algorithm of this key is good.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified =
            match &self.public {
                Public::Rsa { modulus, exponent } => {
                    let scheme = if algorithm == Algorithm::Ps256 {
                        &RSA_PSS_2048_8192_SHA256
                    } else {
                        &RSA_PKCS1_2048_8192_SHA256
                    };
                    RsaPublicKeyComponents { n: modulus, e: exponent }
                        .verify(scheme, message, signature)
                }
                Public::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature),
                Public::P384(point) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature),
                Public::Ed25519(key) => {
                    UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
                }
            };
        verified.is_ok()
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.id, self.only, &self.public) == (&other.id, other.only, &other.public)
    }

    /// Reads a key; `None` if it is not one that signs JWTs, or is too weak.
    fn read(jwk: Jwk) -> Option<Self> {
        let signs = jwk.purpose.is_none_or(|purpose| purpose == "sig")
            && jwk.key_ops.is_none_or(|list| list.iter().any(|name| name == "verify"));
        let is_named = !jwk.kid.is_empty() && jwk.kid.len() <= ISSUER_KEY_NAME_BYTES_MAX;
        let only = match &jwk.alg {
            Some(name) => Some(Algorithm::named(name)?),
            None => None,
        };
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => rsa(&bytes(&jwk.n)?, &bytes(&jwk.e)?)?,
            ("EC", Some("P-256")) => {
                Public::P256(point(&bytes(&jwk.x)?, &bytes(&jwk.y)?, P256_BYTES)?)
            }
            ("EC", Some("P-384")) => {
                Public::P384(point(&bytes(&jwk.x)?, &bytes(&jwk.y)?, P384_BYTES)?)
            }
            ("OKP", Some("Ed25519")) => {
                Public::Ed25519(bytes(&jwk.x).filter(|key| key.len() == ED25519_BYTES)?)
            }
            _ => return None,
        };
        let key = Self { id: jwk.kid, only, public, gone: CancellationToken::new() };
        (signs && is_named).then_some(key)
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Public> {
    let bare = |number: &[u8]| -> Option<Vec<u8>> {
        let start = number.iter().position(|byte| *byte != 0)?;
        number.get(start..).map(<[u8]>::to_vec)
    };
    let (modulus, exponent) = (bare(modulus)?, bare(exponent)?);
    let first = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).checked_sub(first)?;
    (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits).then_some(Public::Rsa { modulus, exponent })
}

fn point(x: &[u8], y: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let fits = x.len() == bytes && y.len() == bytes;
    fits.then(|| [&[BOTH_COORDINATES], x, y].concat())
}

/// Reads a set of keys, at most [`ISSUER_KEYS_MAX`]. Keys of other kinds, and those that are too weak, are left out. A
/// key that is in `before` too is the same one.
///
/// # Errors
/// Says why it is no such set.
pub(super) fn read(json: &[u8], before: &[Arc<Key>]) -> Result<Vec<Arc<Key>>, String> {
    let set: Set = serde_json::from_slice(json)
        .map_err(|error| format!("its answer is no set of keys: {error}"))?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    let keys = keys.filter_map(Key::read).take(ISSUER_KEYS_MAX).map(|key| {
        let same = before.iter().find(|other| other.is_same(&key));
        same.map_or_else(|| Arc::new(key), Arc::clone)
    });
    Ok(keys.collect())
}
