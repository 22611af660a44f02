//! The response streams of calls.
//!
//! A stream works only when its caller polls it, and buffers nothing: a slow caller does not slow down others. When
//! the caller disconnects, the stream and the work behind it are dropped.

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    error::{Error, Kind, Result},
    grpc::messages,
    store::{AllUpdates, Call, Checking, Copying, Download, Package, PackageHeader, Updates},
    wire::{backend::Answers, status::from_error, v1},
};

/// The messages of a copy: the first state, which the handler has taken already, then the progress and the last state.
pub(super) fn copy(first: Option<v1::Operation>, copying: Copying) -> Answers<v1::Operation> {
    let first = stream::iter(first.map(Ok));
    let rest = stream::unfold(Some(copying), async |copying| {
        let mut copying = copying?;
        let next = copying.next().await;
        step(next, copying, messages::operation)
    });
    Box::pin(first.chain(rest))
}

/// The states of one operation.
pub(super) fn watch(updates: Updates, call: Call) -> Answers<v1::Operation> {
    Box::pin(stream::unfold(Some((updates, call)), async |state| {
        let (mut updates, call) = state?;
        let next = call.until(call.while_valid(updates.next())).await;
        step(next, (updates, call), messages::operation)
    }))
}

/// The changes of all operations.
pub(super) fn watch_all(updates: AllUpdates, call: Call) -> Answers<v1::Operation> {
    Box::pin(stream::unfold(Some((updates, call)), async |state| {
        let (mut updates, call) = state?;
        let next = async { updates.next().await?.ok_or_else(Error::stopping) };
        let next = call.until(call.while_valid(next)).await;
        step(next.map(Some), (updates, call), messages::operation)
    }))
}

/// The reports of a check.
pub(super) fn check(
    checking: Checking,
    call: Call,
    stop: CancellationToken,
) -> Answers<v1::CheckResponse> {
    Box::pin(stream::unfold(Some((checking, call, stop)), async |state| {
        let (mut checking, call, stop) = state?;
        let next = tokio::select! {
            next = call.until(checking.next()) => next.map_err(late_check),
            () = stop.cancelled() => Err(Error::stopping()),
        };
        step(next, (checking, call, stop), messages::check_report)
    }))
}

/// A check may have repaired something by its deadline.
fn late_check(error: Error) -> Error {
    if error.kind() != Kind::Timeout {
        return error;
    }
    Error::new(Kind::Timeout, "the deadline passed; what the check has repaired stays; check again")
}

/// The bytes of a download.
pub(super) fn download(download: Download, call: Call) -> Answers<v1::DownloadResponse> {
    let entry = Some(messages::stat(&download.stat));
    Box::pin(stream::unfold(Some((download, entry, call)), async |state| {
        let (mut download, entry, call) = state?;
        let mut next = call.until(async { download.next().await.transpose() }).await;
        // An empty range has one message too, since the first message carries the entry.
        if let (Ok(None), Some(_)) = (&next, &entry) {
            next = Ok(Some(Bytes::new()));
        }
        step(next, (download, None, call), |data| v1::DownloadResponse { data, entry })
    }))
}

/// The header and the bytes of a package.
pub(super) fn package(package: Package, call: Call) -> Answers<v1::DownloadPackageResponse> {
    use v1::download_package_response::Payload;
    let PackageHeader { etag, size } = package.header.clone();
    let header = Payload::Header(v1::PackageHeader { etag, size_bytes: size });
    let header = v1::DownloadPackageResponse { payload: Some(header) };
    let rest = stream::unfold(Some((package, call)), async |state| {
        let (mut package, call) = state?;
        let next = call.until(async { package.next().await.transpose() }).await;
        step(next, (package, call), |data| v1::DownloadPackageResponse {
            payload: Some(Payload::Data(data)),
        })
    });
    Box::pin(stream::iter([Ok(header)]).chain(rest))
}

/// One item of a response stream, and the state for the next item. An error is the last item.
fn step<T, U, S>(
    next: Result<Option<T>>,
    state: S,
    message: impl FnOnce(T) -> U,
) -> Option<(Result<U, Status>, Option<S>)> {
    match next {
        Ok(Some(value)) => Some((Ok(message(value)), Some(state))),
        Ok(None) => None,
        Err(error) => Some((Err(from_error(&error)), None)),
    }
}
