//! JWTs: the rights of their users, and that a wrong one is refused with the reason, over both interfaces.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use imagestore::{
    error::Kind,
    wire::{status, v1},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    credentials::with,
    harness::{Client, Issuer, Server, Signer, fill},
};

/// A folder with a grants file.
pub(crate) struct Grants {
    _folder: TempDir,
    pub(crate) file: PathBuf,
}

impl Grants {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let grants = Self { file: folder.path().join("grants.toml"), _folder: folder };
        grants.write(text);
        grants
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.file, text).expect("written");
        fs::set_permissions(&self.file, fs::Permissions::from_mode(0o644)).expect("a mode");
    }

    /// Starts a server with this file, and with the files `a/f` and `b/f`.
    pub(crate) async fn serve(&self) -> Server {
        let server = Server::start().await;
        fill(&server.rest(), "a/f=1 b/f=22").await;
        server.restart_with_access(Some(&self.file)).await
    }
}

/// A grant of a role at `a`.
pub(crate) fn grant(who: &str, role: &str, claims: &str) -> String {
    format!("[[grant]]\nwho = ['{who}']\nrole = '{role}'\npaths = ['a']\n{claims}\n")
}

/// The claims with some of them changed; null removes one.
pub(crate) fn changed(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        }
    }
    claims
}

/// What a JWT gets from `Stat`, and from the same over REST: nothing, or the kind and message of the error.
pub(crate) async fn stat(
    server: &Server,
    client: &mut Client,
    jwt: &str,
) -> Result<(), (Kind, String)> {
    let request = v1::StatRequest { path: "a/f".to_owned() };
    let grpc = client.stat(with(jwt, request)).await.map(drop);
    let grpc = grpc.map_err(|error| (status::kind(&error), error.message().to_owned()));
    let request = server.http().request("GET", "/ImageStore/a/f/$/Content");
    let answer = request.header("Authorization", &format!("Bearer {jwt}")).send().await;
    match &grpc {
        Ok(()) => assert_eq!(answer.status, 200, "{}", answer.text()),
        Err((kind, message)) => assert_eq!(answer.assert_fault(*kind), *message),
    }
    grpc
}

/// Waits until the grants give nothing to a JWT.
pub(crate) async fn until_refused(client: &mut Client, jwt: &str) {
    let request = || with(jwt, v1::StatRequest { path: "a/f".to_owned() });
    while client.stat(request()).await.is_ok() {}
}

#[tokio::test]
async fn people_and_programs_have_what_is_granted_to_their_names_and_claims() {
    let (person, program) = (Signer::rsa("r"), Signer::p256("p"));
    let (people, programs) = (Issuer::start(&[&person]).await, Issuer::start(&[&program]).await);
    let text = [
        people.table("team") + "user = 'upn'\ngroups = 'roles'\n",
        programs.table("ci"),
        grant("team:group=Deployers", "writer", ""),
        grant("team:anna@a.example", "reader", ""),
        grant("ci:repo:a/b:*", "reader", "claims = { repository_id = '4711', fork = 'false' }"),
    ];
    let grants = Grants::new(&text.concat());
    let server = grants.serve().await;
    let mut client = server.client().await;
    let user = |upn: &str, roles: &[&str]| {
        person.sign(&changed(people.claims("7"), &json!({ "upn": upn, "roles": roles })))
    };
    let job = |sub: &str, id: Value| {
        program.sign(&changed(programs.claims(sub), &json!({ "repository_id": id, "fork": false })))
    };
    let none = |name: &str| Err((Kind::Forbidden, format!("no grant is for the JWT of '{name}'")));
    for (jwt, name, reads, writes) in [
        (user("otto@a.example", &["x", "Deployers"]), "team:otto@a.example", true, true),
        (user("anna@a.example", &[]), "team:anna@a.example", true, false),
        (user("eva@a.example", &["deployers"]), "team:eva@a.example", false, false),
        (user("group", &["Deployers"]), "team:group", true, true),
        (
            job("repo:a/b:ref:refs/heads/main", json!(4711)),
            "ci:repo:a/b:ref:refs/heads/main",
            true,
            false,
        ),
        (job("repo:a/b:pull_request", json!("4711")), "ci:repo:a/b:pull_request", true, false),
        (job("repo:a/b:ref:x", json!(["4711"])), "ci:repo:a/b:ref:x", false, false),
        (job("repo:a/b:ref:x", json!(4712)), "ci:repo:a/b:ref:x", false, false),
        (job("repo:a/bc:ref:x", json!(4711)), "ci:repo:a/bc:ref:x", false, false),
    ] {
        let expected = if reads { Ok(()) } else { none(name) };
        assert_eq!(stat(&server, &mut client, &jwt).await, expected, "{name}");
        if reads {
            // Not for the others: a server looks at ten refused credentials of one address.
            let delete = v1::DeleteRequest { path: "a/none".to_owned(), ..Default::default() };
            let written = client.delete(with(&jwt, delete)).await;
            assert_eq!(written.is_ok(), writes, "{name}: {written:?}");
            let caller = client.get_caller(with(&jwt, v1::GetCallerRequest::default())).await;
            let caller = caller.expect("a caller").into_inner();
            assert_eq!((caller.name.as_str(), caller.names[0].as_str()), (name, name));
            if name == "team:otto@a.example" {
                assert_eq!(caller.names[1..], ["team:group=x", "team:group=Deployers"]);
            }
            assert_eq!(caller.expires_at.expect("an end").seconds, 4_000_000_060);
            let request = v1::StatRequest { path: "b/f".to_owned() };
            let refused = client.stat(with(&jwt, request)).await.expect_err("refused");
            assert_eq!(refused.message(), format!("'{name}' may not read 'b/f'"));
        }
    }
    // A user whose name is that of a group is nobody.
    let forged = user("group=Deployers", &[]);
    let refused = stat(&server, &mut client, &forged).await.expect_err("refused");
    let message = "the JWT has a user that is not accepted: 'group=Deployers'";
    assert_eq!(refused, (Kind::Unauthenticated, message.to_owned()));
}

/// Checks that wrong JWTs are refused with their reasons. Each server refuses only some, before it refuses all.
async fn check(signer: &Signer, issuer: &Issuer, wrong: &[(String, &str)]) {
    let grants = Grants::new(&(issuer.table("ci") + &grant("ci:anna", "reader", "")));
    for wrong in wrong.chunks(4) {
        let server = grants.serve().await;
        let mut client = server.client().await;
        for (jwt, why) in wrong {
            let (kind, message) =
                stat(&server, &mut client, jwt).await.expect_err(&format!("refused: {why}"));
            assert_eq!(kind, Kind::Unauthenticated, "{message}");
            assert!(message.starts_with(why), "{message}, not {why}");
            let parts: Vec<_> = jwt.split('.').filter(|part| part.len() > 9).collect();
            assert!(!parts.iter().any(|part| message.contains(part)), "{message}");
        }
        let good = signer.sign(&issuer.claims("anna"));
        assert_eq!(stat(&server, &mut client, &good).await, Ok(()));
    }
}

#[tokio::test]
async fn a_jwt_that_is_not_signed_by_a_key_of_its_issuer_is_refused() {
    let (signer, other) = (Signer::rsa("r"), Signer::rsa("r"));
    let issuer = Issuer::start(&[&signer]).await;
    let claims = issuer.claims("anna");
    let header = |changes: Value| changed(signer.header(), &changes);
    let unsigned = signer.sign_with(&header(json!({ "alg": "none" })), &claims);
    let (unsigned, _) = unsigned.rsplit_once('.').expect("a signature");
    let accepted = "accepted are RS256, PS256, ES256, ES384, EdDSA";
    let by = |name: &str| format!("the JWT is signed by '{name}'; {accepted}");
    let (none, hmac) = (by("none"), by("HS256"));
    check(
        &signer,
        &issuer,
        &[
            (other.sign(&claims), "the JWT has a wrong signature"),
            (format!("{unsigned}."), &none),
            // The public key as the secret of an HMAC: whoever has it could sign.
            (hmac_with(&signer.jwk(), &claims), &hmac),
            (
                signer.sign_with(&header(json!({ "kid": "s" })), &claims),
                "the JWT is signed by an unknown key: the issuer 'ci' has no such key 's'",
            ),
            (signer.sign_with(&header(json!({ "kid": null })), &claims), "the JWT has no 'kid'"),
            (
                signer.sign_with(&header(json!({ "crit": ["exp"] })), &claims),
                "the JWT has critical parameters ('crit')",
            ),
            (
                signer.sign_with(&header(json!({ "alg": "ES256" })), &claims),
                "the JWT is signed by an unknown key",
            ),
            (
                signer.sign_with(&header(json!({ "typ": "logout+jwt" })), &claims),
                "the JWT ends a session",
            ),
            // The key in the header is not one of the issuer.
            (
                other.sign_with(&header(json!({ "jwk": other.jwk() })), &claims),
                "the JWT has a wrong signature",
            ),
            ("a.b.c".to_owned(), "the JWT is malformed"),
            ("a.b".to_owned(), "the credential is no token of this server; send"),
        ],
    )
    .await;
}

/// A JWT whose HS256 signature has the public key as its secret.
fn hmac_with(jwk: &Value, claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = json!({ "alg": "HS256", "kid": jwk["kid"] });
    let parts = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = parts.join(".");
    let secret = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("a modulus")).expect("bytes");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

#[tokio::test]
async fn a_jwt_with_wrong_or_missing_claims_is_refused() {
    let signer = Signer::p256("p");
    let issuer = Issuer::start(&[&signer]).await;
    let url = issuer.url.trim_end_matches('/');
    let wrong = [
        (json!({ "aud": "shop" }), "the JWT is for the audience 'shop', not for 'store'"),
        (json!({ "aud": null }), "the JWT has no 'aud'"),
        (json!({ "iss": url }), "the JWT is of the issuer 'http://localhost:"),
        (json!({ "iss": null }), "the JWT has no 'iss'"),
        (json!({ "exp": null }), "the JWT has no 'exp'"),
        (json!({ "exp": "4000000000" }), "the JWT has an 'exp' that is no number of seconds"),
        (json!({ "exp": 1_700_000_000 }), "the JWT has expired at 2023-11-14T22:13:20Z"),
        (json!({ "nbf": 3_900_000_000_u32 }), "the JWT is not valid before 2093-08-01T"),
        (json!({ "nbf": "0" }), "the JWT has an 'nbf' that is no number of seconds"),
        (json!({ "sub": null }), "the JWT has no 'sub'"),
        (json!({ "sub": "" }), "the JWT has a 'sub' that is no text"),
    ];
    let wrong = wrong.map(|(changes, why)| {
        let jwt = signer.sign(&changed(issuer.claims("anna"), &changes));
        (jwt, why)
    });
    check(&signer, &issuer, &wrong).await;
}

#[tokio::test]
async fn wrong_jwts_are_slowed_down_but_not_one_that_is_known() {
    let signer = Signer::p256("p");
    let issuer = Issuer::start(&[&signer]).await;
    let grants = Grants::new(&(issuer.table("ci") + &grant("ci:anna", "reader", "")));
    let good = signer.sign(&issuer.claims("anna"));
    let guess = Signer::p256("p").sign(&issuer.claims("anna"));
    // A good one to which nothing is granted, which everyone may get of a public issuer.
    let other = signer.sign(&issuer.claims("otto"));
    for (wrong, kind) in [(guess, Kind::Unauthenticated), (other, Kind::Forbidden)] {
        let server = grants.serve().await;
        let mut client = server.client().await;
        assert_eq!(stat(&server, &mut client, &good).await, Ok(()));
        let mut kinds = Vec::new();
        for _ in 0..20 {
            let request = v1::StatRequest { path: "a/f".to_owned() };
            let refused = client.stat(with(&wrong, request)).await.expect_err("refused");
            kinds.push(status::kind(&refused));
        }
        assert_eq!(kinds[0], kind);
        assert!(kinds.contains(&Kind::TooManyFailures), "{kinds:?}");
        assert_eq!(stat(&server, &mut client, &good).await, Ok(()));
    }
}

#[tokio::test]
async fn a_jwt_is_only_for_who_requires_a_right() {
    let signer = Signer::p256("p");
    let issuer = Issuer::start(&[&signer]).await;
    let jwt = signer.sign(&issuer.claims("anna"));
    // Everyone may do everything.
    let open = Server::start().await;
    let header = format!("Bearer {jwt}");
    let request =
        open.http().request("GET", "/ImageStore?api-version=6.0").header("Authorization", &header);
    assert_eq!(request.send().await.status, 200);
    // There is no issuer.
    let grants = Grants::new(&grant("anonymous", "reader", ""));
    let server = grants.serve().await;
    let refused = stat(&server, &mut server.client().await, &jwt).await.expect_err("refused");
    assert!(refused.1.starts_with("the credential is no token of this server"), "{refused:?}");
}
