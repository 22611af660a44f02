//! Issuers of JWTs: their keys, what they answer, and what changes while the server runs.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::SystemTime};

use http::StatusCode;
use imagestore::{
    error::Kind,
    wire::{status, v1},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::{
    credentials::with,
    harness::{Issuer, Reply, Server, Signer, copy},
    jwt::{Grants, changed, grant, stat, until_refused},
};

const FAILED: &str = "the keys of an issuer cannot be fetched";

fn anna() -> String {
    grant("ci:anna", "reader", "")
}

/// A server with an issuer that has a key, and with Anna as a reader.
async fn start() -> (Server, Grants, Issuer, Signer) {
    let signer = Signer::p256("p");
    let issuer = Issuer::start(&[&signer]).await;
    let grants = Grants::new(&(issuer.table("ci") + &anna()));
    (grants.serve().await, grants, issuer, signer)
}

fn busy() -> Result<(), (Kind, String)> {
    let message = "the keys of the issuer 'ci' are not known now; try again later";
    Err((Kind::Busy, message.to_owned()))
}

#[tokio::test]
async fn the_known_keys_of_an_issuer_that_is_down_go_on() {
    let (server, _grants, mut issuer, signer) = start().await;
    let mut client = server.client().await;
    let jwt = |id: &str| signer.sign(&changed(issuer.claims("anna"), &json!({ "jti": id })));
    let jwts = [jwt("1"), jwt("2")];
    assert_eq!(stat(&server, &mut client, &jwts[0]).await, Ok(()));
    issuer.stop().await;
    assert_eq!(stat(&server, &mut client, &jwts[0]).await, Ok(()));
    // Not seen before: it is verified by the key.
    assert_eq!(stat(&server, &mut client, &jwts[1]).await, Ok(()));
    // An unknown key is looked for, and nobody answers.
    server.expect("the keys of an issuer cannot be fetched");
    let other = Signer::p256("q").sign(&issuer.claims("anna"));
    let refused = stat(&server, &mut client, &other).await.expect_err("refused");
    assert_eq!(refused.0, Kind::Unauthenticated);
    assert_eq!(stat(&server, &mut client, &jwts[1]).await, Ok(()));
}

#[tokio::test]
async fn a_start_does_not_need_the_issuer() {
    let signer = Signer::p256("p");
    let mut issuer = Issuer::start(&[&signer]).await;
    issuer.stop().await;
    let grants = Grants::new(&(issuer.table("ci") + &anna()));
    let server = grants.serve().await;
    server.expect(FAILED);
    let jwt = signer.sign(&issuer.claims("anna"));
    assert_eq!(stat(&server, &mut server.client().await, &jwt).await, busy());
}

#[tokio::test]
async fn what_an_issuer_must_not_answer_is_no_key() {
    let signer = Signer::p256("p");
    let target = Issuer::start(&[&signer]).await;
    let keys = || Reply::Json(json!({ "keys": [signer.jwk()] }));
    let elsewhere = Reply::Json(json!({ "issuer": target.url, "jwks_uri": target.url }));
    // The servers of this test run until its end.
    let mut files = Vec::new();
    let with_keys_at = |url: &str, at: &str| Reply::Json(json!({ "issuer": url, "jwks_uri": at }));
    for (metadata, reply, why) in [
        (
            None,
            Reply::Redirect(target.url.clone()),
            "answers 302 Found; a redirect is not followed",
        ),
        (Some(Reply::Redirect(target.url.clone())), keys(), "a redirect is not followed"),
        (None, Reply::Bytes(4 << 20), "answers more than 65536 bytes"),
        (Some(Reply::Bytes(4 << 20)), keys(), "answers more than 65536 bytes"),
        (None, Reply::Silence, "no answer in 5 seconds"),
        (None, Reply::Status(StatusCode::NOT_FOUND), "answers 404 Not Found"),
        (None, Reply::Json(json!({ "keys": 7 })), "its answer is no set of keys"),
        (Some(Reply::Json(json!({}))), keys(), "is no metadata"),
        (Some(elsewhere), keys(), "is that of the issuer 'http://localhost:"),
        (Some(with_keys_at("URL", "http://192.0.2.1/keys")), keys(), "which is not https; only"),
        (Some(with_keys_at("URL", "https://localhost:1/keys")), keys(), "which is another scheme"),
    ] {
        let issuer = Issuer::start(&[&signer]).await;
        issuer.keys_are(reply);
        match metadata {
            Some(Reply::Json(mut json)) => {
                if json["issuer"] == "URL" {
                    json["issuer"] = json!(issuer.url);
                }
                issuer.metadata_are(Reply::Json(json));
            }
            Some(reply) => issuer.metadata_are(reply),
            None => {}
        }
        let grants = Grants::new(&(issuer.table("ci") + &anna()));
        let server = grants.serve().await;
        server.expect(why);
        let jwt = signer.sign(&issuer.claims("anna"));
        assert_eq!(stat(&server, &mut server.client().await, &jwt).await, busy(), "{why}");
        assert_eq!(target.seen(), [""; 0], "{why}");
        files.push(grants);
    }
}

#[tokio::test]
async fn a_new_key_is_looked_for_when_a_jwt_has_it_and_not_too_often() {
    let (server, _grants, issuer, old) = start().await;
    let mut client = server.client().await;
    let new = Signer::ed25519("new");
    let watch = v1::WatchOperationsRequest::default();
    let old_jwt = old.sign(&issuer.claims("anna"));
    let watch = client.watch_operations(with(&old_jwt, watch)).await.expect("a watch");
    issuer.has(&[&new]);
    assert_eq!(stat(&server, &mut client, &new.sign(&issuer.claims("anna"))).await, Ok(()));
    let fetched = issuer.seen();
    let metadata = "/team/.well-known/openid-configuration";
    assert_eq!(fetched, [metadata, "/keys", metadata, "/keys"]);
    // The old key is gone, and with it what it has verified.
    let refused = stat(&server, &mut client, &old_jwt).await.expect_err("refused");
    assert!(refused.1.starts_with("the JWT is signed by an unknown key"), "{refused:?}");
    let end = watch.into_inner().message().await.expect_err("an end");
    assert_eq!(status::kind(&end), Kind::Busy);
    assert_eq!(end.message(), "what has verified the credential has changed; watch again");
    assert_eq!(issuer.seen(), fetched, "not looked for again");
}

#[tokio::test]
async fn a_watch_ends_with_its_jwt() {
    let (server, _grants, issuer, signer) = start().await;
    let mut client = server.client().await;
    // With a minute of leeway it ends in a moment.
    #[allow(clippy::disallowed_methods, reason = "an issuer has a clock")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let jwt = signer.sign(&changed(issuer.claims("anna"), &json!({ "exp": now - 57 })));
    let watch = v1::WatchOperationsRequest::default();
    let watch = client.watch_operations(with(&jwt, watch)).await.expect("a watch");
    let end = watch.into_inner().message().await.expect_err("an end");
    assert_eq!(end.message(), "the credential of 'ci:anna' has expired");
    assert_eq!(status::kind(&end), Kind::Unauthenticated);
    let refused = stat(&server, &mut client, &jwt).await.expect_err("refused");
    assert!(refused.1.starts_with("the JWT has expired at 20"), "{refused:?}");
}

#[tokio::test]
async fn the_issuers_are_those_of_the_file() {
    let (server, grants, issuer, signer) = start().await;
    let mut client = server.client().await;
    let jwt = signer.sign(&issuer.claims("anna"));
    assert_eq!(stat(&server, &mut client, &jwt).await, Ok(()));
    // Another name of the same issuer, and a second one.
    let other = Signer::p384("p");
    let second = Issuer::start(&[&other]).await;
    let second_jwt = other.sign(&second.claims("anna"));
    grants.write(&(issuer.table("new") + &second.table("ci") + &anna()));
    until_refused(&mut client, &jwt).await;
    let refused = stat(&server, &mut client, &jwt).await.expect_err("refused");
    assert_eq!(refused, (Kind::Forbidden, "no grant is for the JWT of 'new:anna'".to_owned()));
    assert_eq!(stat(&server, &mut client, &second_jwt).await, Ok(()));
    // Rights of a JWT that is known follow the file.
    grants.write(&(second.table("ci") + &grant("ci:otto", "reader", "")));
    until_refused(&mut client, &second_jwt).await;
    let refused = stat(&server, &mut client, &second_jwt).await.expect_err("refused");
    assert_eq!(refused, (Kind::Forbidden, "no grant is for the JWT of 'ci:anna'".to_owned()));
    let refused = stat(&server, &mut client, &jwt).await.expect_err("refused");
    assert!(refused.1.contains("which this server does not know"), "{refused:?}");
}

#[tokio::test]
async fn an_operation_is_that_of_its_user_whichever_jwt_has_started_it() {
    let signer = Signer::p256("p");
    let issuer = Issuer::start(&[&signer]).await;
    let table = issuer.table("ci") + "user = 'name'\n";
    let grants = Grants::new(&(table + &grant("ci:*", "writer", "claims = { team = 'x' }")));
    let server = grants.serve().await;
    let mut client = server.client().await;
    let jwt = |sub: &str, id: u8| {
        let claims = json!({ "team": "x", "name": "anna", "jti": id.to_string() });
        signer.sign(&changed(issuer.claims(sub), &claims))
    };
    let request = v1::CopyRequest::from(&copy("a/f", "a/g"));
    let mut copying = client.copy(with(&jwt("1", 1), request)).await.expect("a copy").into_inner();
    while copying.message().await.expect("copied").is_some() {}
    // The end of the operation is no longer readable.
    grants.write(
        &(issuer.table("ci")
            + "user = 'name'\n"
            + &grant("ci:*", "writer", "claims = { team = 'x' }").replace("'a'", "'z'")),
    );
    until_refused(&mut client, &jwt("1", 1)).await;
    let mut seen = async |jwt: String| {
        let list = client.list_operations(with(&jwt, v1::ListOperationsRequest::default()));
        list.await.expect("a page").into_inner().operations.len()
    };
    assert_eq!(seen(jwt("1", 2)).await, 1);
    // Another subject that has the same name by now.
    assert_eq!(seen(jwt("2", 3)).await, 0);
}

#[tokio::test]
async fn an_issuer_with_an_authority_of_its_own_is_trusted_by_its_file() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(imagestore::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    let tls = TlsAcceptor::from(Arc::new(config));
    let signer = Signer::p256("p");
    let issuer = Issuer::start_with(&[&signer], Some(tls)).await;
    let jwt = signer.sign(&issuer.claims("anna"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, cert.pem()).expect("written");
    let writable = folder.path().join("writable.pem");
    std::fs::write(&writable, cert.pem()).expect("written");
    std::fs::set_permissions(&writable, std::fs::Permissions::from_mode(0o664)).expect("a mode");
    let ca = |file: &str| format!("ca = '{file}'\n");
    let mut files = Vec::new();
    let good = ca(file.to_str().expect("text"));
    for (ca, why) in [
        (good.as_str(), None),
        ("", Some("invalid peer certificate")),
        (
            &ca(writable.to_str().expect("text")),
            Some("others may write the certificate authorities of an issuer"),
        ),
        (&ca("/nowhere/ca.pem"), Some("cannot read the certificate authorities of an issuer")),
    ] {
        let grants = Grants::new(&(issuer.table("ci") + ca + &anna()));
        let server = grants.serve().await;
        if let Some(why) = why {
            server.expect(why);
        }
        let expected = if why.is_none() { Ok(()) } else { busy() };
        assert_eq!(stat(&server, &mut server.client().await, &jwt).await, expected, "{ca}");
        files.push(grants);
    }
}

#[tokio::test]
async fn sfctl_is_told_where_to_sign_in() {
    let (server, grants, issuer, _) = start().await;
    let get = async |server: &Server, credential: &str| {
        let request = server.http().request("GET", "/$/GetAadMetadata?api-version=6.0");
        let answer = request.header("Authorization", credential).send().await;
        answer.assert_json();
        (answer.status, answer.text())
    };
    let none = (200, r#"{"type":"none","metadata":{}}"#.to_owned());
    assert_eq!(get(&server, "Bearer x.y.z").await, none);
    assert_eq!(get(&Server::start().await, "").await, none);
    let login = "https://login.example";
    let aad = format!("aad = {{ login = '{login}', tenant = 'T', client = 'C', cluster = 'S' }}\n");
    grants.write(&(issuer.table("ci") + &aad + &anna()));
    while get(&server, "").await == none {}
    let expected = format!(
        "{{\"type\":\"aad\",\"metadata\":{{\"authority\":\"{login}/T\",\"client\":\"C\",\"cluster\":\"S\",\
         \"login\":\"{login}\",\"redirect\":\"\",\"tenant\":\"T\"}}}}"
    );
    assert_eq!(get(&server, "Bearer x.y.z").await, (200, expected));
}
