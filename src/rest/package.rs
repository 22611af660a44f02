//! `GET` and `HEAD /Packages/{path}.sfpkg` and `.zip`: a folder as a ZIP archive.
//!
//! A cluster of Service Fabric downloads an application package by a plain `GET`, and looks at the end of the path only:
//! that is why a package has a path of its own instead of a call on the folder.
//!
//! **Invariant:** a body that ends too early breaks the connection, also if its length is not known before.

use std::io;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::timeout_at;
use tonic::Status;

use super::{
    answer::{self, Failure},
    call::{Call, broken, first},
    conditions::{Validators, Verdict},
    content, disposition,
    path::PACKAGE_SUFFIXES,
};
use crate::{
    error::{Error, Kind},
    wire::{
        backend::Answers,
        v1::{
            Compression, DownloadPackageRequest, DownloadPackageResponse, PackageHeader,
            download_package_response::Payload,
        },
    },
};

/// The query parameter that chooses the compression.
pub const COMPRESS: &str = "compress";

/// Answers with a folder as an archive. `name` is the path of the folder with a suffix.
pub(super) async fn package(call: Call, name: String) -> Result<Response, Failure> {
    let Some(path) = PACKAGE_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) else {
        let message =
            format!("'{name}' is no package; add '.sfpkg' or '.zip' to the path of a folder");
        return Err(Error::invalid("path", message).into());
    };
    let compression = compression(&call)?.into();
    let request = DownloadPackageRequest { path: path.to_owned(), compression };
    // The deadline limits the header only, so it is not passed to the backend, which would apply it to all bytes.
    let begin = async {
        let request = call.client.request(request);
        let mut messages = call.client.download_package(request).await?.into_inner();
        match first(&mut messages).await?.payload {
            Some(Payload::Header(header)) => Ok((header, messages)),
            Some(Payload::Data(_)) | None => Err(broken()),
        }
    };
    let begun = timeout_at(call.deadline(), begin).await;
    let (package, messages) = begun.map_err(|_| {
        Failure::new(Kind::Timeout, "the time of the call passed before the first byte was there")
    })??;
    let validators = Validators::of_package(&package.etag);
    match validators.judge(&call.head.headers) {
        Verdict::Send => {}
        Verdict::NotModified => {
            return headed(StatusCode::NOT_MODIFIED, Body::empty(), &name, &package, &validators);
        }
        Verdict::Failed => {
            let message = format!(
                "the package of '{path}' has the entity tag {}; a condition of the request does not hold",
                package.etag
            );
            return Err(Failure::new(Kind::PreconditionFailed, message));
        }
    }
    let body = match package.size_bytes {
        // A body of no known length: an empty one would be told as the length of the package.
        _ if call.head.method == Method::HEAD => {
            Body::from_stream(stream::empty::<io::Result<Bytes>>())
        }
        Some(size) => Body::from_stream(content::exactly(size, data(messages).boxed())),
        None => Body::from_stream(data(messages).map(|data| data.map_err(broken_off))),
    };
    headed(StatusCode::OK, body, &name, &package, &validators)
}

/// The compression that a request asks for.
pub(super) fn compression(call: &Call) -> Result<Compression, Error> {
    match call.query.given(COMPRESS) {
        None | Some("none") => Ok(Compression::None),
        Some("deflate") => Ok(Compression::Deflate),
        Some(other) => {
            let message = format!("{COMPRESS} is '{other}'; give 'none' or 'deflate'");
            Err(Error::invalid("compression", message))
        }
    }
}

/// The bytes of a package.
fn data(
    messages: Answers<DownloadPackageResponse>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    messages.map(|message| match message?.payload {
        Some(Payload::Data(data)) => Ok(data),
        Some(Payload::Header(_)) | None => Err(Status::internal("a message without bytes")),
    })
}

fn broken_off(status: Status) -> io::Error {
    io::Error::other(Failure::from(status).message)
}

fn headed(
    status: StatusCode,
    body: Body,
    name: &str,
    package: &PackageHeader,
    validators: &Validators,
) -> Result<Response, Failure> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, text) in [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
        (header::ACCEPT_RANGES, "none"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(text));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, answer::NOSNIFF);
    let attachment = disposition::attachment(name);
    headers.insert(header::CONTENT_DISPOSITION, content::value(attachment)?);
    headers.insert(header::ETAG, content::value(validators.tag.clone())?);
    if let Some(size) = package.size_bytes {
        headers.insert(header::CONTENT_LENGTH, size.into());
    }
    Ok(response)
}
