//! The names of callers in a grants file.

use super::{
    issuer::{self, Issuer},
    shown,
};

/// The name of who sends no credential.
pub const ANONYMOUS: &str = "anonymous";
/// The names that a certificate has if an authority of clients has signed it: its common names, the DNS names and the
/// URIs of its subject.
pub const SIGNED_NAMES: [&str; 3] = ["cert:cn=", "cert:dns=", "cert:uri="];
/// The name of a certificate by the SHA-256 of its DER form, in lower-case hexadecimal digits.
pub const CERTIFICATE_SHA256: &str = "cert:sha256=";
/// What a group begins with in a name, after the issuer. No user begins like that.
pub const GROUP: &str = "group=";
const SHA256_DIGITS: usize = 64;

/// Which callers a name in `who` may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those without a JWT.
    Plain,
    /// Some with a JWT.
    Jwt,
    /// Those whose names begin alike, or all, of an issuer from which others get a JWT too.
    Anyone,
}

/// Checks a name in `who`.
///
/// # Errors
/// The reason, which quotes the name and lists what is accepted.
pub(super) fn check(name: &str, issuers: &[Issuer]) -> Result<Kind, String> {
    if name == ANONYMOUS {
        return Ok(Kind::Plain);
    }
    if let Some(digits) = name.strip_prefix(CERTIFICATE_SHA256) {
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if digits.len() == SHA256_DIGITS && digits.chars().all(is_digit) {
            return Ok(Kind::Plain);
        }
        let name = shown(name);
        return Err(format!(
            "who \"{name}\" has not {SHA256_DIGITS} lower-case hexadecimal digits; 'openssl x509 -outform DER \
             -in FILE | sha256sum' prints them"
        ));
    }
    let is_signed = SIGNED_NAMES.iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && has_one_star(rest))
    });
    if is_signed {
        return Ok(Kind::Plain);
    }
    if let Some((prefix, user)) = name.split_once(':').filter(|(prefix, _)| issuer::is_name(prefix))
    {
        return of_issuer(name, (prefix, user), issuers);
    }
    let signed = SIGNED_NAMES.map(|kind| format!("\"{kind}NAME\"")).join(", ");
    Err(format!(
        "who \"{}\" is unknown; accepted are \"{ANONYMOUS}\", {signed} (NAME may end in *), \
         \"{CERTIFICATE_SHA256}DIGITS\", and \"ISSUER:USER\" and \"ISSUER:{GROUP}GROUP\" of an [[issuer]]",
        shown(name)
    ))
}

/// Checks a name of an issuer.
fn of_issuer(name: &str, (prefix, user): (&str, &str), issuers: &[Issuer]) -> Result<Kind, String> {
    let Some(issuer) = issuers.iter().find(|issuer| issuer.name == prefix) else {
        return Err(format!("who \"{}\" is of \"{prefix}\", which no [[issuer]] is", shown(name)));
    };
    let group = user.strip_prefix(GROUP);
    if group.is_some() && issuer.groups_claim.is_none() {
        return Err(format!(
            "who \"{}\" is a group; its [[issuer]] needs groups, the claim that has them",
            shown(name)
        ));
    }
    let user = group.unwrap_or(user);
    if user.is_empty() || !has_one_star(user) {
        return Err(format!(
            "who \"{}\" has no name, or a misplaced *; it may have one, at the end",
            shown(name)
        ));
    }
    // Who chooses its own name there, chooses one that begins like that.
    Ok(if user.ends_with('*') && !issuer.is_closed { Kind::Anyone } else { Kind::Jwt })
}

/// Whether a name has no star but one at its end.
fn has_one_star(name: &str) -> bool {
    !name.strip_suffix('*').unwrap_or(name).contains('*')
}

/// Whether a name in `who` means one of the names of a caller.
pub(super) fn means(who: &str, names: &[String]) -> bool {
    match who.strip_suffix('*') {
        // A name of users is for no group: both come from the issuer, and may begin alike.
        Some(start) => {
            names.iter().any(|name| name.starts_with(start) && is_group(name) == is_group(start))
        }
        None => names.iter().any(|name| name == who),
    }
}

/// Whether a name, or the start of one, is that of a group.
fn is_group(name: &str) -> bool {
    name.split_once(':').is_some_and(|(_, user)| user.starts_with(GROUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str, groups: Option<&str>, is_closed: bool) -> Issuer {
        Issuer {
            name: name.to_owned(),
            url: format!("https://{name}.example"),
            audience: "store".to_owned(),
            user_claim: "sub".to_owned(),
            groups_claim: groups.map(str::to_owned),
            authorities: None,
            aad: None,
            is_closed,
        }
    }

    fn issuers() -> [Issuer; 3] {
        [
            issuer("open", Some("roles"), false),
            issuer("ours", Some("g"), true),
            issuer("ci", None, false),
        ]
    }

    #[test]
    fn names_have_a_kind() {
        let digest = format!("cert:sha256={}", "0a".repeat(32));
        for (name, kind) in [
            ("anonymous", Kind::Plain),
            ("cert:cn=build", Kind::Plain),
            ("cert:cn=build*", Kind::Plain),
            ("cert:cn=*", Kind::Plain),
            ("cert:dns=a.example", Kind::Plain),
            ("cert:uri=spiffe://a/b", Kind::Plain),
            (&digest, Kind::Plain),
            ("open:anna@a.example", Kind::Jwt),
            ("open:repo:a/b:ref:x", Kind::Jwt),
            ("open:repo:a/*", Kind::Anyone),
            ("open:group=Deployers", Kind::Jwt),
            ("open:group=D*", Kind::Anyone),
            ("open:*", Kind::Anyone),
            ("open:group=*", Kind::Anyone),
            ("ours:*", Kind::Jwt),
            ("ours:repo:a/*", Kind::Jwt),
            ("ours:group=*", Kind::Jwt),
        ] {
            assert_eq!(check(name, &issuers()), Ok(kind), "{name}");
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
            ("Open:a", "is unknown"),
            ("open", "is unknown"),
            ("cert:sha256=*", "has not 64 lower-case hexadecimal digits"),
            (&long, "has not 64"),
            (&capital, "has not 64"),
            ("other:a", "who \"other:a\" is of \"other\", which no [[issuer]] is"),
            ("open:", "has no name"),
            ("open:group=", "has no name"),
            ("open:a*b", "a misplaced *"),
            ("open:a**", "a misplaced *"),
            ("ci:group=a", "is a group; its [[issuer]] needs groups"),
        ] {
            assert!(check(name, &issuers()).is_err_and(|error| error.contains(why)), "{name}");
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
            ("open:*", "open:anna", true),
            ("open:*", "open2:anna", false),
            ("open:g*", "open:gustav", true),
            ("open:g*", "open:group=a", false),
            ("open:group=*", "open:group=a", true),
            ("open:group=*", "open:gustav", false),
            ("open:group=a*", "open:group=ab", true),
        ] {
            assert_eq!(means(who, &["x".to_owned(), name.to_owned()]), meant, "{who} {name}");
        }
        assert!(!means("cert:cn=*", &[]));
    }
}
