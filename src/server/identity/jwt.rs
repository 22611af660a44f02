//! A JSON Web Token (RFC 7519): its form, and what is checked of it.
//!
//! Stricter than the standard where that is safe to ask for: `exp`, `iss`, `aud`, `sub` and `kid` are required, `iss` is
//! one text, and no critical parameter of the header is known.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::jwks::{Algorithm, Key};
use crate::{
    access::{GROUP, Issuer, Principal, shown},
    limits::{CLAIM_BYTES_MAX, JWT_GROUPS_MAX, JWT_LEEWAY, JWT_NAME_BYTES_MAX},
};

/// The last second of the year 9999, since 1970.
const SECONDS_MAX: f64 = 253_402_300_799.0;
/// The type of a token that ends a session, and is no credential (`OpenID` Connect Back-Channel Logout, section 2.4).
const LOGOUT: &str = "logout+jwt";

/// The claims or the header of a JWT.
type Object = Map<String, Value>;

/// A JWT of a good form, whose signature nobody has looked at.
pub(super) struct Jwt<'a> {
    /// Its claim `iss`.
    pub(super) issuer: String,
    /// The id of the key that has signed it.
    pub(super) key_id: String,
    /// How it is signed.
    pub(super) algorithm: Algorithm,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Object,
}

/// What a verified JWT says of its user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// Its names and claims.
    pub(super) principal: Principal,
    /// What is the same for all JWTs of this user.
    pub(super) credential: String,
    /// When it ends here, in microseconds since 1970.
    pub(super) ends_at: i64,
}

impl<'a> Jwt<'a> {
    /// Whether a text has the three parts of a JWT.
    pub(super) fn is_like(text: &str) -> bool {
        text.split('.').count() == 3
    }

    /// Reads the form of a JWT.
    ///
    /// # Errors
    /// Says why it is refused; the text follows "the JWT".
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let malformed = || "is malformed".to_owned();
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let header = object(header).ok_or_else(malformed)?;
        let claims = object(claims).ok_or_else(malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
        if header.contains_key("crit") {
            return Err(
                "has critical parameters ('crit'), which this server does not know".to_owned()
            );
        }
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str().ok_or("has a 'typ' that is no text")?.to_ascii_lowercase();
            if kind.strip_prefix("application/").unwrap_or(&kind) == LOGOUT {
                return Err("ends a session ('typ' is logout+jwt); send one for access".to_owned());
            }
        }
        let name = text_of(&header, "alg")?;
        let algorithm = Algorithm::named(name).ok_or_else(|| {
            format!("is signed by '{}'; accepted are {}", shown(name), Algorithm::names())
        })?;
        let key_id = text_of(&header, "kid")?.to_owned();
        let issuer = text_of(&claims, "iss")?.to_owned();
        Ok(Self { issuer, key_id, algorithm, signed, signature, claims })
    }

    /// Checks the signature by a key, then the claims for an issuer at a time in seconds since 1970.
    ///
    /// # Errors
    /// Says why it is refused; the text follows "the JWT".
    pub(super) fn verify(self, key: &Key, issuer: &Issuer, now: i64) -> Result<Verified, String> {
        if !key.is(&self.key_id, self.algorithm)
            || !key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature)
        {
            return Err("has a wrong signature".to_owned());
        }
        let claims = &self.claims;
        if self.issuer != issuer.url {
            return Err(format!("is of the issuer '{}'", shown(&self.issuer)));
        }
        check_audience(claims, &issuer.audience)?;
        let leeway = JWT_LEEWAY.as_secs() as i64;
        let end = seconds(claims, "exp")?.ok_or("has no 'exp'")?;
        if end.saturating_add(leeway) <= now {
            return Err(format!("has expired at {}", time(end)));
        }
        if let Some(start) = seconds(claims, "nbf")?.filter(|start| *start > now + leeway) {
            return Err(format!("is not valid before {}", time(start)));
        }
        let subject = text_of(claims, "sub")?;
        let user = text_of(claims, &issuer.user_claim)?;
        if !is_name(user) || user.starts_with(GROUP) {
            return Err(format!("has a user that is not accepted: '{}'", shown(user)));
        }
        let groups = groups(claims, issuer.groups_claim.as_deref());
        let groups = groups.map(|group| format!("{GROUP}{group}"));
        let names = std::iter::once(user.to_owned()).chain(groups);
        let names = names.map(|name| format!("{}:{name}", issuer.name)).collect();
        let digest =
            Sha256::new().chain_update(&issuer.url).chain_update([0]).chain_update(subject);
        let digits: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Verified {
            principal: Principal::with_claims(names, scalars(claims)),
            credential: format!("jwt:sha256={digits}"),
            ends_at: end.saturating_add(leeway).saturating_mul(1_000_000),
        })
    }
}

/// A part of a JWT that is a JSON object.
fn object(part: &str) -> Option<Object> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A claim or parameter that has to be a text.
fn text_of<'a>(object: &'a Object, name: &str) -> Result<&'a str, String> {
    match object.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::Null) | None => Err(format!("has no '{name}'")),
        Some(_) => Err(format!("has a '{name}' that is no text")),
    }
}

/// A claim that is a time in seconds since 1970, if there is one.
fn seconds(claims: &Object, name: &str) -> Result<Option<i64>, String> {
    let Some(value) = claims.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    #[allow(clippy::cast_possible_truncation, reason = "the bounds are checked")]
    let seconds = seconds.map(|seconds| seconds as i64);
    seconds.map(Some).ok_or_else(|| format!("has an '{name}' that is no number of seconds"))
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Checks that a JWT is for an audience: `aud` is a text, or a list of texts.
fn check_audience(claims: &Object, audience: &str) -> Result<(), String> {
    let list = match claims.get("aud") {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            texts.ok_or("has an 'aud' that is no list of texts")?
        }
        Some(Value::Null) | None => return Err("has no 'aud'".to_owned()),
        Some(_) => return Err("has an 'aud' that is no text".to_owned()),
    };
    if list.contains(&audience) {
        return Ok(());
    }
    let list = list.join("', '");
    Err(format!("is for the audience '{}', not for '{}'", shown(&list), shown(audience)))
}

/// The groups in a claim: a text, or a list. What cannot be a name is left out.
fn groups<'a>(claims: &'a Object, claim: Option<&str>) -> impl Iterator<Item = &'a str> {
    let list = match claim.and_then(|claim| claims.get(claim)) {
        Some(Value::Array(list)) => list.as_slice(),
        Some(text @ Value::String(_)) => std::slice::from_ref(text),
        _ => &[],
    };
    list.iter().filter_map(Value::as_str).filter(|group| is_name(group)).take(JWT_GROUPS_MAX)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= JWT_NAME_BYTES_MAX && !name.contains(char::is_control)
}

/// The claims that a grant can ask for: texts, booleans and whole numbers.
fn scalars(claims: &Object) -> BTreeMap<String, String> {
    let scalars = claims.iter().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) if !number.is_f64() => number.to_string(),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        let is_short = name.len() <= CLAIM_BYTES_MAX && text.len() <= CLAIM_BYTES_MAX;
        is_short.then(|| (name.clone(), text))
    });
    scalars.collect()
}
