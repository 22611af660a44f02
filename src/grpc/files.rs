//! Files and folders: listing, metadata, download and deletion.

use crate::{
    access::{RequestContext, Rpc},
    error::{Error, Result},
    grpc::{messages, streams},
    model::{Digest, StorePath},
    offload,
    store::{Compression, Store},
    wire::{backend::Answers, v1},
};

/// The work for one entry of a listing, in bytes as [`offload`] counts them: converting, measuring, encoding and
/// dropping an entry takes longer than its encoded bytes would suggest.
const ENTRY_BYTES: usize = 512;

/// Lists a page of a folder.
pub(super) async fn list(
    store: &Store,
    context: &RequestContext,
    message: v1::ListRequest,
) -> Result<v1::ListResponse> {
    let v1::ListRequest { path, page_size, page_token } = message;
    let path = StorePath::parse_or_root(&path, "path")?;
    let call = context.authorize(Rpc::List, &[&path])?;
    let page = store.list(&path, page_size as usize, page_token, &call).await?;
    let (bytes, items) = (page.items.len() * ENTRY_BYTES, page.items);
    let entries = move || items.iter().map(messages::entry).collect();
    Ok(v1::ListResponse {
        entries: offload::run(bytes, entries).await,
        next_page_token: page.next.unwrap_or_default(),
        change_tag: page.change_tag.unwrap_or_default(),
        partial: page.is_partial,
    })
}

/// Describes a path.
pub(super) async fn stat(
    store: &Store,
    context: &RequestContext,
    message: v1::StatRequest,
) -> Result<v1::StatResponse> {
    let path = StorePath::parse_or_root(&message.path, "path")?;
    let call = context.authorize(Rpc::Stat, &[&path])?;
    let stat = store.stat(&path, &call).await?;
    Ok(v1::StatResponse {
        entry: Some(messages::stat(&stat)),
        has_mark_file: stat.has_mark_file,
        change_tag: stat.change_tag.unwrap_or_default(),
    })
}

/// Begins a download and returns its messages.
pub(super) async fn download(
    store: &Store,
    context: &RequestContext,
    message: v1::DownloadRequest,
) -> Result<Answers<v1::DownloadResponse>> {
    let v1::DownloadRequest { path, offset, length, etag } = message;
    let path = StorePath::parse(&path, "path")?;
    let call = context.authorize(Rpc::Download, &[&path])?;
    let etag =
        match etag.as_str() {
            "" => None,
            text => Some(text.parse::<Digest>().map_err(|_| {
                Error::invalid("etag", format!("etag \"{text}\" is not one of Stat"))
            })?),
        };
    let download = store.download(&path, (offset, length), etag, &call).await?;
    Ok(streams::download(download, call))
}

/// The compression of a package.
///
/// # Errors
/// `InvalidArgument` for a number that is none.
pub(super) fn compression(number: i32) -> Result<Compression> {
    match v1::Compression::try_from(number) {
        Ok(v1::Compression::Unspecified | v1::Compression::None) => Ok(Compression::None),
        Ok(v1::Compression::Deflate) => Ok(Compression::Deflate),
        Err(_) => {
            let message = format!("compression {number} is unknown");
            Err(Error::invalid("compression", message))
        }
    }
}

/// Begins to send a package and returns its messages.
pub(super) async fn download_package(
    store: &Store,
    context: &RequestContext,
    message: v1::DownloadPackageRequest,
) -> Result<Answers<v1::DownloadPackageResponse>> {
    let compression = compression(message.compression)?;
    let path = StorePath::parse(&message.path, "path")?;
    let call = context.authorize(Rpc::DownloadPackage, &[&path])?;
    let package = store.package(&path, compression, &call).await?;
    Ok(streams::package(package, call))
}

/// Deletes a file or a folder.
pub(super) async fn delete(
    store: &Store,
    context: &RequestContext,
    message: v1::DeleteRequest,
) -> Result<v1::DeleteResponse> {
    let path = StorePath::parse(&message.path, "path")?;
    let call = context.authorize(Rpc::Delete, &[&path])?;
    let conditions = messages::conditions(
        &message.if_match,
        &message.if_none_match,
        message.if_unmodified_since.as_ref(),
    )?;
    let gone = store.delete_if(&path, conditions, &call).await?;
    Ok(v1::DeleteResponse { files_deleted: gone.files as u64, bytes_deleted: gone.bytes as u64 })
}
