//! JWTs: which are good, what is taken from them, and why others are refused.

use serde_json::{Value, json};

use super::{
    jwks::{self, Algorithm},
    jwt::{Jwt, Verified},
};
use crate::{
    access::{Grants, Issuer, Principal},
    limits::{CLAIM_BYTES_MAX, ISSUER_KEYS_MAX, JWT_GROUPS_MAX, JWT_NAME_BYTES_MAX},
};

#[path = "../../../tests/support/signer.rs"]
mod signer;

use signer::Signer;

/// A moment, and 60 seconds around it are the leeway.
const NOW: i64 = 1_800_000_000;

fn issuer() -> Issuer {
    let text = "[[issuer]]\nname = 'ci'\nurl = 'https://ci.example'\naudience = 'store'\ngroups = 'roles'\n";
    Grants::parse(text.as_bytes()).expect("grants").issuers()[0].clone()
}

fn claims() -> Value {
    json!({ "iss": "https://ci.example", "aud": "store", "sub": "anna", "exp": NOW })
}

/// The claims with some of them changed; null removes one.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        }
    }
    claims
}

/// Verifies a JWT by the keys of a signer.
fn verify(signer: &Signer, token: &str) -> Result<Verified, String> {
    let set = json!({ "keys": [signer.jwk()] }).to_string();
    let keys = jwks::read(set.as_bytes(), &[]).expect("keys");
    Jwt::read(token)?.verify(&keys[0], &issuer(), NOW)
}

#[test]
fn each_algorithm_is_verified_by_a_key_of_its_kind() {
    let rsa = Signer::rsa("r");
    let ps256 = json!({ "alg": "PS256", "kid": "r" });
    let signers = [Signer::p256("p"), Signer::p384("q"), Signer::ed25519("e")];
    let mut tokens: Vec<_> =
        signers.iter().map(|signer| (signer, signer.sign(&claims()))).collect();
    tokens.push((&rsa, rsa.sign(&claims())));
    tokens.push((&rsa, rsa.sign_with(&ps256, &claims())));
    for (signer, token) in &tokens {
        let verified = verify(signer, token).expect("good");
        assert_eq!(verified.principal.names(), ["ci:anna"]);
        // One bit of the claims is another.
        let (signed, signature) = token.rsplit_once('.').expect("a dot");
        let mut changed = signed.to_owned();
        let last = changed.pop();
        let changed = format!("{changed}{}.{signature}", if last == Some('Q') { 'g' } else { 'Q' });
        let refused = verify(signer, &changed).expect_err("refused");
        assert!(["has a wrong signature", "is malformed"].contains(&refused.as_str()), "{refused}");
        // Another key, and a key of another kind that has the same id.
        assert_eq!(
            verify(&Signer::p256("p"), token).expect_err("refused"),
            "has a wrong signature"
        );
    }
    let confused = json!({ "alg": "ES256", "kid": "r" });
    let token = rsa.sign_with(&confused, &claims());
    assert_eq!(verify(&rsa, &token).expect_err("refused"), "has a wrong signature");
}

#[test]
fn a_header_is_taken_only_if_all_of_it_is_understood() {
    let signer = Signer::p256("p");
    let accepted = "accepted are RS256, PS256, ES256, ES384, EdDSA";
    for (header, why) in [
        (json!({ "alg": "none", "kid": "p" }), format!("is signed by 'none'; {accepted}")),
        (json!({ "alg": "HS256", "kid": "p" }), format!("is signed by 'HS256'; {accepted}")),
        (json!({ "alg": "es256", "kid": "p" }), format!("is signed by 'es256'; {accepted}")),
        (json!({ "alg": ["ES256"], "kid": "p" }), "has a 'alg' that is no text".to_owned()),
        (json!({ "kid": "p" }), "has no 'alg'".to_owned()),
        (json!({ "alg": "ES256" }), "has no 'kid'".to_owned()),
        (json!({ "alg": "ES256", "kid": "" }), "has a 'kid' that is no text".to_owned()),
        (
            json!({ "alg": "ES256", "kid": "p", "crit": ["b64"], "b64": true }),
            "has critical parameters ('crit'), which this server does not know".to_owned(),
        ),
        (
            json!({ "alg": "ES256", "kid": "p", "crit": null }),
            "has critical parameters ('crit'), which this server does not know".to_owned(),
        ),
        (
            json!({ "alg": "ES256", "kid": "p", "typ": "application/Logout+JWT" }),
            "ends a session ('typ' is logout+jwt); send one for access".to_owned(),
        ),
        (json!({ "alg": "ES256", "kid": "p", "typ": 1 }), "has a 'typ' that is no text".to_owned()),
    ] {
        let token = signer.sign_with(&header, &claims());
        assert_eq!(verify(&signer, &token).expect_err("refused"), why, "{header}");
    }
    let typed = json!({ "alg": "ES256", "kid": "p", "typ": "at+jwt", "x5t": "x" });
    verify(&signer, &signer.sign_with(&typed, &claims())).expect("good");
}

#[test]
fn each_claim_is_required_and_checked() {
    let signer = Signer::p256("p");
    let no_time = |name: &str| format!("has an '{name}' that is no number of seconds");
    for (changes, why) in [
        (json!({ "iss": null }), "has no 'iss'".to_owned()),
        (json!({ "iss": ["https://ci.example"] }), "has a 'iss' that is no text".to_owned()),
        (
            json!({ "iss": "https://ci.example/" }),
            "is of the issuer 'https://ci.example/'".to_owned(),
        ),
        (json!({ "aud": null }), "has no 'aud'".to_owned()),
        (json!({ "aud": 1 }), "has an 'aud' that is no text".to_owned()),
        (json!({ "aud": ["store", 1] }), "has an 'aud' that is no list of texts".to_owned()),
        (json!({ "aud": [] }), "is for the audience '', not for 'store'".to_owned()),
        (
            json!({ "aud": ["stor", "store2"] }),
            "is for the audience 'stor', 'store2', not for 'store'".to_owned(),
        ),
        (json!({ "exp": null }), "has no 'exp'".to_owned()),
        (json!({ "exp": NOW.to_string() }), no_time("exp")),
        (json!({ "exp": -1 }), no_time("exp")),
        (json!({ "exp": 1e30 }), no_time("exp")),
        (json!({ "exp": [NOW] }), no_time("exp")),
        (json!({ "exp": NOW - 60 }), "has expired at 2027-01-15T07:59:00Z".to_owned()),
        (json!({ "nbf": NOW + 61 }), "is not valid before 2027-01-15T08:01:01Z".to_owned()),
        (json!({ "nbf": "0" }), no_time("nbf")),
        (json!({ "sub": null }), "has no 'sub'".to_owned()),
        (json!({ "sub": "" }), "has a 'sub' that is no text".to_owned()),
        (json!({ "sub": 7 }), "has a 'sub' that is no text".to_owned()),
        (json!({ "sub": "group=x" }), "has a user that is not accepted: 'group=x'".to_owned()),
        (json!({ "sub": "a\nb" }), "has a user that is not accepted: 'a\\nb'".to_owned()),
        (
            json!({ "sub": "x".repeat(JWT_NAME_BYTES_MAX + 1) }),
            "has a user that is not accepted: 'xxx".to_owned(),
        ),
    ] {
        let refused = verify(&signer, &signer.sign(&with(&changes))).expect_err("refused");
        assert!(refused.starts_with(&why), "{changes}: {refused}");
    }
    for changes in [
        json!({ "aud": ["other", "store"] }),
        json!({ "exp": NOW - 59 }),
        json!({ "exp": NOW as f64 + 0.5 }),
        json!({ "nbf": NOW + 60 }),
        json!({ "sub": "x".repeat(JWT_NAME_BYTES_MAX) }),
    ] {
        verify(&signer, &signer.sign(&with(&changes)))
            .unwrap_or_else(|why| panic!("{changes}: {why}"));
    }
}

#[test]
fn what_is_no_jwt_is_refused() {
    let signer = Signer::p256("p");
    let good = signer.sign(&claims());
    let parts: Vec<_> = good.split('.').collect();
    for token in [
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        format!("W10.{}.{}", parts[1], parts[2]),
    ] {
        assert_eq!(verify(&signer, &token).expect_err("refused"), "is malformed", "{token}");
    }
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(verify(&signer, &unsigned).expect_err("refused"), "has a wrong signature");
    assert!(Jwt::is_like(&good) && !Jwt::is_like("a.b") && !Jwt::is_like("a.b.c.d"));
}

#[test]
fn a_user_has_its_groups_and_its_claims() {
    let signer = Signer::p256("p");
    let long = "x".repeat(CLAIM_BYTES_MAX + 1);
    let claims = with(&json!({
        "roles": ["Deployers", "", 7, "a\u{7}", "x".repeat(JWT_NAME_BYTES_MAX + 1), "B"],
        "id": 4711, "ok": true, "ratio": 1.5, "none": null, "list": ["a"], "ref": "main", "long": long,
    }));
    let verified = verify(&signer, &signer.sign(&claims)).expect("good");
    let expected = [
        ("aud", "store"),
        ("exp", "1800000000"),
        ("id", "4711"),
        ("iss", "https://ci.example"),
        ("ok", "true"),
        ("ref", "main"),
        ("sub", "anna"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let names = ["ci:anna", "ci:group=Deployers", "ci:group=B"].map(str::to_owned).to_vec();
    assert_eq!(verified.principal, Principal::with_claims(names, expected));
    assert_eq!(verified.ends_at, (NOW + 60) * 1_000_000);
    assert!(verified.credential.starts_with("jwt:sha256=") && verified.credential.len() == 75);
    let again = verify(&signer, &signer.sign(&with(&json!({ "exp": NOW + 9 })))).expect("good");
    assert_eq!(again.credential, verified.credential, "the same user");
    let other = verify(&signer, &signer.sign(&with(&json!({ "sub": "otto" })))).expect("good");
    assert_ne!(other.credential, verified.credential);
    let one = verify(&signer, &signer.sign(&with(&json!({ "roles": "Admin" })))).expect("good");
    assert_eq!(one.principal.names(), ["ci:anna", "ci:group=Admin"]);
    let many: Vec<_> = (0..=JWT_GROUPS_MAX).map(|number| number.to_string()).collect();
    let many = verify(&signer, &signer.sign(&with(&json!({ "roles": many })))).expect("good");
    assert_eq!(many.principal.names().len(), 1 + JWT_GROUPS_MAX);
}

#[test]
fn keys_of_other_kinds_are_left_out() {
    let (rsa, p256) = (Signer::rsa("r").jwk(), Signer::p256("p").jwk());
    let changed = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let weak = rsa["n"].as_str().expect("a text").get(..171).expect("long").to_owned();
    let even_weaker = format!("AAAA{weak}");
    let taken = |keys: &[Value]| {
        let set = json!({ "keys": keys }).to_string();
        jwks::read(set.as_bytes(), &[]).expect("keys").len()
    };
    for left_out in [
        json!(7),
        json!({ "kty": "oct", "k": "AAAA", "kid": "p" }),
        changed(&p256, "kid", Value::Null),
        changed(&p256, "kid", json!("")),
        changed(&p256, "kid", json!("x".repeat(257))),
        changed(&p256, "use", json!("enc")),
        changed(&p256, "key_ops", json!(["sign"])),
        changed(&p256, "alg", json!("HS256")),
        changed(&p256, "crv", json!("P-521")),
        changed(&p256, "crv", json!("P-384")),
        changed(&p256, "x", json!("AAAA")),
        changed(&p256, "y", Value::Null),
        changed(&rsa, "n", json!(weak)),
        changed(&rsa, "n", json!(even_weaker)),
        changed(&rsa, "n", json!("")),
        changed(&rsa, "e", json!("")),
    ] {
        assert_eq!(taken(&[p256.clone(), left_out.clone(), rsa.clone()]), 2, "{left_out}");
    }
    let padded = format!("AAAA{}", rsa["n"].as_str().expect("a text"));
    assert_eq!(taken(&[changed(&rsa, "n", json!(padded)), changed(&p256, "use", Value::Null)]), 2);
    assert_eq!(taken(&vec![p256.clone(); ISSUER_KEYS_MAX + 1]), ISSUER_KEYS_MAX);
    let only = json!({ "keys": [changed(&rsa, "alg", json!("PS256"))] }).to_string();
    let [key] = jwks::read(only.as_bytes(), &[]).expect("keys").try_into().expect("one");
    assert!(key.is("r", Algorithm::Ps256) && !key.is("r", Algorithm::Rs256));
    for wrong in ["", "[]", "{}", "{\"keys\":7}"] {
        let error = jwks::read(wrong.as_bytes(), &[]).expect_err("refused");
        assert!(error.starts_with("its answer is no set of keys: "), "{error}");
    }
}
