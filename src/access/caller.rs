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
    access::{ANONYMOUS, Grants, Rights, Role},
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
    source: Source,
    expiry: Option<Expiry>,
    revoked: Arc<CancellationToken>,
}

/// Where the rights of a caller come from.
#[derive(Clone)]
enum Source {
    /// They do not change.
    Fixed(Arc<Rights>),
    /// They are those that the latest grants give to the names of the caller.
    Granted { names: Arc<[String]>, grants: watch::Receiver<Arc<Grants>> },
}

impl Source {
    fn everything() -> Self {
        Self::Fixed(Arc::new(Rights::everything()))
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
        Self::with(ANONYMOUS.to_owned(), false, Source::everything(), None)
    }

    /// Who sends no credential, with the rights that the latest grants give.
    pub fn anonymous(grants: watch::Receiver<Arc<Grants>>) -> Self {
        let names = Arc::from([ANONYMOUS.to_owned()]);
        Self::with(ANONYMOUS.to_owned(), false, Source::Granted { names, grants }, None)
    }

    /// Who shows a certificate with these names, of which there is at least one, with the rights that the latest grants
    /// give to any of them. The first name is that of the caller.
    pub fn certificate(
        names: Vec<String>,
        grants: watch::Receiver<Arc<Grants>>,
        expiry: Option<Expiry>,
    ) -> Self {
        let name = names.first().cloned().unwrap_or_default();
        Self::with(name, false, Source::Granted { names: names.into(), grants }, expiry)
    }

    /// Who sends the secret of a token.
    pub fn token(name: &str, rights: Rights, expiry: Option<Expiry>) -> Self {
        Self::with(format!("token:{name}"), true, Source::Fixed(Arc::new(rights)), expiry)
    }

    fn everywhere(name: &str) -> Self {
        Self::with(name.to_owned(), false, Source::everything(), None)
    }

    fn with(name: String, is_revocable: bool, source: Source, expiry: Option<Expiry>) -> Self {
        let is_anonymous = name == ANONYMOUS;
        let revoked = Arc::default();
        Self(Arc::new(Inner { name, is_anonymous, is_revocable, source, expiry, revoked }))
    }

    /// The same caller with another end of its credential.
    #[must_use]
    pub fn until(&self, expiry: Option<Expiry>) -> Self {
        let Inner { name, is_anonymous, is_revocable, source, revoked, .. } = &*self.0;
        Self(Arc::new(Inner {
            name: name.clone(),
            is_anonymous: *is_anonymous,
            is_revocable: *is_revocable,
            source: source.clone(),
            expiry,
            revoked: Arc::clone(revoked),
        }))
    }

    /// The name, as messages show it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this is the name of the caller, and of nobody else.
    pub fn has_name(&self, name: &str) -> bool {
        !self.0.is_anonymous && self.0.name == name
    }

    /// The rights of this moment.
    pub fn rights(&self) -> Arc<Rights> {
        match &self.0.source {
            Source::Fixed(rights) => Arc::clone(rights),
            Source::Granted { names, grants } => Arc::new(grants.borrow().rights(names)),
        }
    }

    /// Whether the caller has a role at a path.
    pub fn may(&self, role: Role, path: &StorePath) -> bool {
        match &self.0.source {
            Source::Fixed(rights) => rights.may(role, path),
            Source::Granted { names, grants } => grants.borrow().may(names, role, path),
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
        self.0.revoked.cancel();
    }

    /// Resolves when the credential is revoked, with the error for the calls that run.
    pub async fn revoked(&self) -> Error {
        self.0.revoked.cancelled().await;
        let message = format!("the credential of '{}' was revoked", self.name());
        Error::new(Kind::Unauthenticated, message)
    }

    /// Resolves when the credential ends, with the error for the watches that run.
    pub async fn expired(&self) -> Error {
        match self.0.expiry {
            Some(expiry) => sleep_until(expiry.instant).await,
            None => pending().await,
        }
        let message = format!("the credential of '{}' has expired", self.name());
        Error::new(Kind::Unauthenticated, message)
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
