//! Who sends a request: the one question that is answered at the door.

use std::sync::Arc;

use http::{HeaderMap, header};
use tokio::sync::watch;

use crate::{
    access::{Caller, Identity, Rights},
    error::{Error, Kind},
};

/// Answers who sends a request. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Authenticator {
    /// Whether credentials are required, so that one that the server does not know is refused.
    is_required: bool,
    /// Who sends no credential.
    anonymous: Caller,
}

impl Authenticator {
    /// Whoever reaches the server may do everything.
    pub(in crate::server) fn open() -> Self {
        let rights = watch::channel(Arc::new(Rights::everything())).1;
        Self { is_required: false, anonymous: Caller::anonymous(rights) }
    }

    /// Only the command in the same process reaches the server.
    pub(in crate::server) fn local() -> Self {
        Self { is_required: false, anonymous: Caller::local() }
    }

    /// Who sends no credential has the rights of the channel.
    pub(in crate::server) fn required(anonymous: watch::Receiver<Arc<Rights>>) -> Self {
        Self { is_required: true, anonymous: Caller::anonymous(anonymous) }
    }

    /// Whether nobody has any right.
    pub(in crate::server) fn admits_nobody(&self) -> bool {
        self.anonymous.rights().is_empty()
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// `Unauthenticated` for a credential that is refused, and for none where one is required.
    pub(in crate::server) fn identify(&self, headers: &HeaderMap) -> Identity {
        if self.is_required && headers.contains_key(header::AUTHORIZATION) {
            let message = "the credential in the header 'authorization' is not known";
            return Err(Error::new(Kind::Unauthenticated, message));
        }
        if self.admits_nobody() {
            let message = "the call has no credential; send one in the header 'authorization'";
            return Err(Error::new(Kind::Unauthenticated, message));
        }
        Ok(self.anonymous.clone())
    }
}
