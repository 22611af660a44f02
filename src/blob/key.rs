//! The keys of objects.

use uuid::Uuid;

/// The folders of the objects: the first two hexadecimal digits of every digest.
pub fn prefixes() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|first| format!("{first:02x}"))
}

/// Makes a new, unique key: a folder named by the first two digits of the digest, then the digest, the run of
/// the server that puts the object, and 122 random bits. `digest` is the BLAKE3 digest of the bytes.
pub fn new_key(digest: &[u8; 32], run: u64) -> String {
    let [first, ..] = digest;
    let digest = blake3::Hash::from_bytes(*digest).to_hex();
    format!("{first:02x}/{digest}-{run:016x}-{}", Uuid::new_v4().simple())
}

/// The run of the server that made a key; `None` for the key of an older program, which names no run.
pub fn run_of(key: &str) -> Option<u64> {
    let (_, rest) = key.split_once('-')?;
    let (run, _) = rest.split_once('-')?;
    u64::from_str_radix(run, 16).ok()
}

/// Whether [`new_key`] can have made this key, in this program or in an older one that did not name the run.
pub(super) fn is_key(key: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some((prefix, name)) = key.split_once('/') else { return false };
    let is_named = match name.split('-').collect::<Vec<_>>().as_slice() {
        [digest, run, chance] => hex(digest, 64) && hex(run, 16) && hex(chance, 32),
        [digest, chance] => hex(digest, 64) && hex(chance, 32),
        _ => false,
    };
    hex(prefix, 2) && is_named && name.starts_with(prefix)
}
