//! Who makes a call, and what this identity may do.

use std::{
    fmt,
    future::pending,
    sync::{Arc, LazyLock},
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{
        ANONYMOUS, CERTIFICATE_SHA256, Fingerprint, Grants, Maker, Principal, Rights, Role,
        granted::Granted,
    },
    error::{Error, Kind},
    model::StorePath,
};

/// An identity, its rights, and the end of its credential. Clones share all of it.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    name: String,
    is_anonymous: bool,
    is_revocable: bool,
    /// The path of the link that the caller has, with which it may only read there.
    link: Option<StorePath>,
    /// The secret of the token that the caller sends.
    secret: Option<Fingerprint>,
    credential: Option<String>,
    source: Source,
    expiry: Option<Expiry>,
    /// Cancelled when what has judged the credential changes.
    judged: Option<CancellationToken>,
    /// Cancelled when the calls of this caller end: a child of `revoked`, or the same.
    ended: CancellationToken,
    /// Cancelled when the calls of all variants of this caller end.
    revoked: Arc<CancellationToken>,
}

/// Where the rights of a caller come from.
#[derive(Clone)]
enum Source {
    /// They do not change.
    Fixed(Arc<Rights>),
    /// They are those that the latest grants give to the caller.
    Granted(Arc<Granted>),
}

impl Source {
    fn everything() -> Self {
        Self::Fixed(Arc::new(Rights::everything()))
    }

    fn granted(principal: Principal, grants: watch::Receiver<Arc<Grants>>) -> Self {
        Self::Granted(Arc::new(Granted::new(principal, grants)))
    }
}

/// The end of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// In microseconds since 1970.
    pub at: i64,
    /// The same time by the clock of the runtime.
    pub instant: Instant,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.0.name).finish()
    }
}

impl Caller {
    /// The server itself, which may do everything.
    pub(super) fn system() -> Self {
        static SYSTEM: LazyLock<Caller> = LazyLock::new(|| Caller::everywhere("system"));
        SYSTEM.clone()
    }

    /// The command in the same process that works on the store of a stopped server. It may do everything.
    pub fn local() -> Self {
        Self::everywhere("local")
    }

    /// Who sends no credential where everyone may do everything.
    pub fn open() -> Self {
        Self::with((ANONYMOUS.to_owned(), None), false, Source::everything(), None)
    }

    /// Who sends no credential, with the rights that the latest grants give.
    pub fn anonymous(grants: watch::Receiver<Arc<Grants>>) -> Self {
        let principal = Principal::named(vec![ANONYMOUS.to_owned()]);
        let source = Source::granted(principal, grants);
        Self::with((ANONYMOUS.to_owned(), None), false, source, None)
    }

    /// Who shows a certificate with these names, of which there is at least one, with the rights that the latest grants
    /// give to any of them. The first name is that of the caller.
    pub fn certificate(
        names: Vec<String>,
        grants: watch::Receiver<Arc<Grants>>,
        expiry: Option<Expiry>,
    ) -> Self {
        let name = names.first().cloned().unwrap_or_default();
        let digest = names.iter().find(|name| name.starts_with(CERTIFICATE_SHA256)).cloned();
        let source = Source::granted(Principal::named(names), grants);
        Self::with((name, digest), false, source, expiry)
    }

    /// Who sends a JWT that an issuer has signed for a caller with at least one name, with the rights that the latest
    /// grants give. The first name is that of the caller. The credential is the same for all JWTs of one user.
    pub fn jwt(
        principal: Principal,
        credential: String,
        grants: watch::Receiver<Arc<Grants>>,
        expiry: Expiry,
    ) -> Self {
        let name = principal.names().first().cloned().unwrap_or_default();
        let source = Source::granted(principal, grants);
        Self::with((name, Some(credential)), false, source, Some(expiry))
    }

    /// Who sends the secret of the token with an id.
    pub fn token((name, id): (&str, &str), rights: Rights, expiry: Option<Expiry>) -> Self {
        let names = (format!("token:{name}"), Some(id.to_owned()));
        Self::with(names, true, Source::Fixed(Arc::new(rights)), expiry)
    }

    fn everywhere(name: &str) -> Self {
        Self::with((name.to_owned(), None), false, Source::everything(), None)
    }

    fn with(
        (name, credential): (String, Option<String>),
        is_revocable: bool,
        source: Source,
        expiry: Option<Expiry>,
    ) -> Self {
        let is_anonymous = name == ANONYMOUS;
        let revoked = Arc::<CancellationToken>::default();
        Self(Arc::new(Inner {
            name,
            is_anonymous,
            is_revocable,
            link: None,
            secret: None,
            credential,
            source,
            expiry,
            judged: None,
            ended: CancellationToken::clone(&revoked),
            revoked,
        }))
    }

    /// The same caller with another end of its credential.
    #[must_use]
    pub fn until(&self, expiry: Option<Expiry>) -> Self {
        let Inner {
            name,
            is_anonymous,
            is_revocable,
            link,
            secret,
            credential,
            source,
            judged,
            ended,
            revoked,
            ..
        } = &*self.0;
        Self(Arc::new(Inner {
            name: name.clone(),
            is_anonymous: *is_anonymous,
            is_revocable: *is_revocable,
            link: link.clone(),
            secret: *secret,
            credential: credential.clone(),
            source: source.clone(),
            expiry,
            judged: judged.clone(),
            ended: ended.clone(),
            revoked: Arc::clone(revoked),
        }))
    }

    /// The same caller with one of several secrets of its token, which can also be revoked alone.
    #[must_use]
    pub fn with_secret(&self, secret: Fingerprint) -> Self {
        let mut caller = self.until(self.0.expiry);
        if let Some(inner) = Arc::get_mut(&mut caller.0) {
            inner.ended = inner.revoked.child_token();
            inner.secret = Some(secret);
        }
        caller
    }

    /// Who has a link that this caller has made: it may read at the path what this caller may read, and nothing else.
    #[must_use]
    pub fn with_link(&self, path: StorePath) -> Self {
        let mut caller = self.until(self.0.expiry);
        if let Some(inner) = Arc::get_mut(&mut caller.0) {
            inner.name = format!("link:{}", inner.name);
            inner.is_anonymous = false;
            inner.link = Some(path);
        }
        caller
    }

    /// Another caller, with the rights that the same grants give to it. Where everyone may do everything, that is this
    /// caller itself.
    #[must_use]
    pub fn granted(&self, principal: Principal) -> Self {
        let Source::Granted(granted) = &self.0.source else { return self.clone() };
        let name = principal.names().first().cloned().unwrap_or_default();
        Self::with((name, None), false, Source::granted(principal, granted.grants().clone()), None)
    }

    /// By what a link names this caller as its maker; `None` if the caller may make no links.
    pub fn maker(&self) -> Option<Maker> {
        if self.has_link() {
            return None;
        }
        match (&self.0.source, &self.0.credential, self.0.secret) {
            (Source::Fixed(_), Some(id), Some(secret)) => {
                Some(Maker::Token { id: id.clone(), secret })
            }
            (Source::Fixed(_), ..) if self.0.is_anonymous => {
                Some(Maker::Granted(Principal::named(vec![self.0.name.clone()])))
            }
            (Source::Fixed(_), ..) => None,
            (Source::Granted(granted), ..) => {
                Some(Maker::Granted(granted.grants().borrow().asked(granted.principal())))
            }
        }
    }

    /// Whether the caller has a link instead of a credential of its own.
    pub fn has_link(&self) -> bool {
        self.0.link.is_some()
    }

    /// The name, as messages show it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// All names, [`Caller::name`] first.
    pub fn names(&self) -> &[String] {
        match &self.0.source {
            Source::Fixed(_) => std::slice::from_ref(&self.0.name),
            Source::Granted(granted) => granted.principal().names(),
        }
    }

    /// The kind of the credential, for the audit log.
    pub fn via(&self) -> &'static str {
        match (self.0.is_anonymous, self.0.name.split_once(':')) {
            (true, _) => "none",
            (false, Some(("link", _))) => "link",
            (false, Some(("token", _))) => "token",
            (false, Some(("cert", _))) => "certificate",
            (false, Some(_)) => "jwt",
            (false, None) => "local",
        }
    }

    /// What tells the credential from others of the same name: the id of a token, the digest of a certificate, that of
    /// the issuer and the subject of a JWT.
    pub fn credential(&self) -> Option<&str> {
        self.0.credential.as_deref()
    }

    /// Whether the caller has started an operation: by the same credential, since another one may have the same name.
    pub fn has_started(&self, credential: &str) -> bool {
        self.credential().is_some_and(|own| own == credential)
    }

    /// The same caller, whose watches end when a token is cancelled: what has judged the credential has changed.
    #[must_use]
    pub fn judged_until(&self, changed: CancellationToken) -> Self {
        let mut caller = self.until(self.0.expiry);
        if let Some(inner) = Arc::get_mut(&mut caller.0) {
            inner.judged = Some(changed);
        }
        caller
    }

    /// Whether the caller has any right.
    pub fn has_rights(&self) -> bool {
        match &self.0.source {
            Source::Fixed(rights) => !rights.is_empty(),
            Source::Granted(granted) => granted.has_rights(),
        }
    }

    /// The rights of this moment.
    pub fn rights(&self) -> Arc<Rights> {
        if self.has_link() {
            // A link is for one path, which no list of rights is needed for.
            return Arc::default();
        }
        match &self.0.source {
            Source::Fixed(rights) => Arc::clone(rights),
            Source::Granted(granted) => Arc::new(granted.rights()),
        }
    }

    /// Whether the caller has a role at a path.
    pub fn may(&self, role: Role, path: &StorePath) -> bool {
        if self.0.link.as_ref().is_some_and(|link| role > Role::Reader || link != path) {
            return false;
        }
        match &self.0.source {
            Source::Fixed(rights) => rights.may(role, path),
            Source::Granted(granted) => granted.may(role, path),
        }
    }

    /// When the credential ends; `None`: never.
    pub fn expiry(&self) -> Option<Expiry> {
        self.0.expiry
    }

    /// The error for a call that the caller may not make; `what` follows "may not". A caller without a credential is
    /// asked for one.
    pub(super) fn refused(&self, what: &str) -> Error {
        let name = self.name();
        if self.0.is_anonymous {
            let message = format!("'{name}' may not {what}; send a credential that may");
            return Error::new(Kind::Unauthenticated, message);
        }
        Error::new(Kind::Forbidden, format!("'{name}' may not {what}"))
    }

    /// Whether the credential can be revoked. That of who sends none cannot.
    pub fn is_revocable(&self) -> bool {
        self.0.is_revocable
    }

    /// Ends the credential for all calls that run.
    pub fn revoke(&self) {
        self.0.ended.cancel();
    }

    /// Resolves when the credential is revoked, with the error for the calls that run.
    pub async fn revoked(&self) -> Error {
        self.0.ended.cancelled().await;
        let message = format!("the credential of '{}' was revoked", self.name());
        Error::new(Kind::Unauthenticated, message)
    }

    /// Resolves when the credential ends or has to be judged again, with the error for the watches that run.
    pub async fn expired(&self) -> Error {
        let judged = async {
            match &self.0.judged {
                Some(changed) => changed.cancelled().await,
                None => pending().await,
            }
        };
        let expired = async {
            match self.0.expiry {
                Some(expiry) => sleep_until(expiry.instant).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = expired => {
                let message = format!("the credential of '{}' has expired", self.name());
                Error::new(Kind::Unauthenticated, message)
            }
            () = judged => {
                let message = "what has verified the credential has changed; watch again";
                Error::new(Kind::Busy, message)
            }
        }
    }

    /// The number of clones of this caller: a call that runs holds one.
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// The number of callers that [`Caller::until`] has made of one, and that still exist, with that one.
    pub fn variants(&self) -> usize {
        Arc::strong_count(&self.0.revoked)
    }
}
