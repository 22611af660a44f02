//! Links: their signature, their end, and the right of their maker.

use super::*;
use crate::{
    access::{
        Expiry, Grants, LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE, Link, LinkForm, LinkKey, Maker,
        Pattern, Principal, RequestContext, Rights, Role, Rpc, SignedLink,
    },
    limits::{LINK_GRANTED_LIFE_MAX, LINK_LIFE_MAX},
    namespace::link,
    secret::Secret,
};

const HOUR: Duration = Duration::from_hours(1);

/// What a request with the query of a link carries.
fn signed(query: &Secret, form: LinkForm, at: &str) -> SignedLink {
    let value = |name: &str| {
        let pairs = query.expose().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).expect("a value").1.to_owned()
    };
    SignedLink {
        form,
        path: path(at),
        expires: value(LINK_EXPIRES),
        maker: value(LINK_MAKER),
        signature: Secret::from(value(LINK_SIGNATURE)),
    }
}

fn call(caller: Caller) -> Call {
    RequestContext::new(caller, Peer::default(), None).authorize(Rpc::GetCaller, &[]).unwrap()
}

impl Fixture {
    /// The secret of a new token of a reader of `a`.
    async fn reader(&self, life: Option<Duration>) -> Secret {
        let rights = Rights::new(vec![(Role::Reader, Pattern::parse("a").unwrap())]);
        let token = NewToken { name: "ci".to_owned(), rights, life };
        self.store.create_token(token, &Call::system()).await.unwrap().1
    }

    async fn token(&self, secret: &Secret) -> Caller {
        self.store.token_caller(secret.expose()).await.unwrap()
    }

    async fn link(&self, caller: Caller, life: Duration) -> Result<NewLink> {
        self.store.create_link(&path("a"), LinkForm::Package, life, &call(caller)).await
    }

    /// The maker of a link, as a request with the link finds it.
    async fn maker(&self, made: &NewLink) -> Result<Caller> {
        let link = self.store.check_link(&signed(&made.query, LinkForm::Package, "a")).await?;
        let Maker::Token { id, secret } = link.maker else { panic!("no token") };
        self.store.linked_token(&id, secret).await
    }
}

#[tokio::test]
async fn a_link_has_the_rights_of_the_token_that_made_it() {
    let fixture = Fixture::new().await;
    let secret = fixture.reader(None).await;
    let token = fixture.token(&secret).await;
    let made = fixture.link(token, HOUR).await.unwrap();
    let holder = fixture.maker(&made).await.unwrap().with_link(path("a"));
    assert_eq!((holder.name(), holder.via()), ("link:token:ci", "link"));
    assert!(holder.may(Role::Reader, &path("a")));
    assert!(!holder.may(Role::Reader, &path("a/b")) && !holder.may(Role::Reader, &path("b")));
    assert!(!holder.may(Role::Writer, &path("a")) && holder.rights().is_empty());
    let error = fixture.link(holder.clone(), HOUR).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::Forbidden, "'link:token:ci' may make no links")
    );
    // The calls that run with the link end with the token.
    fixture.store.revoke_token("ci".to_owned(), &Call::system()).await.unwrap();
    holder.revoked().await;
    let error = fixture.maker(&made).await.unwrap_err();
    assert!(error.message().starts_with("the token 'ci' was revoked at 20"), "{error}");
}

#[tokio::test]
async fn a_link_ends_with_the_secret_of_its_token() {
    let fixture = Fixture::new().await;
    let secret = fixture.reader(None).await;
    let first = fixture.token(&secret).await;
    let old = fixture.link(first.clone(), HOUR).await.unwrap();
    let rotate = async |overlap| {
        let store = &fixture.store;
        store.rotate_token("ci".to_owned(), overlap, &Call::system()).await.unwrap().1
    };
    // The old secret is still taken, and so is its link, in memory and from the database.
    let secret = rotate(HOUR).await;
    for _ in 0..2 {
        assert_eq!(fixture.maker(&old).await.unwrap().name(), "token:ci");
    }
    let new = fixture.link(fixture.token(&secret).await, HOUR).await.unwrap();
    rotate(Duration::ZERO).await;
    let error = fixture.maker(&old).await.unwrap_err();
    assert_eq!(error.message(), "no token has this secret");
    let error = fixture.maker(&new).await.unwrap_err();
    assert!(error.message().contains("was replaced, and ended at 20"), "{error}");
}

#[tokio::test]
async fn a_link_lives_no_longer_than_what_made_it() {
    let fixture = Fixture::new().await;
    let secret = fixture.reader(Some(HOUR)).await;
    let token = fixture.token(&secret).await;
    let end = token.expiry().unwrap().at;
    let made = fixture.link(token.clone(), 2 * HOUR).await.unwrap();
    assert_eq!(made.expires, end / 1_000_000 * 1_000_000);
    let shorter = fixture.link(token.clone(), HOUR / 2).await.unwrap();
    assert!(shorter.expires < end - 1_000_000);
    for life in
        [Duration::ZERO, Duration::from_millis(999), LINK_LIFE_MAX + Duration::from_nanos(1)]
    {
        let error = fixture.link(token.clone(), life).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{life:?}");
        assert!(error.message().contains("lives 1 second to 7 days"), "{error}");
    }
    fixture.link(Caller::open(), LINK_LIFE_MAX).await.unwrap();
    let error = fixture.link(Caller::local(), HOUR).await.unwrap_err();
    assert_eq!(error.message(), "'local' may make no links");
}

#[tokio::test]
async fn a_link_of_a_certificate_or_a_jwt_lives_for_an_hour() {
    let fixture = Fixture::new().await;
    let text = "[[grant]]\nwho = ['cert:cn=*', 'anonymous']\nrole = 'reader'\npaths = ['a']\n";
    let (_sender, grants) =
        tokio::sync::watch::channel(Arc::new(Grants::parse(text.as_bytes()).unwrap()));
    let certificate = Caller::certificate(vec!["cert:cn=ci".to_owned()], grants.clone(), None);
    let at = tokio::time::Instant::now() + 24 * HOUR;
    let expiry = Expiry { at: i64::MAX, instant: at };
    let principal = Principal::named(vec!["x:anna".to_owned()]);
    let jwt = Caller::jwt(principal, "jwt:x".to_owned(), grants.clone(), expiry);
    for (caller, name) in [(certificate, "cert:cn=ci"), (jwt, "x:anna")] {
        fixture.link(caller.clone(), LINK_GRANTED_LIFE_MAX).await.unwrap();
        let longer = LINK_GRANTED_LIFE_MAX + Duration::from_secs(1);
        let error = fixture.link(caller, longer).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        let start = format!("a link of '{name}' lives at most 3600 s, not 3601 s; with a token");
        assert!(error.message().starts_with(&start), "{error}");
    }
    fixture.link(Caller::anonymous(grants), LINK_LIFE_MAX).await.unwrap();
}

#[tokio::test]
async fn a_link_where_none_was_made_is_refused_and_makes_no_key() {
    let fixture = Fixture::new().await;
    let link = Link {
        expires: i64::MAX / 1_000_000,
        maker: Maker::Granted(Principal::named(vec!["anonymous".to_owned()])),
    };
    let query = link.sign(&LinkKey::from([1, 2, 3, 4]), LinkForm::Package, &path("a")).unwrap();
    let signed = signed(&query, LinkForm::Package, "a");
    let error = fixture.store.check_link(&signed).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert!(error.message().contains("this store, which has made none"), "{error}");
    assert_eq!(fixture.store.0.engine.read(None, link::key).await.unwrap(), None);
    // Then with a key.
    fixture.link(Caller::open(), HOUR).await.unwrap();
    let error = fixture.store.check_link(&signed).await.unwrap_err();
    assert!(error.message().contains("it was altered"), "{error}");
}

#[tokio::test]
async fn an_expired_link_says_so_and_a_new_key_ends_all() {
    let fixture = Fixture::new().await;
    let made = fixture.link(Caller::open(), HOUR).await.unwrap();
    let check = async |query: &Secret, form, at: &str| {
        fixture.store.check_link(&signed(query, form, at)).await.map(|link| link.maker)
    };
    let maker = check(&made.query, LinkForm::Package, "a").await.unwrap();
    assert_eq!(maker, Maker::Granted(Principal::named(vec!["anonymous".to_owned()])));
    for (form, at) in
        [(LinkForm::Content, "a"), (LinkForm::Package, "a/b"), (LinkForm::Package, "b")]
    {
        assert_eq!(check(&made.query, form, at).await.unwrap_err().kind(), Kind::Forbidden);
    }
    // The key is that of the store, of which a test can make a link that has expired.
    let numbers = fixture.store.0.engine.read(None, link::key).await.unwrap().expect("a key");
    let (key, maker) =
        (LinkKey::from(numbers), Maker::Granted(Principal::named(vec!["anonymous".to_owned()])));
    let expired = Link { expires: 1_700_000_000, maker };
    let query = expired.sign(&key, LinkForm::Package, &path("a")).unwrap();
    let error = check(&query, LinkForm::Package, "a").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert_eq!(error.message(), "the link has expired at 2023-11-14T22:13:20Z; ask for a new one");

    fixture.store.rotate_link_key(&Call::system()).await.unwrap();
    let error = check(&made.query, LinkForm::Package, "a").await.unwrap_err();
    assert!(error.message().contains("all links were ended"), "{error}");
    let again = fixture.link(Caller::open(), HOUR).await.unwrap();
    check(&again.query, LinkForm::Package, "a").await.unwrap();
    let now = fixture.store.0.engine.read(None, link::key).await.unwrap().expect("a key");
    assert_ne!(now, numbers);
}
