//! Operations as server-sent events.
//!
//! Each event has one operation as its data: `progress` while it runs, `done` once it has ended. An event
//! `reset` says that ends were missed which are no longer known: the client lists the operations anew.

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

/// What the id of the last event of an operation ends in.
const END: &str = "-done";
/// What the id of an event of all operations begins with.
const CHANGE: &str = "change-";

/// Whether an operation has ended.
pub(super) fn has_ended(operation: &Operation) -> bool {
    match operation.state() {
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
        OperationState::Running | OperationState::Unspecified => false,
    }
}

/// The answer that follows one operation. Dropping its body drops the operation's stream.
///
/// An event's id is the operation's and a counter, so that a client which comes again goes on counting; that
/// of the last event says so.
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

/// The answer that follows all operations. An event's id is the highest change that the client has been
/// told; what it begins after comes at once, so that it also holds for a client that comes again before any
/// event. A client that `is_reset` is told first that it has missed some.
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
    // An id without data is no event; clients keep it.
    let begun = Ok(Event::default().id(format!("{CHANGE}{begun_after}")));
    let events = events(id, operations.boxed());
    answer(stream::iter(reset.into_iter().chain([begun])).chain(events))
}

/// Ends were missed. The empty id has the client forget the one that it knows.
fn reset() -> Event {
    Event::default().event("reset").id("").data("{}")
}

/// The answer with some events, and a comment at first and wherever none came for a while: clients ignore it, and
/// both ends see that the other one lives.
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

/// The id of the last event that a client saw before it came again.
fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// The counter of the last event of one operation.
fn last_counter(headers: &HeaderMap) -> u64 {
    let counter = last_event(headers).and_then(|id| id.rsplit_once('-'));
    counter.and_then(|(_, counter)| content_range::number(counter)).unwrap_or(0)
}

/// The last change of the events of all operations that a client was told.
pub(super) fn last_change(headers: &HeaderMap) -> Option<u64> {
    last_event(headers)?.strip_prefix(CHANGE).and_then(content_range::number)
}

/// Whether a client has been told the end of this operation.
pub(super) fn has_seen_the_end(headers: &HeaderMap, id: &str) -> bool {
    let ended = last_event(headers).and_then(|event| event.strip_suffix(END));
    ended.is_some_and(|ended| ended.eq_ignore_ascii_case(id))
}

/// The events. They end where the time passes that the client asked for. Where ends are missing that are no
/// longer known, they end with an event that says so. Any other failure breaks the connection, and the client
/// comes again.
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
    // Of a remote service; the event takes none of these.
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
        // The reset has the client forget what it knew; the next one is what it begins after.
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
