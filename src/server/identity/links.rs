//! Callers with a link: a `GET` or `HEAD` of one file or one package, whose address is signed.
//!
//! A gateway sends the address in the metadata [`LINK`] of the calls that it makes for such a request. Whoever sends that
//! metadata itself can make these calls too, for the path of the link, and none that tells more.

use http::{Method, Request, Uri};

use super::Authenticator;
use crate::{
    access::{
        Caller, Identity, LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE, LinkForm, Maker, Rpc,
        SignedLink,
    },
    error::{Error, Kind, Result},
    model::StorePath,
    rest::{COMPRESS, path, query},
    secret::Secret,
    wire::backend::LINK,
};

const FOR_DOWNLOADS: &str = "a link is for the download of a file or a package only";

/// Whether a request has a link: its query has a parameter of one, or a gateway tells the address of one.
pub(in crate::server) fn is_in<B>(request: &Request<B>, is_rest: bool) -> bool {
    if !is_rest {
        return request.headers().contains_key(LINK);
    }
    let names = [LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE];
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or_default()))
}

/// The link in a request, which is not checked yet.
///
/// # Errors
/// `Forbidden` for a request that no link is for, and for a link that is not complete; those of the path.
pub(in crate::server) fn read<B>(request: &Request<B>, is_rest: bool) -> Result<SignedLink> {
    if is_rest {
        return parse(request.method(), request.uri());
    }
    let mut links = request.headers().get_all(LINK).into_iter();
    let uri = links.next().and_then(|link| Uri::try_from(link.as_bytes()).ok());
    let uri = uri.filter(|_| links.next().is_none());
    let link = parse(&Method::GET, &uri.ok_or_else(|| refused("the call has no link"))?)?;
    let rpc = request.uri().path().rsplit('/').next().and_then(|name| name.parse().ok());
    let is_download = match (link.form, rpc) {
        (LinkForm::Content, Some(Rpc::Stat | Rpc::Download)) => true,
        (LinkForm::Package | LinkForm::DeflatedPackage, rpc) => rpc == Some(Rpc::DownloadPackage),
        (LinkForm::Content, _) => false,
    };
    if is_download { Ok(link) } else { Err(refused(FOR_DOWNLOADS)) }
}

fn refused(message: &str) -> Error {
    Error::new(Kind::Forbidden, message)
}

/// The link in an address.
fn parse(method: &Method, uri: &Uri) -> Result<SignedLink> {
    let found = path::parse(uri.path())?.and_then(path::Target::linked);
    let (form, path) = found
        .filter(|_| matches!(*method, Method::GET | Method::HEAD))
        .ok_or_else(|| refused(FOR_DOWNLOADS))?;
    let query = query::parse(uri.query().unwrap_or_default());
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
        let path = link.path.clone();
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
        Ok(maker.with_link(path))
    }
}
