//! The keys of objects.

use uuid::Uuid;

/// The folders of the objects: the first two hexadecimal digits of every digest.
pub fn prefixes() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|first| format!("{first:02x}"))
}

/// Makes a new, unique key: a folder named by the first two digits of the digest, then the digest, the id of the server
/// that puts the object, and 122 random bits. `digest` is the BLAKE3 digest of the bytes.
pub fn new_key(digest: &[u8; 32], server: Uuid) -> String {
    let [first, ..] = digest;
    let digest = blake3::Hash::from_bytes(*digest).to_hex();
    format!("{first:02x}/{digest}-{}-{}", server.simple(), Uuid::new_v4().simple())
}

/// Who has made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Putter {
    /// A server with this id.
    Server(Uuid),
    /// A run of an older program, which had the store for itself.
    Run,
    /// A still older program, whose keys do not name the run.
    Unknown,
}

/// Who has made a key.
pub fn putter(key: &str) -> Putter {
    let mut fields = key.split('-').skip(1);
    match (fields.next(), fields.next()) {
        (Some(server), Some(_)) => Uuid::try_parse(server).map_or(Putter::Run, Putter::Server),
        _ => Putter::Unknown,
    }
}

/// Whether [`new_key`] can have made this key, in this program or in an older one.
pub(super) fn is_key(key: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some((prefix, name)) = key.split_once('/') else { return false };
    let is_named = match name.split('-').collect::<Vec<_>>().as_slice() {
        [digest, server, chance] => {
            hex(digest, 64) && (hex(server, 32) || hex(server, 16)) && hex(chance, 32)
        }
        [digest, chance] => hex(digest, 64) && hex(chance, 32),
        _ => false,
    };
    hex(prefix, 2) && is_named && name.starts_with(prefix)
}
