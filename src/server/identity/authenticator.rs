//! Who sends a request: the one question that is answered at the door.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::watch;

use super::{
    clients::{Clients, Presented},
    failures::Failures,
    issuers::Issuers,
    jwt::Jwt,
};
use crate::{
    access::{Caller, Grants, Identity, TOKEN_PREFIX},
    budget::Peer,
    error::{Error, Kind, Result},
    limits::CREDENTIAL_BYTES_MAX,
    secret::Secret,
    store::Store,
};

/// The message to who shows no certificate where each caller has to, which is also upstream's reason phrase.
pub(in crate::server) const CERTIFICATE_REQUIRED: &str = "Client certificate required";

/// Answers who sends a request. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::server) struct Authenticator {
    /// Who sends no credential.
    anonymous: Caller,
    /// The judge of client certificates; `None`: no right is required, and what the server does not know is ignored.
    clients: Option<Clients>,
    /// The issuers whose JWTs are taken; `None`: no JWT is taken.
    issuers: Option<Issuers>,
    failures: Failures,
    /// The store with the tokens; `None`: no token is taken.
    store: Option<Store>,
}

impl Authenticator {
    /// Whoever reaches the server may do everything.
    pub(in crate::server) fn open(store: Option<Store>) -> Self {
        Self::new(Caller::open(), None, None, store)
    }

    /// Only the command in the same process reaches the server.
    pub(in crate::server) fn local() -> Self {
        Self::new(Caller::local(), None, None, None)
    }

    /// Each caller has what is granted to it.
    pub(in crate::server) fn required(
        grants: watch::Receiver<Arc<Grants>>,
        clients: Clients,
        issuers: Option<Issuers>,
        store: Store,
    ) -> Self {
        Self::new(Caller::anonymous(grants), Some(clients), issuers, Some(store))
    }

    fn new(
        anonymous: Caller,
        clients: Option<Clients>,
        issuers: Option<Issuers>,
        store: Option<Store>,
    ) -> Self {
        Self { anonymous, clients, issuers, failures: Failures::default(), store }
    }

    /// Whether a right is required.
    pub(in crate::server) fn is_required(&self) -> bool {
        self.clients.is_some()
    }

    /// Whether some caller has a right: one that the grants name, or a token.
    ///
    /// # Errors
    /// Those of the database.
    pub(in crate::server) async fn admits_anybody(&self) -> Result<bool> {
        if self.clients.as_ref().is_none_or(Clients::has_grant) {
            return Ok(true);
        }
        match &self.store {
            Some(store) => store.has_token().await,
            None => Ok(false),
        }
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// `Unauthenticated` for a credential that is refused, and for none where one is required; `Forbidden` for a good one
    /// without any right; `TooManyFailures`; `Busy` if the database or the issuer of a JWT does not answer.
    pub(in crate::server) async fn identify(
        &self,
        headers: &HeaderMap,
        presented: Option<&Presented>,
        peer: Peer,
    ) -> Identity {
        self.check_certificate(presented)?;
        if let (Some(clients), Some(presented)) = (&self.clients, presented)
            && clients.is_required()
        {
            // It need not be granted anything: the rights may be those of a token.
            clients.judge(presented)?;
        }
        let credential = credential(headers);
        if let (Some(Credential::Token(token)), Some(store)) = (&credential, &self.store) {
            return self.token(store, token.expose(), peer).await;
        }
        // A server that requires no right has always ignored what it does not know.
        let Some(clients) = &self.clients else { return Ok(self.anonymous.clone()) };
        match credential {
            Some(Credential::Bearer(jwt)) => return self.jwt(jwt.expose(), peer).await,
            Some(Credential::Unknown(why)) => return Err(refused(why)),
            Some(Credential::Token(_)) => return Err(refused(UNKNOWN)),
            None => {}
        }
        match presented {
            Some(presented) => clients.identify(presented),
            None if !self.anonymous.has_rights() => Err(refused(
                "the call has no credential; send a token: 'authorization: Bearer TOKEN'",
            )),
            None => Ok(self.anonymous.clone()),
        }
    }

    /// Refuses a request without the certificate that each caller has to show.
    pub(super) fn check_certificate(&self, presented: Option<&Presented>) -> Result<()> {
        if self.lacks_certificate(presented) {
            return Err(Error::new(Kind::Forbidden, CERTIFICATE_REQUIRED));
        }
        Ok(())
    }

    /// Who sends no credential.
    pub(super) fn anonymous(&self) -> &Caller {
        &self.anonymous
    }

    /// The store with the tokens.
    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Whether a request is without the certificate that each caller has to show.
    pub(in crate::server) fn lacks_certificate(&self, presented: Option<&Presented>) -> bool {
        presented.is_none() && self.clients.as_ref().is_some_and(Clients::is_required)
    }

    async fn token(&self, store: &Store, text: &str, peer: Peer) -> Identity {
        // A credential that is known as good passes first: one broken client does not lock out its neighbours.
        if let Some(caller) = store.known_token(text) {
            return Ok(caller);
        }
        self.failures.check(peer)?;
        let found = store.token_caller(text).await;
        self.count(&found, peer);
        found
    }

    async fn jwt(&self, text: &str, peer: Peer) -> Identity {
        let issuers = self.issuers.as_ref().filter(|issuers| issuers.is_any());
        let Some(issuers) = issuers.filter(|_| Jwt::is_like(text)) else {
            return Err(refused(UNKNOWN));
        };
        if let Some(caller) = issuers.known(text).filter(Caller::has_rights) {
            return Ok(caller);
        }
        self.failures.check(peer)?;
        // Whoever gets a JWT of a public issuer could have any number of them verified.
        let found = issuers.verify(text).await.and_then(|caller| {
            if caller.has_rights() {
                return Ok(caller);
            }
            let message = format!("no grant is for the JWT of '{}'", caller.name());
            Err(Error::new(Kind::Forbidden, message))
        });
        self.count(&found, peer);
        found
    }

    /// Counts a credential that is refused, also one that is good and gives nothing.
    fn count(&self, found: &Identity, peer: Peer) {
        let is_refused = |kind| matches!(kind, Kind::Unauthenticated | Kind::Forbidden);
        if found.as_ref().is_err_and(|error| is_refused(error.kind())) {
            self.failures.count(peer);
        }
    }
}

/// What is in the header `authorization`.
enum Credential {
    /// The secret of a token.
    Token(Secret),
    /// What may be a JWT.
    Bearer(Secret),
    /// Something that the server does not take, and why.
    Unknown(&'static str),
}

fn refused(message: &str) -> Error {
    Error::new(Kind::Unauthenticated, message)
}

/// The credential in the headers of a request.
fn credential(headers: &HeaderMap) -> Option<Credential> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let value = values.next()?;
    Some(if values.next().is_some() {
        Credential::Unknown("the call has more than one header 'authorization'; send one")
    } else if value.len() > CREDENTIAL_BYTES_MAX {
        Credential::Unknown("the header 'authorization' is too long")
    } else {
        parse(value)
    })
}

/// The message to a credential that is neither a token nor a JWT of an issuer.
const UNKNOWN: &str =
    "the credential is no token of this server; send 'authorization: Bearer TOKEN'";

/// Reads `Bearer TOKEN`, or `Basic` with the token as the password of any user.
fn parse(value: &HeaderValue) -> Credential {
    let unknown = Credential::Unknown(UNKNOWN);
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return unknown;
    };
    let rest = rest.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    let token = if is_bearer {
        Some(rest.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        pair.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_owned()))
    } else {
        None
    };
    match token {
        Some(token) if token.starts_with(TOKEN_PREFIX) => Credential::Token(Secret::from(token)),
        Some(token) if is_bearer => Credential::Bearer(Secret::from(token)),
        _ => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let values = values
            .iter()
            .map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value")));
        credential(&values.collect()).map(|credential| match credential {
            Credential::Token(token) => token.expose().to_owned(),
            Credential::Bearer(jwt) => format!("JWT {}", jwt.expose()),
            Credential::Unknown(why) => why.to_owned(),
        })
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_password() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for value in [
            "Bearer imagestore_x".to_owned(),
            "bearer  imagestore_x ".to_owned(),
            basic("me:imagestore_x"),
            basic(":imagestore_x"),
            basic("me:imagestore_x").replace("Basic", "BASIC"),
        ] {
            assert_eq!(read(&[&value]).as_deref(), Some("imagestore_x"), "{value}");
        }
        for value in [
            "imagestore_x",
            "Basic eyJhbGciOiJub25lIn0.e30.",
            "Bearer",
            "Basic imagestore_x",
            "Basic %%%",
            &basic("imagestore_x"),
            &basic("imagestore_x:"),
            "Digest imagestore_x",
        ] {
            let why = read(&[value]).expect("something");
            assert!(why.starts_with("the credential is no token"), "{value}: {why}");
        }
        let jwt = read(&["bearer  a.b.c "]);
        assert_eq!(jwt.as_deref(), Some("JWT a.b.c"));
        assert_eq!(read(&[]), None);
        let twice = read(&["Bearer imagestore_x", "Bearer imagestore_x"]);
        assert!(twice.is_some_and(|why| why.contains("more than one")));
        let long = format!("Bearer imagestore_{}", "x".repeat(CREDENTIAL_BYTES_MAX));
        assert!(read(&[&long]).is_some_and(|why| why.contains("too long")));
    }
}
