//! Links: making them, and ending them all.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    access::{LinkForm, RequestContext, Rpc},
    error::{Error, Result},
    grpc::files,
    limits::LINK_LIFE_DEFAULT,
    model::StorePath,
    store::{Compression, Store},
    wire::{convert::timestamp, v1},
};

/// The characters of a path that an address has in escaped form.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Makes a link.
pub(super) async fn create(
    store: &Store,
    context: &RequestContext,
    message: v1::CreateLinkRequest,
) -> Result<v1::CreateLinkResponse> {
    let path = StorePath::parse(&message.path, "path")?;
    let call = context.authorize(Rpc::CreateLink, &[&path])?;
    let escaped = utf8_percent_encode(path.as_str(), ESCAPED);
    let (form, address) = match v1::LinkTarget::try_from(message.target) {
        Ok(v1::LinkTarget::Content) => {
            (LinkForm::Content, format!("/ImageStore/{escaped}/$/Content"))
        }
        Ok(v1::LinkTarget::Sfpkg) => (LinkForm::Package, format!("/Packages/{escaped}.sfpkg")),
        Ok(v1::LinkTarget::Zip) => (LinkForm::Package, format!("/Packages/{escaped}.zip")),
        Ok(v1::LinkTarget::Unspecified) | Err(_) => {
            let message = format!("target {} is no target of a link", message.target);
            return Err(Error::invalid("target", message));
        }
    };
    let (form, compress) = match (form, files::compression(message.compression)?) {
        (LinkForm::Package, Compression::Deflate) => {
            (LinkForm::DeflatedPackage, "compress=deflate&")
        }
        (form, Compression::None | Compression::Deflate) => (form, ""),
    };
    let life = match message.life {
        None => LINK_LIFE_DEFAULT,
        Some(life) => {
            life.try_into().map_err(|_| Error::invalid("life", "the life is below zero"))?
        }
    };
    let made = call.until(store.create_link(&path, form, life, &call)).await?;
    Ok(v1::CreateLinkResponse {
        link: format!("{address}?{compress}{}", made.query.expose()),
        expires_at: Some(timestamp(made.expires)),
    })
}

/// Ends all links.
pub(super) async fn rotate_key(
    store: &Store,
    context: &RequestContext,
) -> Result<v1::RotateLinkKeyResponse> {
    let call = context.authorize(Rpc::RotateLinkKey, &[])?;
    store.rotate_link_key(&call).await?;
    Ok(v1::RotateLinkKeyResponse {})
}
