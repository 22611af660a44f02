//! `GET` and `HEAD /ImageStore/{path}/$/Content`: the bytes of a file.
//!
//! The entity tag that the file has is sent with the download, so that size, tag and bytes are those
//! of one file. The bytes are never shown as a page: whoever uploads here must not act in the name
//! of whoever looks.
//!
//! **Invariant:** a body that is short breaks its connection; it never ends cleanly.

use std::io;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::time::timeout_at;
use tonic::{Request, Status};

use super::{
    answer::{self, Failure},
    byte_range::{self, Requested},
    call::{Call, first, present},
};
use crate::{
    error::{Error, Kind},
    wire::v1::{DownloadRequest, Entry, EntryKind, StatRequest},
};

/// How often a file is looked at again that changed between a look and its download.
const LOOKS: usize = 3;

/// Answers the bytes, or some of them.
pub(super) async fn content(call: Call, path: String) -> Result<Response, Failure> {
    let mut looks = LOOKS;
    loop {
        looks -= 1;
        match look(&call, &path).await {
            Err(Failure { kind: Kind::Changed, .. }) if looks > 0 => {}
            answer => return answer,
        }
    }
}

/// Looks at the file once, and answers.
async fn look(call: &Call, path: &str) -> Result<Response, Failure> {
    let entry = file(call, path).await?;
    let tag = format!("\"{}\"", entry.etag);
    let condition = |name| call.head.headers.get(name).and_then(|value| value.to_str().ok());
    if condition(header::IF_MATCH).is_some_and(|tags| !byte_range::has_tag(tags, &tag)) {
        let message = format!("'{path}' has the ETag {tag}, not one of If-Match");
        return Ok(Failure::new(Kind::Changed, message).into_response());
    }
    if condition(header::IF_NONE_MATCH).is_some_and(|tags| byte_range::has_tag(tags, &tag)) {
        let mut response = headed(StatusCode::NOT_MODIFIED, Body::empty(), &entry, &tag)?;
        // That of the 200, or none: the length 0 would be taken for the file's.
        response.headers_mut().insert(header::CONTENT_LENGTH, entry.size_bytes.into());
        return Ok(response);
    }
    let is_get = call.head.method == Method::GET;
    let if_range = condition(header::IF_RANGE).is_none_or(|found| found == tag);
    let range = condition(header::RANGE).filter(|_| is_get && if_range);
    let size = entry.size_bytes;
    let requested = range.map_or(Requested::Whole, |range| byte_range::parse(range, size));
    let (status, offset, length) = match requested {
        Requested::Whole => (StatusCode::OK, 0, size),
        Requested::Part { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
        Requested::Unsatisfiable => {
            let message =
                format!("the Range '{}' is beyond {size} bytes", range.unwrap_or_default());
            let mut response = Failure::new(Kind::UnsatisfiableRange, message).into_response();
            let range = value(format!("bytes */{size}"))?;
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            return Ok(response);
        }
    };
    let body = if is_get && length > 0 {
        download(call, &entry, offset, length).await?
    } else {
        Body::empty()
    };
    let mut response = headed(status, body, &entry, &tag)?;
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = value(format!("bytes {offset}-{}/{size}", offset + length - 1))?;
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// Describes the file of a path, as a download of it would find it.
async fn file(call: &Call, path: &str) -> Result<Entry, Failure> {
    let request = call.plain(StatRequest { path: path.to_owned() });
    let found = call.client.clone().stat(request).await.map_err(|error| {
        let failure = Failure::from(error);
        if failure.kind == Kind::PathNotFound {
            return failure.told_as(Kind::FileNotFound);
        }
        failure
    })?;
    let entry = present(found.into_inner().entry)?;
    if entry.kind() == EntryKind::Folder {
        let message = format!("'{}' is a folder, not a file", entry.path);
        return Err(Failure::new(Kind::FileNotFound, message));
    }
    Ok(entry)
}

/// An answer with the headers that all have.
fn headed(status: StatusCode, body: Body, entry: &Entry, tag: &str) -> Result<Response, Failure> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, text) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(text));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, answer::NOSNIFF);
    headers.insert(header::ETAG, value(tag.to_owned())?);
    let modified = entry.modified_at.and_then(|time| jiff::Timestamp::new(time.seconds, 0).ok());
    if let Some(modified) = modified
        && let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&modified)
    {
        headers.insert(header::LAST_MODIFIED, value(date)?);
    }
    Ok(response)
}

/// A value of a header.
fn value(text: String) -> Result<HeaderValue, Failure> {
    Ok(HeaderValue::try_from(text).map_err(Error::internal)?)
}

/// Begins the download of a range. What fails before the first byte fails here.
async fn download(call: &Call, entry: &Entry, offset: u64, length: u64) -> Result<Body, Failure> {
    let request = DownloadRequest {
        path: entry.path.clone(),
        offset,
        length: Some(length),
        etag: entry.etag.clone(),
    };
    let mut client = call.client.clone();
    // The deadline is for the first bytes only, so it is not the backend's: that one is for all.
    let begin = async {
        let mut stream = client.download(Request::new(request)).await?.into_inner();
        let message = first(&mut stream).await?;
        Ok::<_, Failure>((stream, message.data))
    };
    let (stream, data) = timeout_at(call.deadline(), begin).await.map_err(|_| {
        Failure::new(Kind::Timeout, "the time of the call passed before the first byte was there")
    })??;
    let rest = stream.map(|message| {
        message.map(|message| message.data).inspect_err(|error| {
            tracing::warn!(%error, "a download broke off");
        })
    });
    let messages = stream::once(async { Ok(data) }).chain(rest);
    Ok(Body::from_stream(exactly(length, messages.boxed())))
}

/// The bytes of a body of a length; fails where there are others.
fn exactly<S>(length: u64, messages: S) -> impl Stream<Item = io::Result<Bytes>> + Send
where
    S: Stream<Item = Result<Bytes, Status>> + Send + Unpin,
{
    stream::unfold((messages, length), |(mut messages, left)| async move {
        if left == 0 {
            return None;
        }
        let data = messages.next().await.and_then(Result::ok);
        let left = data.as_ref().and_then(|data| left.checked_sub(data.len() as u64));
        let item = data.zip(left).ok_or_else(|| io::Error::other("the download broke off"));
        Some(match item {
            Ok((data, left)) => (Ok(data), (messages, left)),
            Err(error) => (Err(error), (messages, 0)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body of these pieces has the length.
    async fn fits(length: u64, pieces: &[&'static [u8]]) -> bool {
        let pieces = stream::iter(pieces).map(|piece| Ok(Bytes::from_static(piece)));
        let items = exactly(length, pieces).collect::<Vec<_>>().await;
        items.iter().all(Result::is_ok)
    }

    #[tokio::test]
    async fn a_body_is_exactly_as_long_as_it_says() {
        assert!(fits(5, &[b"hel", b"lo"]).await);
        assert!(!fits(5, &[b"hel"]).await);
        assert!(!fits(5, &[]).await);
        assert!(!fits(5, &[b"hel", b"lo!"]).await);
        assert!(fits(0, &[]).await);
    }
}
