//! Callers with a link: a `GET` or `HEAD` of one file or one package, whose address is signed.

use http::{Method, Request};

use super::Authenticator;
use crate::{
    access::{
        Caller, Identity, LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE, LinkForm, Maker, SignedLink,
    },
    error::{Error, Kind, Result},
    model::StorePath,
    rest::{COMPRESS, path, query},
    secret::Secret,
};

/// Whether the query of a request has a parameter of a link.
pub(in crate::server) fn is_in<B>(request: &Request<B>) -> bool {
    let names = [LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE];
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or_default()))
}

/// The link in the address of a request, which is not checked yet.
///
/// # Errors
/// `Forbidden` for a request that no link is for, and for a link that is not complete; those of the path.
pub(in crate::server) fn read<B>(request: &Request<B>) -> Result<SignedLink> {
    let refused = |message: &str| Error::new(Kind::Forbidden, message);
    let found = path::parse(request.uri().path())?.and_then(path::Target::linked);
    let (form, path) = found
        .filter(|_| matches!(*request.method(), Method::GET | Method::HEAD))
        .ok_or_else(|| refused("a link is for the download of a file or a package only"))?;
    let query = query::parse(request.uri().query().unwrap_or_default());
    let form = match query.given(COMPRESS) {
        _ if form != path::Prefix::Packages => LinkForm::Content,
        Some("deflate") => LinkForm::DeflatedPackage,
        // A value that is none is refused later.
        Some(_) | None => LinkForm::Package,
    };
    let value = |name: &str| {
        let value = query.value(name).map(str::to_owned);
        value.ok_or_else(|| refused("the link is not complete; copy all of it"))
    };
    Ok(SignedLink {
        form,
        path: StorePath::parse(&path, "path")?,
        expires: value(LINK_EXPIRES)?,
        maker: value(LINK_MAKER)?,
        signature: Secret::from(value(LINK_SIGNATURE)?),
    })
}

impl Authenticator {
    /// The caller of a request with a link and without another credential: its maker, who may only read.
    ///
    /// # Errors
    /// `Forbidden` for a link that is refused, and where its maker is not known any more; `Busy` if the database does
    /// not answer.
    pub(in crate::server) async fn identify_link(&self, link: SignedLink) -> Identity {
        self.check_certificate(None)?;
        let Some(store) = self.store() else {
            return Err(Error::new(Kind::Forbidden, "this server takes no links"));
        };
        let link = store.check_link(&link).await?;
        let maker: Caller = match link.maker {
            Maker::Token { id, secret } => {
                store.linked_token(&id, secret).await.map_err(|error| {
                    if error.kind() != Kind::Unauthenticated {
                        return error;
                    }
                    let message = format!("the link has ended with its maker: {}", error.message());
                    Error::new(Kind::Forbidden, message)
                })?
            }
            Maker::Granted(principal) => self.anonymous().granted(principal),
        };
        Ok(maker.with_link())
    }
}
