//! `POST /ImageStore/{path}/$/CreateLink`: an address with which whoever has it downloads one file or package.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::{
    answer::{self, Failure},
    call::{Call, present},
    content_range, json, package,
};
use crate::{
    error::Error,
    wire::v1::{CreateLinkRequest, LinkTarget},
};

/// The query parameter with what the link downloads.
const TARGET: &str = "target";
/// The query parameter with the life of the link, in seconds.
const FOR: &str = "for";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LinkAnswer {
    link: String,
    expires_at: String,
}

/// Makes a link.
pub(super) async fn create(call: Call, path: String) -> Result<Response, Failure> {
    let target = match call.query.given(TARGET) {
        Some("content") => LinkTarget::Content,
        Some("sfpkg") => LinkTarget::Sfpkg,
        Some("zip") => LinkTarget::Zip,
        given => {
            let given = given.unwrap_or_default();
            let message = format!("{TARGET} is '{given}'; give 'content', 'sfpkg' or 'zip'");
            return Err(Error::invalid("target", message).into());
        }
    };
    let life = match call.query.given(FOR) {
        None => None,
        Some(text) => {
            let seconds = content_range::number(text).and_then(|number| i64::try_from(number).ok());
            let message = || format!("{FOR} is '{text}'; give whole seconds");
            let seconds = seconds.ok_or_else(|| Error::invalid("life", message()))?;
            Some(prost_types::Duration { seconds, nanos: 0 })
        }
    };
    let compression = package::compression(&call)?.into();
    let request = CreateLinkRequest { path, target: target.into(), life, compression };
    let request = call.request_within_deadline(request);
    let made = call.client.create_link(request).await?.into_inner();
    let expires_at = json::iso(&present(made.expires_at)?);
    Ok(answer::json(StatusCode::OK, &LinkAnswer { link: made.link, expires_at }))
}
