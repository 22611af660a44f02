//! Operations as server-sent events.
//!
//! The data of an event is one operation; the event is named `progress` while the operation runs, and `done` when it
//! has ended. An event `reset` means that the client has missed ends of operations that the server no longer knows:
//! the client has to list the operations again.

use std::io;

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    answer::{self, Failure},
    content_range, json,
};
use crate::{
    error::{Error, Kind},
    limits,
    wire::v1::{Operation, OperationState},
};

/// The suffix of the id of the last event of an operation.
const END: &str = "-done";
/// The prefix of the event ids in a stream of all operations.
const CHANGE: &str = "change-";

/// Whether an operation has ended.
pub(super) fn has_ended(operation: &Operation) -> bool {
    match operation.state() {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Running | OperationState::Unspecified => false,
    }
}

/// The response with the events of one operation. Dropping its body drops `operations`.
///
/// The id of an event is the id of the operation and a counter, which continues when a client reconnects. The id of
/// the last event ends in `-done` instead.
pub(super) fn one<S>(headers: &HeaderMap, operations: S) -> Response
where
    S: Stream<Item = Result<Operation, Failure>> + Send + 'static,
{
    let mut counter = last_counter(headers);
    let id = move |operation: &Operation| {
        counter = counter.saturating_add(1);
        if has_ended(operation) {
            format!("{}{END}", operation.id)
        } else {
            format!("{}-{counter}", operation.id)
        }
    };
    answer(events(id, operations.boxed()))
}

/// The response with the events of all operations. The id of an event is the highest change number that was sent to
/// the client. `begun_after` is sent at once as an id, so that a client that reconnects before the first event has an
/// id too. If `is_reset`, the first event is a `reset`.
pub(super) fn all<S>(begun_after: u64, is_reset: bool, operations: S) -> Response
where
    S: Stream<Item = Result<Operation, Failure>> + Send + 'static,
{
    let mut last = begun_after;
    let id = move |operation: &Operation| {
        last = last.max(operation.change);
        format!("{CHANGE}{last}")
    };
    let reset = is_reset.then(|| Ok(reset()));
    // An id without data is not an event, but clients store the id.
    let begun = Ok(Event::default().id(format!("{CHANGE}{begun_after}")));
    let events = events(id, operations.boxed());
    answer(stream::iter(reset.into_iter().chain([begun])).chain(events))
}

/// The event `reset`. Its empty id makes the client forget the last id.
fn reset() -> Event {
    Event::default().event("reset").id("").data("{}")
}

/// The response with some events. A comment is sent first, and whenever no event was sent for
/// [`EVENTS_KEEP_ALIVE`](limits::EVENTS_KEEP_ALIVE): clients ignore it, and both ends see that the connection lives.
fn answer(events: impl Stream<Item = io::Result<Event>> + Send + 'static) -> Response {
    let begun = stream::once(async { Ok(Event::DEFAULT_KEEP_ALIVE) });
    let keep_alive = KeepAlive::new().interval(limits::EVENTS_KEEP_ALIVE);
    let mut response = Sse::new(begun.chain(events)).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, answer::NOSNIFF);
    response
}

/// The id of the last event that a client has received before it reconnected.
fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// The counter in the id of the last event of one operation; 0 without one.
fn last_counter(headers: &HeaderMap) -> u64 {
    let counter = last_event(headers).and_then(|id| id.rsplit_once('-'));
    counter.and_then(|(_, counter)| content_range::number(counter)).unwrap_or(0)
}

/// The change number in the id of the last event of all operations.
pub(super) fn last_change(headers: &HeaderMap) -> Option<u64> {
    last_event(headers)?.strip_prefix(CHANGE).and_then(content_range::number)
}

/// Whether a client has received the last event of this operation.
pub(super) fn has_seen_the_end(headers: &HeaderMap, id: &str) -> bool {
    let ended = last_event(headers).and_then(|event| event.strip_suffix(END));
    ended.is_some_and(|ended| ended.eq_ignore_ascii_case(id))
}

/// The events of some operations. They end at the client's timeout. If the server no longer knows some ends, the last
/// event is a `reset`. Any other failure breaks the connection, and the client reconnects.
fn events<S>(
    id: impl FnMut(&Operation) -> String + Send,
    operations: S,
) -> impl Stream<Item = io::Result<Event>> + Send
where
    S: Stream<Item = Result<Operation, Failure>> + Send + Unpin,
{
    stream::unfold(Some((operations, id)), |state| async move {
        let (mut operations, mut id) = state?;
        let event = match operations.next().await {
            Some(Ok(operation)) => event(&operation, id(&operation)),
            None | Some(Err(Failure { kind: Kind::Timeout, .. })) => return None,
            Some(Err(Failure { kind: Kind::ChangesForgotten, .. })) => {
                return Some((Ok(reset()), None));
            }
            Some(Err(failure)) => Err(io::Error::other(failure.message)),
        };
        Some((event, Some((operations, id))))
    })
}

/// One event.
fn event(operation: &Operation, id: String) -> io::Result<Event> {
    let name = if has_ended(operation) { "done" } else { "progress" };
    let data = serde_json::to_string(&json::Operation::new(operation))
        .map_err(|error| io::Error::other(Failure::from(Error::internal(error)).message))?;
    // Only a remote service could send such an id. `Event::id` panics for these characters.
    if id.contains(['\0', '\r', '\n']) {
        return Err(io::Error::other("an operation has an id that is none"));
    }
    Ok(Event::default().event(name).id(id).data(data))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn operation(state: OperationState) -> Operation {
        Operation { id: "0-7".to_owned(), state: state.into(), ..Operation::default() }
    }

    async fn text(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("a text");
        text.strip_prefix(":\n\n").expect("a comment comes at once").to_owned()
    }

    #[tokio::test]
    async fn an_event_has_a_name_an_id_and_one_operation() {
        let operations =
            stream::iter([OperationState::Running, OperationState::Failed]).map(operation).map(Ok);
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", "0-7-4".parse().expect("a value"));
        let text = text(one(&headers, operations)).await;
        let events: Vec<&str> = text.split_inclusive("\n\n").collect();
        let [first, last] = events.as_slice() else { panic!("two events: {text}") };
        assert!(first.starts_with("event: progress\nid: 0-7-5\ndata: {\"Id\":\"0-7\","));
        assert!(last.starts_with("event: done\nid: 0-7-done\ndata: {\"Id\":\"0-7\","));
        assert!(first.lines().count() == 4);
    }

    #[tokio::test]
    async fn an_event_of_all_operations_has_the_highest_change_as_its_id() {
        let changes = [7, 9, 8].map(|change| Ok(Operation { change, ..Operation::default() }));
        let text = text(all(8, true, stream::iter(changes))).await;
        assert!(text.starts_with("event: reset\nid: \ndata: {}\n\n"), "{text}");
        let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
        // The reset makes the client forget its id; the next id is `begun_after`.
        assert_eq!(ids, ["", "change-8", "change-8", "change-9", "change-9"]);
    }

    #[tokio::test]
    async fn ends_that_are_no_longer_known_end_the_events_with_a_reset() {
        let lost = Failure::new(Kind::ChangesForgotten, "list anew");
        let text = text(all(3, false, stream::iter([Err(lost)]))).await;
        assert_eq!(text, "id: change-3\n\nevent: reset\nid: \ndata: {}\n\n");
    }

    #[test]
    fn an_id_says_what_a_client_knows() {
        let headers = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", id.parse().expect("a value"));
            headers
        };
        assert_eq!(last_change(&headers("change-17")), Some(17));
        for id in ["17", "change-", "change--1", "0190a9f0-0000-7000-8000-000000000001-41"] {
            assert_eq!(last_change(&headers(id)), None, "{id}");
        }
        assert!(has_seen_the_end(&headers("0190A9F0-done"), "0190a9f0"));
        assert!(!has_seen_the_end(&headers("0190a9f0-3"), "0190a9f0"));
        assert!(!has_seen_the_end(&headers("0190a9f1-done"), "0190a9f0"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_and_does_not_count() {
        let mut body = one(&HeaderMap::new(), stream::pending()).into_body();
        let begun = tokio::time::Instant::now();
        for comments in 0..3 {
            let comment = body.frame().await.expect("a frame").expect("a comment");
            assert_eq!(comment.into_data().expect("data"), b":\n\n".as_slice());
            assert_eq!(begun.elapsed(), comments * limits::EVENTS_KEEP_ALIVE);
        }
    }

    #[tokio::test]
    async fn a_failure_breaks_the_events() {
        let operations = stream::iter([Err(Failure::new(Kind::Busy, "gone"))]);
        let id = |_: &Operation| String::new();
        let mut events = std::pin::pin!(events(id, operations));
        assert!(events.next().await.expect("an item").is_err());
    }

    #[tokio::test]
    async fn an_id_that_is_none_breaks_the_events() {
        for id in ["a\nb", "a\rb", "a\0b"] {
            let operation = Operation { id: id.to_owned(), ..Operation::default() };
            let operations = stream::iter([Ok(operation)]);
            let id = |operation: &Operation| operation.id.clone();
            let mut events = std::pin::pin!(events(id, operations));
            assert!(events.next().await.expect("an item").is_err());
        }
    }

    #[tokio::test]
    async fn a_time_that_passes_ends_the_events() {
        let operations = stream::iter([Err(Failure::new(Kind::Timeout, "late"))]);
        let id = |_: &Operation| String::new();
        let mut events = std::pin::pin!(events(id, operations));
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
