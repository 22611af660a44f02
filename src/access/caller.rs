//! Who makes a call, and what this identity may do.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Rights, Role},
    error::{Error, Kind},
    model::StorePath,
};

/// An identity, its rights, and whether its credential was revoked. Clones share all of it.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    name: String,
    is_anonymous: bool,
    rights: watch::Receiver<Arc<Rights>>,
    revoked: CancellationToken,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.0.name).finish()
    }
}

/// The name of who sends no credential.
pub const ANONYMOUS: &str = "anonymous";

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

    fn everywhere(name: &str) -> Self {
        let rights = watch::channel(Arc::new(Rights::everything())).1;
        Self::named(name.to_owned(), false, rights)
    }

    /// Who sends no credential. The rights are those of the latest value of the channel.
    pub fn anonymous(rights: watch::Receiver<Arc<Rights>>) -> Self {
        Self::named(ANONYMOUS.to_owned(), true, rights)
    }

    fn named(name: String, is_anonymous: bool, rights: watch::Receiver<Arc<Rights>>) -> Self {
        Self(Arc::new(Inner { name, is_anonymous, rights, revoked: CancellationToken::new() }))
    }

    /// The name, as messages show it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The rights of this moment.
    pub fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.0.rights.borrow())
    }

    /// Whether the caller has a role at a path.
    pub fn may(&self, role: Role, path: &StorePath) -> bool {
        self.0.rights.borrow().may(role, path)
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

    /// Resolves when the credential is revoked.
    pub async fn revoked(&self) {
        self.0.revoked.cancelled().await;
    }
}
