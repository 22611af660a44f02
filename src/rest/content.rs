//! `GET` and `HEAD /ImageStore/{path}/$/Content`: the bytes of a file.
//!
//! Size, tag and bytes are those of one file: the download of a whole file says which one it is, that of
//! a range is for the entity tag which its range was judged by. The bytes are never shown as a page: whoever uploads here must not act in the name
//! of whoever looks.
//!
//! **Invariant:** a body that is short breaks its connection; it never ends cleanly.

use std::io;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use headers::HeaderMapExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout_at;
use tonic::Status;

use super::{
    answer::{self, Failure},
    byte_range::{self, Requested},
    call::{Call, first, present},
    conditions::{Validators, Verdict},
    disposition,
};
use crate::{
    error::{Error, Kind},
    limits::{DOWNLOAD_MESSAGE_BYTES, RANGE_TRIES},
    wire::{
        backend::Answers,
        v1::{DownloadRequest, DownloadResponse, Entry, EntryKind, StatRequest},
    },
};

/// Answers the bytes, or some of them. Where the file is replaced between a look at it and its download,
/// it is the one that is there now.
pub(super) async fn content(call: Call, path: String) -> Result<Response, Failure> {
    let headers = &call.head.headers;
    let is_get = call.head.method == Method::GET;
    let is_judged = !is_get || has_conditions(headers);
    // A range of a file that is replaced again and again is answered with the whole, which no race can lose.
    for _ in 0..if is_judged { RANGE_TRIES } else { 0 } {
        let entry = file(&call, &path).await?;
        let validators = Validators::of(&entry);
        if let Some(answer) = judged(&call, &entry, &validators)? {
            return Ok(answer);
        }
        if !is_get {
            return headed(StatusCode::OK, Body::empty(), &entry, &validators, entry.size_bytes);
        }
        match part(&call, &entry, &validators).await {
            // Another file is there now, and is judged anew.
            Err(Failure { kind: Kind::Changed, .. }) => {}
            Ok(None) => break,
            Ok(Some(answer)) => return Ok(answer),
            Err(failure) => return Err(failure),
        }
    }
    whole(&call, &path).await
}

/// Whether a request has to be judged before its file is read.
fn has_conditions(headers: &HeaderMap) -> bool {
    use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// The answer where the conditions do not let the file be sent.
fn judged(
    call: &Call,
    entry: &Entry,
    validators: &Validators,
) -> Result<Option<Response>, Failure> {
    match validators.judge(&call.head.headers) {
        Verdict::Send => Ok(None),
        Verdict::NotModified => {
            let status = StatusCode::NOT_MODIFIED;
            // The length is that of the 200: 0 would be taken for the file's.
            headed(status, Body::empty(), entry, validators, entry.size_bytes).map(Some)
        }
        Verdict::Failed => {
            let message = format!(
                "'{}' has the entity tag {}; a condition of the request does not hold",
                entry.path, entry.etag
            );
            Err(Failure::new(Kind::PreconditionFailed, message))
        }
    }
}

/// Answers the range that is asked for; `None` where none is.
///
/// # Errors
/// `Changed` if the file was replaced since it was looked at.
async fn part(
    call: &Call,
    entry: &Entry,
    validators: &Validators,
) -> Result<Option<Response>, Failure> {
    let headers = &call.head.headers;
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = range.filter(|_| validators.is_in_range(headers)) else { return Ok(None) };
    let size = entry.size_bytes;
    let (offset, length) = match byte_range::parse(range, size) {
        Requested::Whole => return Ok(None),
        Requested::Part { offset, length } => (offset, length),
        Requested::Unsatisfiable => {
            let message = format!("the Range '{range}' is beyond {size} bytes");
            let mut response = Failure::new(Kind::UnsatisfiableRange, message).into_response();
            let range = value(format!("bytes */{size}"))?;
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            return Ok(Some(response));
        }
    };
    let request = DownloadRequest {
        path: entry.path.clone(),
        offset,
        length: Some(length),
        etag: entry.etag.clone(),
    };
    let (begun, messages) = begin(call, request).await?;
    let body = body(length, size, begun.data, messages);
    let mut response = headed(StatusCode::PARTIAL_CONTENT, body, entry, validators, length)?;
    let range = value(format!("bytes {offset}-{}/{size}", offset + length - 1))?;
    response.headers_mut().insert(header::CONTENT_RANGE, range);
    Ok(Some(response))
}

/// Answers the file that is there now. The download itself says which one it is.
async fn whole(call: &Call, path: &str) -> Result<Response, Failure> {
    let (begun, messages) = loop {
        let request = DownloadRequest { path: path.to_owned(), ..DownloadRequest::default() };
        match begin(call, request).await {
            // What was found was reclaimed before its first byte was read: another one is there now, or
            // nothing, which ends this as well as the time of the call does.
            Err(Failure { kind: Kind::Changed, .. }) => {}
            begun => break begun?,
        }
    };
    let entry = present(begun.entry)?;
    let validators = Validators::of(&entry);
    if let Some(answer) = judged(call, &entry, &validators)? {
        return Ok(answer);
    }
    let size = entry.size_bytes;
    headed(StatusCode::OK, body(size, size, begun.data, messages), &entry, &validators, size)
}

/// Describes the file of a path, as a download of it would find it.
async fn file(call: &Call, path: &str) -> Result<Entry, Failure> {
    let request = call.plain(StatRequest { path: path.to_owned() });
    let found = call.client.stat(request).await.map_err(|error| {
        let failure = Failure::from(error);
        if failure.kind == Kind::PathNotFound {
            return failure.with_kind(Kind::FileNotFound);
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
fn headed(
    status: StatusCode,
    body: Body,
    entry: &Entry,
    validators: &Validators,
    length: u64,
) -> Result<Response, Failure> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, text) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(text));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, answer::NOSNIFF);
    headers.insert(header::CONTENT_DISPOSITION, value(disposition::attachment(&entry.path))?);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::ETAG, value(validators.tag.clone())?);
    if let Some(modified) = validators.last_modified() {
        headers.typed_insert(modified);
    }
    Ok(response)
}

/// A value of a header.
fn value(text: String) -> Result<HeaderValue, Failure> {
    Ok(HeaderValue::try_from(text).map_err(Error::internal)?)
}

/// Begins a download. What fails before the first byte fails here.
async fn begin(
    call: &Call,
    request: DownloadRequest,
) -> Result<(DownloadResponse, Answers<DownloadResponse>), Failure> {
    // The deadline is for the first bytes only, so it is not the backend's: that one is for all.
    let begin = async {
        let request = call.client.request(request);
        let mut messages = call.client.download(request).await?.into_inner();
        let begun = first(&mut messages).await?;
        Ok::<_, Failure>((begun, messages))
    };
    timeout_at(call.deadline(), begin).await.map_err(|_| {
        Failure::new(Kind::Timeout, "the time of the call passed before the first byte was there")
    })?
}

/// The body of a length that begins with some bytes, of a file of a size.
fn body(length: u64, size: u64, begun: Bytes, messages: Answers<DownloadResponse>) -> Body {
    let rest = messages.map(|message| message.map(|message| message.data));
    // In this process the bytes are a piece of a whole part, which must not stay in memory for a client that
    // does not read. The memory of a piece that is sent serves a later one.
    let is_copied = size > DOWNLOAD_MESSAGE_BYTES as u64;
    let mut memory = BytesMut::new();
    let mut own = move |data: Bytes| {
        if !is_copied {
            return data;
        }
        memory.extend_from_slice(&data);
        memory.split().freeze()
    };
    let messages =
        stream::once(async { Ok(begun) }).chain(rest).map(move |data| data.map(&mut own));
    Body::from_stream(exactly(length, messages.boxed()))
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
        Some(match piece(messages.next().await, left) {
            Ok((data, left)) => (Ok(data), (messages, left)),
            Err(failure) => (Err(io::Error::other(failure.message)), (messages, 0)),
        })
    })
}

/// A piece of a body of which so many bytes are left, and how many are left after it.
fn piece(next: Option<Result<Bytes, Status>>, left: u64) -> Result<(Bytes, u64), Failure> {
    let data = next.transpose()?.unwrap_or_default();
    let after = left.checked_sub(data.len() as u64).filter(|_| !data.is_empty());
    let wrong =
        || Error::internal(format!("{left} bytes are left, and the next ones are {}", data.len()));
    let after = after.ok_or_else(wrong)?;
    Ok((data, after))
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
