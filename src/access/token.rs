//! The secret of a token: `imagestore_`, 8 characters of the id of the token, 32 random ones, and 6 of a checksum. All
//! are letters and digits, so that a double click selects the secret, and a scan for leaked secrets finds it.
//!
//! 32 random characters have 190 bits, so that a fast hash keeps the secret as well as a slow one would.

use crate::{
    error::{Error, Result},
    model::Digest,
    secret::Secret,
};

/// What every secret begins with.
pub const TOKEN_PREFIX: &str = "imagestore_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARS: usize = 8;
const RANDOM_CHARS: usize = 32;
const CHECKSUM_CHARS: usize = 6;

/// Makes a new id of a token.
///
/// # Errors
/// `Internal` if the system has no random numbers.
pub fn new_token_id() -> Result<String> {
    random(ID_CHARS)
}

/// Makes a new secret of the token with an id. Returns it with its digest, which the store keeps.
///
/// # Errors
/// `Internal` if the system has no random numbers.
pub fn new_token_secret(id: &str) -> Result<(Secret, Digest)> {
    let mut text = format!("{TOKEN_PREFIX}{id}{}", random(RANDOM_CHARS)?);
    text.push_str(&checksum(&text));
    let digest = Digest::of(text.as_bytes());
    Ok((Secret::from(text), digest))
}

/// Reads a secret: the id of its token, and its digest. `None` for a text that is not one: a wrong checksum shows that
/// without a look-up.
pub fn read_token_secret(text: &str) -> Option<(&str, Digest)> {
    let chars = text.strip_prefix(TOKEN_PREFIX)?;
    let is_long = chars.len() == ID_CHARS + RANDOM_CHARS + CHECKSUM_CHARS;
    if !is_long || !chars.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (begin, end) = text.split_at_checked(text.len() - CHECKSUM_CHARS)?;
    (checksum(begin) == end).then_some(())?;
    Some((chars.get(..ID_CHARS)?, Digest::of(text.as_bytes())))
}

/// The CRC-32 (IEEE) of a text, as base-62 digits.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = character(rest % ALPHABET.len());
        rest /= ALPHABET.len();
    }
    digits.map(char::from).iter().collect()
}

fn character(number: usize) -> u8 {
    ALPHABET.get(number).copied().unwrap_or(b'0')
}

/// Random characters, each as likely as any other: a byte above the last multiple of their number is not used.
fn random(count: usize) -> Result<String> {
    const LIMIT: usize = 256 / ALPHABET.len() * ALPHABET.len();
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < LIMIT);
        let chars = fair.map(|byte| char::from(character(byte % ALPHABET.len())));
        text.extend(chars.take(count - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_secret_names_its_token() {
        let id = new_token_id().expect("an id");
        let (secret, digest) = new_token_secret(&id).expect("a secret");
        assert_eq!(secret.expose().len(), TOKEN_PREFIX.len() + 46);
        assert_eq!(read_token_secret(secret.expose()), Some((id.as_str(), digest)));
        let (other, _) = new_token_secret(&id).expect("a secret");
        assert_ne!(secret, other);
    }

    #[test]
    fn the_checksum_is_that_of_crc_32() {
        // 0xCBF43926, the check value of CRC-32 (IEEE), is 3_421_780_262.
        assert_eq!(checksum("123456789"), "3jZRME");
        let digits = |text: &str| {
            text.bytes().fold(0, |value: usize, byte| {
                value * 62 + ALPHABET.iter().position(|c| *c == byte).expect("a digit")
            })
        };
        assert_eq!(digits("3jZRME"), 0xCBF4_3926);
    }

    #[test]
    fn a_text_with_an_error_is_no_secret() {
        let (secret, _) = new_token_secret("abcdEFG1").expect("a secret");
        let text = secret.expose();
        for at in TOKEN_PREFIX.len()..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).expect("text");
            assert_eq!(read_token_secret(&changed), None, "{at}");
        }
        let long = format!("{text}0");
        let umlaut = text.replacen("abcd", "a\u{fc}b", 1);
        let (short, _) = text.split_at(text.len() - 1);
        let (_, late) = text.split_at(1);
        for wrong in ["", TOKEN_PREFIX, short, late, &long, &umlaut] {
            assert_eq!(read_token_secret(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_character_is_used() {
        let text = random(10_000).expect("random");
        let seen: HashSet<char> = text.chars().collect();
        assert_eq!(seen.len(), ALPHABET.len());
    }
}
