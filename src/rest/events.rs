//! Operations as server-sent events.
//!
//! Each event has one operation as its data: `progress` while it runs, `done` once it has ended.

use std::{io, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::timeout;

use super::{
    answer::{self, Failure},
    content_range, json,
};
use crate::{
    error::{Error, Kind},
    limits,
    wire::v1::{Operation, OperationState},
};

/// A comment, which clients ignore, so that both ends see that the other one lives.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// Whether an operation has ended.
pub(super) fn has_ended(operation: &Operation) -> bool {
    match operation.state() {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Running | OperationState::Unspecified => false,
    }
}

/// The answer that follows operations. Dropping its body drops the operations' stream.
pub(super) fn answer<S>(headers: &HeaderMap, operations: S) -> Response
where
    S: Stream<Item = Result<Operation, Failure>> + Send + 'static,
{
    let events = events(last_counter(headers), limits::EVENTS_KEEP_ALIVE, operations.boxed());
    // Proxies and clients learn at once that it has begun.
    let begun = stream::once(async { Ok(Bytes::from_static(KEEP_ALIVE)) });
    let mut response = Response::new(Body::from_stream(begun.chain(events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, answer::NOSNIFF);
    response
}

/// The id of the last event that a client saw before it came again: an operation and the counter.
fn last_event(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get("last-event-id")?.to_str().ok()?.rsplit_once('-')
}

/// The operation of the last event that a client saw before it came again.
pub(super) fn last_operation(headers: &HeaderMap) -> Option<&str> {
    last_event(headers).map(|(operation, _)| operation)
}

/// The counter of that event.
fn last_counter(headers: &HeaderMap) -> u64 {
    last_event(headers).and_then(|(_, counter)| content_range::number(counter)).unwrap_or(0)
}

/// The events, and a comment wherever none came for a while. They end where the time passes that the
/// client asked for. Any other failure breaks the connection, and the client comes again.
fn events<S>(
    counter: u64,
    keep_alive: Duration,
    operations: S,
) -> impl Stream<Item = io::Result<Bytes>> + Send
where
    S: Stream<Item = Result<Operation, Failure>> + Send + Unpin,
{
    stream::unfold((operations, counter), move |(mut operations, counter)| async move {
        let counter = counter.saturating_add(1);
        let (event, counter) = match timeout(keep_alive, operations.next()).await {
            Err(_) => (Ok(Bytes::from_static(KEEP_ALIVE)), counter - 1),
            Ok(Some(Ok(operation))) => (event(&operation, counter), counter),
            Ok(None | Some(Err(Failure { kind: Kind::Timeout, .. }))) => return None,
            Ok(Some(Err(failure))) => (Err(io::Error::other(failure.message)), counter),
        };
        Some((event, (operations, counter)))
    })
}

/// One event.
fn event(operation: &Operation, counter: u64) -> io::Result<Bytes> {
    let name = if has_ended(operation) { "done" } else { "progress" };
    let data = serde_json::to_string(&json::Operation::new(operation))
        .map_err(|error| io::Error::other(Failure::from(Error::internal(error)).message))?;
    let id = &operation.id;
    Ok(Bytes::from(format!("event: {name}\nid: {id}-{counter}\ndata: {data}\n\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(state: OperationState) -> Operation {
        Operation { id: "0-7".to_owned(), state: state.into(), ..Operation::default() }
    }

    #[tokio::test]
    async fn an_event_has_a_name_an_id_and_one_operation() {
        let operations =
            stream::iter([OperationState::Running, OperationState::Failed]).map(operation).map(Ok);
        let events: Vec<_> = events(4, limits::EVENTS_KEEP_ALIVE, operations).collect().await;
        let text = |index: usize| {
            let event: &io::Result<Bytes> = &events[index];
            String::from_utf8(event.as_ref().expect("an event").to_vec()).expect("a text")
        };
        assert!(text(0).starts_with("event: progress\nid: 0-7-5\ndata: {\"Id\":\"0-7\","));
        assert!(text(1).starts_with("event: done\nid: 0-7-6\ndata: {\"Id\":\"0-7\","));
        assert!(text(0).ends_with("}\n\n") && text(0).lines().count() == 4);
        assert_eq!(events.len(), 2);
    }

    #[tokio::test]
    async fn silence_is_filled_and_does_not_count() {
        let operations = stream::pending().boxed();
        let mut events = std::pin::pin!(events(0, Duration::ZERO, operations));
        for _ in 0..2 {
            let comment = events.next().await.expect("an item").expect("a comment");
            assert_eq!(comment, KEEP_ALIVE);
        }
    }

    #[tokio::test]
    async fn a_failure_breaks_the_events() {
        let operations = stream::iter([Err(Failure::new(Kind::Busy, "gone"))]);
        let mut events = std::pin::pin!(events(0, limits::EVENTS_KEEP_ALIVE, operations));
        assert!(events.next().await.expect("an item").is_err());
    }

    #[tokio::test]
    async fn a_time_that_passes_ends_the_events() {
        let operations = stream::iter([Err(Failure::new(Kind::Timeout, "late"))]);
        let mut events = std::pin::pin!(events(0, limits::EVENTS_KEEP_ALIVE, operations));
        assert!(events.next().await.is_none());
    }

    #[test]
    fn a_client_that_comes_again_goes_on_counting() {
        for (id, counter) in [
            ("0190a9f0-0000-7000-8000-000000000001-41", 41),
            ("7", 0),
            ("a-b", 0),
            ("", 0),
            ("a-18446744073709551616", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", id.parse().expect("a value"));
            assert_eq!(last_counter(&headers), counter, "{id}");
        }
        assert_eq!(last_counter(&HeaderMap::new()), 0);
    }
}
