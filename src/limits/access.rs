//! The bounds of access.

use std::time::Duration;

use super::MIB;

/// How often the files that a running server reads again are looked at.
pub const FILES_EVERY: Duration = Duration::from_secs(1);
/// The largest grants file.
pub const GRANTS_BYTES_MAX: usize = MIB;
/// The most grants in a grants file, and the most lines in the stored text of one caller's rights.
pub const GRANTS_MAX: usize = 1000;
/// The most names of one grant.
pub const GRANT_NAMES_MAX: usize = 100;
/// The most paths of one grant.
pub const GRANT_PATHS_MAX: usize = 100;
/// The most claims that one grant asks for.
pub const GRANT_CLAIMS_MAX: usize = 20;
/// The longest name and the longest value of a claim that a grant asks for; a longer claim of a JWT is none.
pub const CLAIM_BYTES_MAX: usize = super::KIB;
/// The most issuers of JWTs in a grants file.
pub const ISSUERS_MAX: usize = 20;
/// The longest name of an issuer.
pub const ISSUER_NAME_BYTES_MAX: usize = 32;
/// The longest other text of an issuer, such as its address.
pub const ISSUER_TEXT_BYTES_MAX: usize = super::KIB;
/// The longest name of a user or a group in a JWT; a JWT with a longer user is refused, a longer group is none.
pub const JWT_NAME_BYTES_MAX: usize = 512;
/// The most groups of a JWT; further ones are none.
pub const JWT_GROUPS_MAX: usize = 500;
/// By how much the clock of an issuer may differ from that of the server.
pub const JWT_LEEWAY: Duration = Duration::from_mins(1);
/// The verified JWTs that are kept in memory.
pub const JWTS_KNOWN_MAX: usize = 10_000;
/// The bytes of these JWTs together. Their callers take a small multiple of it.
pub const JWTS_KNOWN_BYTES_MAX: usize = 16 * MIB;
/// The largest answer of an issuer.
pub const ISSUER_ANSWER_BYTES_MAX: usize = 64 * super::KIB;
/// The largest head of such an answer.
pub const ISSUER_HEAD_BYTES_MAX: usize = 16 * super::KIB;
/// The time for fetching the keys of an issuer.
pub const ISSUER_TIME: Duration = Duration::from_secs(5);
/// The time for connecting to one address of an issuer.
pub const ISSUER_CONNECT_TIME: Duration = Duration::from_secs(1);
/// How often the keys of an issuer are fetched.
pub const ISSUER_EVERY: Duration = Duration::from_mins(15);
/// How soon after the last time they are fetched again, if that failed or a JWT has an unknown key.
pub const ISSUER_AGAIN: Duration = Duration::from_secs(30);
/// How long the keys of an issuer are taken after they were fetched.
pub const ISSUER_KEYS_LIFE: Duration = Duration::from_hours(1);
/// The most keys of an issuer; further ones are not taken.
pub const ISSUER_KEYS_MAX: usize = 100;
/// The longest name of such a key; one with a longer name is not taken.
pub const ISSUER_KEY_NAME_BYTES_MAX: usize = 256;
/// The length of the shortest RSA key that is taken, in bits.
pub const RSA_BITS_MIN: usize = 2048;
/// That of the longest one.
pub const RSA_BITS_MAX: usize = 8192;
/// The longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// The most grants of a token.
pub const TOKEN_GRANTS_MAX: usize = 100;
/// The most tokens of a store that are not revoked.
pub const TOKENS_MAX: i64 = 10_000;
/// How long a token lives.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_hours(90 * 24);
/// The longest life of a token that ends.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(400 * 24);
/// How long a token that has ended is listed, and its secret is told that it has ended.
pub const TOKEN_KEPT: Duration = TOKEN_LIFE_MAX;
/// How long the old secret of a rotated token is taken.
pub const TOKEN_OVERLAP_DEFAULT: Duration = Duration::from_hours(24);
/// The longest such time.
pub const TOKEN_OVERLAP_MAX: Duration = Duration::from_hours(30 * 24);
/// How long before the end of a token its user is warned.
pub const TOKEN_WARNING: Duration = Duration::from_hours(14 * 24);
/// The precision of the time at which a token was used last.
pub const TOKEN_USE_EVERY: Duration = Duration::from_hours(1);
/// The tokens whose callers are kept in memory. Those of running calls are kept beyond that.
pub const TOKENS_KNOWN_MAX: usize = 1_000;
/// The idle tokens that are forgotten at once when there are more.
pub const TOKENS_FORGOTTEN: usize = TOKENS_KNOWN_MAX / 10;
/// How long a link lives.
pub const LINK_LIFE_DEFAULT: Duration = Duration::from_hours(1);
/// The longest life of a link.
pub const LINK_LIFE_MAX: Duration = Duration::from_hours(7 * 24);
/// The longest life of a link whose maker has a certificate or a JWT. Such a credential can be revoked by who has issued
/// it, which its links do not notice.
pub const LINK_GRANTED_LIFE_MAX: Duration = Duration::from_hours(1);
/// The longest text of the maker in a link.
pub const LINK_MAKER_BYTES_MAX: usize = 2 * super::KIB;
/// The longest credential in the header `authorization`.
pub const CREDENTIAL_BYTES_MAX: usize = 8 * super::KIB;
/// The refused credentials that a peer may send at once.
pub const FAILURES_MAX: u32 = 10;
/// The time after which a peer may send a further one.
pub const FAILURE_EVERY: Duration = Duration::from_secs(1);
/// The peers whose refused credentials are counted.
pub const FAILURE_PEERS_MAX: usize = 10_000;
/// The lines of the audit log that wait for the disk; further ones are lost.
pub const AUDIT_LINES_WAITING_MAX: usize = 4_096;
/// The lines that are written at once.
pub const AUDIT_BATCH_LINES: usize = 256;
/// In this time, equal refusals are one line of the audit log.
pub const AUDIT_REPEAT_EVERY: Duration = Duration::from_secs(1);
/// The kinds of refusals that are counted in that time; those of further kinds are one line together.
pub const AUDIT_REPEATS_MAX: usize = 1_000;
/// The bytes of the path of a request that the audit log shows where no rpc was called.
pub const AUDIT_TARGET_BYTES_MAX: usize = 256;
/// How often lost lines of the audit log are logged.
pub const AUDIT_ERROR_EVERY: Duration = Duration::from_mins(1);
/// The most networks of trusted proxies.
pub const TRUSTED_PROXIES_MAX: usize = 64;
/// The most addresses of `X-Forwarded-For` that are looked at, from the right.
pub const FORWARDED_ADDRESSES_MAX: usize = 32;
/// The most values of `X-Forwarded-Host` and of `X-Forwarded-Proto`.
pub const FORWARDED_HOSTS_MAX: usize = 8;
/// The longest host in `X-Forwarded-Host`, with its port.
pub const HOST_BYTES_MAX: usize = 262;
/// The longest path in `X-Forwarded-Prefix`.
pub const FORWARDED_PREFIX_BYTES_MAX: usize = 256;
