//! Tokens: their life, and who may make and see them.

use super::*;
use crate::{
    access::{Pattern, RequestContext, Rights, Role, Rpc},
    secret::Secret,
};

fn rights(role: Role, at: &str) -> Rights {
    Rights::new(vec![(role, Pattern::parse(at).unwrap())])
}

fn new(name: &str, role: Role, at: &str) -> NewToken {
    NewToken { name: name.to_owned(), rights: rights(role, at), life: None }
}

/// A call of a token with these rights.
fn call(rights: Rights) -> Call {
    let caller = Caller::token(("tester", "abcdefgh"), rights, None);
    RequestContext::new(caller, Peer::default(), None).authorize(Rpc::GetCaller, &[]).unwrap()
}

async fn create(fixture: &Fixture, new: NewToken) -> Secret {
    fixture.store.create_token(new, &Call::system()).await.unwrap().1
}

/// The caller of a secret, as the server finds it: in memory, else in the database.
async fn caller(fixture: &Fixture, secret: &Secret) -> Result<Caller> {
    match fixture.store.known_token(secret.expose()) {
        Some(caller) => Ok(caller),
        None => fixture.store.token_caller(secret.expose()).await,
    }
}

async fn refused(fixture: &Fixture, secret: &Secret) -> String {
    let error = caller(fixture, secret).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    error.message().to_owned()
}

#[tokio::test]
async fn a_token_is_taken_until_it_is_revoked() {
    let fixture = Fixture::new().await;
    assert!(!fixture.store.has_token().await.unwrap());
    let secret = create(&fixture, new("ci", Role::Writer, "App*")).await;
    assert!(fixture.store.has_token().await.unwrap());
    assert!(fixture.store.known_token(secret.expose()).is_none(), "not looked up yet");
    let first = caller(&fixture, &secret).await.unwrap();
    assert_eq!(first.name(), "token:ci");
    assert!(first.may(Role::Writer, &path("App1/f")) && !first.may(Role::Reader, &path("b")));
    let again = fixture.store.known_token(secret.expose()).expect("it is in memory");

    let revoked = fixture.store.revoke_token("ci".to_owned(), &Call::system()).await.unwrap();
    assert!(revoked.revoked.is_some());
    for caller in [first, again] {
        let error = caller.revoked().await;
        assert_eq!(error.message(), "the credential of 'token:ci' was revoked");
    }
    assert!(refused(&fixture, &secret).await.starts_with("the token 'ci' was revoked at 20"));
    assert!(!fixture.store.has_token().await.unwrap());
    // The name is free again.
    let other = create(&fixture, new("ci", Role::Reader, "/")).await;
    caller(&fixture, &other).await.unwrap();
    assert!(refused(&fixture, &secret).await.contains("was revoked"));
}

#[tokio::test]
async fn a_rotated_token_has_two_secrets_for_some_time() {
    let fixture = Fixture::new().await;
    let first = create(&fixture, new("ci", Role::Writer, "a")).await;
    let running = caller(&fixture, &first).await.unwrap();
    let system = Call::system();
    let rotate = async |overlap| {
        fixture.store.rotate_token("ci".to_owned(), overlap, &system).await.unwrap().1
    };
    let second = rotate(Duration::from_hours(1)).await;
    for secret in [&first, &second] {
        assert_eq!(caller(&fixture, secret).await.unwrap().name(), "token:ci");
    }
    assert!(caller(&fixture, &first).await.unwrap().expiry().is_some());
    assert!(caller(&fixture, &second).await.unwrap().expiry().is_none());
    let old = caller(&fixture, &second).await.unwrap();
    let third = rotate(Duration::ZERO).await;
    // What runs with a secret that is not taken any more ends.
    old.revoked().await;
    assert_eq!(refused(&fixture, &first).await, "no token has this secret");
    assert!(refused(&fixture, &second).await.contains("was replaced, and ended at 20"));
    caller(&fixture, &third).await.unwrap();
    // The calls of every secret end with the token.
    fixture.store.revoke_token("ci".to_owned(), &Call::system()).await.unwrap();
    running.revoked().await;
}

#[tokio::test]
async fn a_token_ends_with_its_life() {
    let fixture = Fixture::new().await;
    let life = Some(Duration::ZERO);
    let secret = create(&fixture, NewToken { life, ..new("ci", Role::Writer, "a") }).await;
    assert!(refused(&fixture, &secret).await.starts_with("the token 'ci' expired at 20"));
    assert!(!fixture.store.has_token().await.unwrap());
    let (token, secret) =
        fixture.store.rotate_token("ci".to_owned(), Duration::ZERO, &Call::system()).await.unwrap();
    assert_eq!(token.life, Some(0), "its life begins again");
    assert!(refused(&fixture, &secret).await.contains("expired at"));
    let life = Some(Duration::from_hours(1));
    let secret = create(&fixture, NewToken { life, ..new("b", Role::Writer, "a") }).await;
    let expiry = caller(&fixture, &secret).await.unwrap().expiry().expect("an end");
    assert!(expiry.instant > tokio::time::Instant::now() + Duration::from_mins(50));
}

#[tokio::test]
async fn an_admin_of_a_path_makes_and_sees_the_tokens_of_that_path() {
    let fixture = Fixture::new().await;
    create(&fixture, new("a", Role::Writer, "a")).await;
    create(&fixture, new("b", Role::Writer, "b")).await;
    let admin = call(rights(Role::Admin, "a*"));
    let (store, create) =
        (&fixture.store, async |new| fixture.store.create_token(new, &admin).await);
    for (role, at) in [(Role::Reader, "b"), (Role::Admin, "/"), (Role::Monitor, "*")] {
        let error = create(new("x", role, at)).await.unwrap_err();
        assert_eq!(error.message(), format!("'token:tester' may not administer '{at}'"));
        assert_eq!(error.kind(), Kind::Forbidden);
    }
    let (token, _) = create(new("x", Role::Admin, "a1/b")).await.unwrap();
    assert_eq!((token.created_by.as_str(), token.grants.as_str()), ("token:tester", "admin a1/b"));
    let names = async |call: &Call| {
        let page = store.tokens(0, String::new(), call).await.unwrap();
        page.items.into_iter().map(|token| token.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&admin).await, ["a", "x"]);
    // The token of a page names only what is seen.
    let page = store.tokens(1, String::new(), &admin).await.unwrap();
    assert!(page.next.is_some_and(|next| next.starts_with("x ")));
    assert_eq!(names(&Call::system()).await, ["a", "b", "x"]);
    assert!(names(&call(rights(Role::Writer, "/"))).await.is_empty());
    for name in ["b", "c"] {
        let error = store.revoke_token(name.to_owned(), &admin).await.unwrap_err();
        assert_eq!(error.message(), format!("no token has the name \"{name}\""));
        let rotated = store.rotate_token(name.to_owned(), Duration::ZERO, &admin).await;
        assert_eq!(rotated.unwrap_err().kind(), Kind::TokenNotFound);
    }
    store.revoke_token("x".to_owned(), &admin).await.unwrap();
}

#[tokio::test]
async fn a_token_that_cannot_be_is_refused() {
    let fixture = Fixture::new().await;
    create(&fixture, new("ci", Role::Writer, "a")).await;
    let day = Duration::from_hours(24);
    for (new, kind, why) in [
        (new("ci", Role::Reader, "/"), Kind::AlreadyExists, "a token has the name \"ci\" already"),
        (new("", Role::Reader, "/"), Kind::InvalidArgument, "the name \"\" is not 1 to 64"),
        (new("a b", Role::Reader, "/"), Kind::InvalidArgument, "the name \"a b\" is not"),
        (new(&"a".repeat(65), Role::Reader, "/"), Kind::InvalidArgument, "is not 1 to 64 letters"),
        (
            NewToken { rights: Rights::default(), ..new("x", Role::Reader, "/") },
            Kind::InvalidArgument,
            "a token has 1 to 100 grants",
        ),
        (
            NewToken { life: Some(401 * day), ..new("x", Role::Reader, "/") },
            Kind::InvalidArgument,
            "life is 401.0 days; at most 400 are taken",
        ),
    ] {
        let error = fixture.store.create_token(new, &Call::system()).await.unwrap_err();
        assert!(error.kind() == kind && error.message().contains(why), "{error}");
    }
    let rotated = fixture.store.rotate_token("ci".to_owned(), 31 * day, &Call::system()).await;
    assert!(rotated.unwrap_err().message().contains("at most 30 are taken"));
    for (text, why) in [("imagestore_x", "the token is malformed"), ("x", "the token is malformed")]
    {
        let error = fixture.store.token_caller(text).await.unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
    let (stranger, _) = crate::access::new_token_secret("abcdefgh").unwrap();
    assert_eq!(refused(&fixture, &stranger).await, "no token has this secret");
}

#[tokio::test]
async fn the_pages_of_tokens_follow_each_other() {
    let fixture = Fixture::new().await;
    for name in ["b", "a", "c", "a-1"] {
        create(&fixture, new(name, Role::Reader, "/")).await;
    }
    fixture.store.revoke_token("a".to_owned(), &Call::system()).await.unwrap();
    create(&fixture, new("a", Role::Reader, "/")).await;
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = fixture.store.tokens(2, from, &Call::system()).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|token| token.name));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(seen, ["a", "a", "a-1", "b", "c"]);
}

#[tokio::test]
async fn a_token_that_has_expired_gives_its_name_away() {
    let fixture = Fixture::new().await;
    let life = Some(Duration::ZERO);
    let first = create(&fixture, NewToken { life, ..new("ci", Role::Writer, "a") }).await;
    let second = create(&fixture, new("ci", Role::Reader, "b")).await;
    assert!(refused(&fixture, &first).await.contains("the token 'ci' was revoked"));
    assert!(caller(&fixture, &second).await.unwrap().may(Role::Reader, &path("b")));
}

#[tokio::test]
async fn a_write_replaces_no_file_above_that_its_caller_may_not_write() {
    let fixture = Fixture::new().await;
    fixture.upload("Prod", vec![1]).await.unwrap();
    let writer = call(rights(Role::Writer, "Prod/team"));
    let spec =
        || UploadSpec { replaces: Replaces::Anything, ..UploadSpec::new(path("Prod/team/x")) };
    let error = fixture.store.upload(spec(), &writer).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    let session = crate::model::SessionId::parse("d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11").unwrap();
    let range = crate::model::ChunkRange::new(0, 1, 1).unwrap();
    let at = (path("Prod/team/x"), Replaces::Anything);
    let refused = fixture.store.chunk_over(session, at.clone(), range, &writer).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::AlreadyExists);
    // The file may come after the chunk.
    fixture.store.delete(&path("Prod"), &Call::system()).await.unwrap();
    let mut chunk = fixture.store.chunk_over(session, at, range, &writer).await.unwrap();
    chunk.write(Bytes::from_static(b"1")).await.unwrap();
    chunk.finish().await.unwrap();
    fixture.upload("Prod", vec![1]).await.unwrap();
    let (replaces, conditions) = (Replaces::Anything, Conditions::default());
    let committed = fixture.store.commit_session_if(session, replaces, conditions, &writer).await;
    assert_eq!(committed.unwrap_err().kind(), Kind::AlreadyExists);
    let stat = fixture.store.stat(&path("Prod"), &Call::system()).await.unwrap();
    assert_eq!(stat.entry.totals.bytes, 1);
    // Who may write the file replaces it.
    let admin = call(rights(Role::Writer, "Prod"));
    let mut upload = fixture.store.upload(spec(), &admin).await.unwrap();
    upload.write(Bytes::from_static(b"22")).await.unwrap();
    upload.finish().await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_left_to_run_ends_with_the_token_that_started_it() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    let secret = create(&fixture, new("ci", Role::Writer, "/")).await;
    create(&fixture, new("other", Role::Writer, "/")).await;
    let caller = caller(&fixture, &secret).await.unwrap();
    let context = RequestContext::new(caller, Peer::default(), None);
    let call = context.authorize(Rpc::GetCaller, &[]).unwrap();
    fixture.gate.close();
    let verify = CopyRequest { verify: true, ..request("a", "b") };
    let copying = fixture.store.copy(verify.clone(), true, &call).await.unwrap();
    drop(copying);
    fixture.store.revoke_token("other".to_owned(), &Call::system()).await.unwrap();
    let row = fixture.store.operation(verify.id, &Call::system()).await.unwrap();
    assert_eq!(row.state, OperationState::Running);
    fixture.store.revoke_token("ci".to_owned(), &Call::system()).await.unwrap();
    let mut updates = fixture.store.watch(verify.id, &Call::system()).await.unwrap();
    let mut last = None;
    while let Some(operation) = updates.next().await.unwrap() {
        last = Some(operation);
    }
    let last = last.unwrap();
    assert_eq!(last.state, OperationState::Cancelled);
    assert!(last.error.unwrap().message.contains("the token 'ci', which started it, was revoked"));
}

#[tokio::test]
async fn the_use_of_a_token_is_noted() {
    let fixture = Fixture::new().await;
    let secret = create(&fixture, new("ci", Role::Reader, "/")).await;
    caller(&fixture, &secret).await.unwrap();
    until("the use is noted", async || {
        let page = fixture.store.tokens(0, String::new(), &Call::system()).await.unwrap();
        page.items[0].used.is_some()
    })
    .await;
}
