//! The names of callers in a grants file.

use super::shown;

/// The name of who sends no credential.
pub const ANONYMOUS: &str = "anonymous";
/// The names that a certificate has if an authority of clients has signed it: its common names, the DNS names and the
/// URIs of its subject.
pub const SIGNED_NAMES: [&str; 3] = ["cert:cn=", "cert:dns=", "cert:uri="];
/// The name of a certificate by the SHA-256 of its DER form, in lower-case hexadecimal digits.
pub const CERTIFICATE_SHA256: &str = "cert:sha256=";
const SHA256_DIGITS: usize = 64;

/// Checks a name in `who`.
///
/// # Errors
/// The reason, which quotes the name and lists what is accepted.
pub(super) fn check(name: &str) -> Result<(), String> {
    if name == ANONYMOUS {
        return Ok(());
    }
    if let Some(digits) = name.strip_prefix(CERTIFICATE_SHA256) {
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if digits.len() == SHA256_DIGITS && digits.chars().all(is_digit) {
            return Ok(());
        }
        let name = shown(name);
        return Err(format!(
            "who \"{name}\" has not {SHA256_DIGITS} lower-case hexadecimal digits; 'openssl x509 -outform DER \
             -in FILE | sha256sum' prints them"
        ));
    }
    let is_signed = SIGNED_NAMES.iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && !inner(rest).contains('*'))
    });
    if is_signed {
        return Ok(());
    }
    let signed = SIGNED_NAMES.map(|kind| format!("\"{kind}NAME\"")).join(", ");
    Err(format!(
        "who \"{}\" is unknown; accepted are \"{ANONYMOUS}\", {signed} (NAME may end in *) and \
         \"{CERTIFICATE_SHA256}DIGITS\"",
        shown(name)
    ))
}

/// A name without the star at its end.
fn inner(name: &str) -> &str {
    name.strip_suffix('*').unwrap_or(name)
}

/// Whether a name in `who` means one of the names of a caller.
pub(super) fn means(who: &str, names: &[String]) -> bool {
    match who.strip_suffix('*') {
        Some(start) => names.iter().any(|name| name.starts_with(start)),
        None => names.iter().any(|name| name == who),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_kind() {
        let digest = format!("cert:sha256={}", "0a".repeat(32));
        for name in [
            "anonymous",
            "cert:cn=build",
            "cert:cn=build*",
            "cert:cn=*",
            "cert:dns=a.example",
            "cert:uri=spiffe://a/b",
            &digest,
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = format!("{digest}0");
        let capital = digest.replace("0a", "0A");
        for (name, why) in [
            ("", "is unknown; accepted are"),
            ("*", "is unknown"),
            ("anonymous*", "is unknown"),
            ("cert:cn=", "is unknown"),
            ("cert:cn=a*b", "is unknown"),
            ("cert:cn=a**", "is unknown"),
            ("cert:x=a", "is unknown"),
            ("token:ci", "is unknown"),
            ("cert:sha256=*", "has not 64 lower-case hexadecimal digits"),
            (&long, "has not 64"),
            (&capital, "has not 64"),
        ] {
            assert!(check(name).is_err_and(|error| error.contains(why)), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_any_end_of_a_name() {
        for (who, name, meant) in [
            ("cert:cn=build", "cert:cn=build", true),
            ("cert:cn=build", "cert:cn=build2", false),
            ("cert:cn=build*", "cert:cn=build2", true),
            ("cert:cn=build*", "cert:cn=build", true),
            ("cert:cn=build*", "cert:cn=buil", false),
            ("cert:cn=build*", "cert:dns=build2", false),
        ] {
            assert_eq!(means(who, &["x".to_owned(), name.to_owned()]), meant, "{who} {name}");
        }
        assert!(!means("cert:cn=*", &[]));
    }
}
