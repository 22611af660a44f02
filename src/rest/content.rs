//! `GET` and `HEAD /ImageStore/{path}/$/Content`: the bytes of a file.
//!
//! The size, the entity tag and the bytes of a response belong to one version of the file: the download of a whole
//! file returns its entry with the first bytes, and the download of a range names the entity tag for which the range
//! was evaluated. Browsers never show the bytes as a page, so that an uploaded page cannot run scripts in the origin
//! of the store.
//!
//! **Invariant:** a body that is shorter than its `Content-Length` breaks the connection; it never ends cleanly.

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

/// Answers with the file or a range of it. If the file is replaced between `Stat` and `Download`, the request is
/// evaluated again for the new file.
pub(super) async fn content(call: Call, path: String) -> Result<Response, Failure> {
    let headers = &call.head.headers;
    let is_get = call.head.method == Method::GET;
    let is_judged = !is_get || has_conditions(headers);
    // If the file is replaced at each try, the response is the whole file, whose download does not depend on `Stat`.
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
            // The file was replaced: evaluate the conditions for the new one.
            Err(Failure { kind: Kind::Changed, .. }) => {}
            Ok(None) => break,
            Ok(Some(answer)) => return Ok(answer),
            Err(failure) => return Err(failure),
        }
    }
    whole(&call, &path).await
}

/// Whether a request has conditions or a range, which need the entry of the file before the download.
fn has_conditions(headers: &HeaderMap) -> bool {
    use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// The response 304 if the client has the file already, an error if a condition fails, `None` to send the file.
fn judged(
    call: &Call,
    entry: &Entry,
    validators: &Validators,
) -> Result<Option<Response>, Failure> {
    match validators.judge(&call.head.headers) {
        Verdict::Send => Ok(None),
        Verdict::NotModified => {
            let status = StatusCode::NOT_MODIFIED;
            // The length is that of a 200 response: clients would take 0 for the size of the file.
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

/// Answers with the requested range; `None` if the whole file is requested.
///
/// # Errors
/// `Changed` if the file was replaced since `entry` was read.
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

/// Answers with the whole file as it is now. The download itself returns the entry of the file.
async fn whole(call: &Call, path: &str) -> Result<Response, Failure> {
    let (begun, messages) = loop {
        let request = DownloadRequest { path: path.to_owned(), ..DownloadRequest::default() };
        match begin(call, request).await {
            // The file was replaced or deleted, and its bytes reclaimed, before the first byte was read. The next
            // try finds the new file, or none; the loop also ends at the deadline of the call.
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

/// The entry of the file at a path.
///
/// # Errors
/// `FileNotFound` if nothing or a folder is at the path, as in a download.
async fn file(call: &Call, path: &str) -> Result<Entry, Failure> {
    let request = call.request_within_deadline(StatRequest { path: path.to_owned() });
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

/// A response with the headers that all responses of this module have.
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

/// A header value.
pub(super) fn value(text: String) -> Result<HeaderValue, Failure> {
    Ok(HeaderValue::try_from(text).map_err(Error::internal)?)
}

/// Begins a download, and returns its first message and the rest. An error before the first byte is returned here.
async fn begin(
    call: &Call,
    request: DownloadRequest,
) -> Result<(DownloadResponse, Answers<DownloadResponse>), Failure> {
    // The deadline limits the first message only, so it is not passed to the backend, which would apply it to the
    // whole download.
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

/// The body of a response: `length` bytes of a file of `size` bytes, from the first bytes and the other messages.
fn body(length: u64, size: u64, begun: Bytes, messages: Answers<DownloadResponse>) -> Body {
    let rest = messages.map(|message| message.map(|message| message.data));
    // A backend in this process returns slices of a whole part in memory. The slices are copied, so that a slow
    // client does not keep the part in memory. The memory of a copy that is sent is reused for a later copy.
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

/// A stream of exactly `length` bytes; fails if the messages have fewer or more.
pub(super) fn exactly<S>(length: u64, messages: S) -> impl Stream<Item = io::Result<Bytes>> + Send
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

/// The next piece of a body that has `left` bytes left, and how many are left after the piece.
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

    /// Whether the pieces have exactly this length.
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
