//! Operations over REST: lists, events, and copies that run without their caller.

use imagestore::error::Kind;
use serde_json::Value;

use crate::harness::{Connection, Driver, Gate, Server, copy, fill};

const COPY: &str = "/ImageStore/$/Copy?api-version=6.0";
const BODY: &str = r#"{"RemoteSource":"a","RemoteDestination":"b","Verify":true,"OperationId":"0190a9f0-1234-7abc-8def-0123456789ab"}"#;
const ID: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
const ALL: &str = "/ImageStore/$/Operations";
const OPERATION: &str = "/ImageStore/$/Operations/0190a9f0-1234-7abc-8def-0123456789ab";

/// An event: its name, its id, and its operation.
#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// Reads the next event of a response whose head was read; `None` at its end.
async fn event(connection: &mut Connection) -> Option<Event> {
    let mut text = String::new();
    // A message with an id but no data is no event.
    while !text.starts_with("event: ") {
        text = String::from_utf8(connection.piece().await?).expect("text");
    }
    let lines: Vec<&str> = text.split('\n').collect();
    let [name, id, data, "", ""] = lines.as_slice() else { panic!("an event: {text:?}") };
    Some(Event {
        name: name.strip_prefix("event: ").expect("a name").to_owned(),
        id: id.strip_prefix("id: ").expect("an id").to_owned(),
        data: serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON"),
    })
}

/// Reads up to the `done` event of a response.
async fn done(connection: &mut Connection) -> Event {
    loop {
        let event = event(connection).await.expect("an event");
        if event.name == "done" {
            return event;
        }
    }
}

/// Opens a stream of events and checks the head of its response.
async fn events(
    server: &Server,
    target: &str,
    body: Option<&str>,
    headers: &[(&str, &str)],
) -> Connection {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = server.http().request(method, target).header("Accept", "text/event-stream");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut connection = request.body(body.unwrap_or_default().as_bytes()).open().await;
    let head = connection.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
    // The header tells proxies not to buffer the response, and a comment is sent at once.
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(connection.piece().await.expect("a comment"), b":\n\n");
    connection
}

async fn behind() -> (Gate, Server) {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a/f", &b"0123456789".repeat(5_000)).await.expect("stored");
    gate.close();
    (gate, server)
}

#[tokio::test]
async fn a_copy_tells_its_progress_as_events() {
    let (gate, server) = behind().await;
    let mut connection = events(&server, COPY, Some(BODY), &[]).await;
    let first = event(&mut connection).await.expect("an event");
    assert_eq!((first.name.as_str(), first.id.as_str()), ("progress", &*format!("{ID}-1")));
    assert_eq!(first.data["State"], "Running");
    assert_eq!(first.data["BytesTotal"], "50000");
    gate.open();
    let mut counter = 1;
    let last = loop {
        let event = event(&mut connection).await.expect("an event");
        if event.name == "done" {
            assert_eq!(event.id, format!("{ID}-done"));
            break event;
        }
        counter += 1;
        assert_eq!(event.id, format!("{ID}-{counter}"));
        assert_eq!((event.name.as_str(), &event.data["State"]), ("progress", &"Running".into()));
    };
    assert_eq!(last.data["State"], "Succeeded");
    assert_eq!((&last.data["FilesDone"], &last.data["BytesDone"]), (&"1".into(), &"50000".into()));
    assert_eq!(last.data["Error"], Value::Null);
    assert!(event(&mut connection).await.is_none(), "done is the last one");
    // The operation itself has the same data.
    assert_eq!(server.http().get(OPERATION).await.json(), last.data);
}

#[tokio::test]
async fn a_copy_that_is_refused_answers_no_events() {
    let server = Server::start().await;
    let post = async |body: &str| {
        let request = server.http().request("POST", COPY).header("Accept", "text/event-stream");
        request.body(body.as_bytes()).send().await
    };
    post(BODY).await.assert_fault(Kind::FileNotFound);
    post("{}").await.assert_fault(Kind::InvalidArgument);
    let request = server.http().request("POST", COPY).header("Prefer", "respond-async");
    request.body(BODY.as_bytes()).send().await.assert_fault(Kind::FileNotFound);
}

#[tokio::test]
async fn a_copy_that_fails_later_is_done_with_its_error() {
    let gate = Gate::new();
    let server = Server::start_behind(&gate).await;
    server.rest().upload("a/f", &b"0123456789".repeat(5_000)).await.expect("stored");
    server.expect("is corrupt");
    gate.flip();
    gate.close();
    let mut connection = events(&server, COPY, Some(BODY), &[]).await;
    // A copy that fails before its first event is answered with its error.
    assert_eq!(event(&mut connection).await.expect("an event").name, "progress");
    gate.open();
    let last = done(&mut connection).await;
    assert_eq!(last.data["State"], "Failed");
    assert_eq!(last.data["Error"]["Code"], "FABRIC_E_CORRUPTED_IMAGE_STORE_OBJECT_FOUND");
    let message = last.data["Error"]["Message"].as_str().expect("a message");
    assert!(message.contains("\"a/f\""), "{message}");
    assert!(event(&mut connection).await.is_none());
}

#[tokio::test]
async fn a_copy_whose_time_passes_is_done_as_cancelled() {
    let (_gate, server) = behind().await;
    let mut connection = events(&server, &format!("{COPY}&timeout=4"), Some(BODY), &[]).await;
    let last = done(&mut connection).await;
    assert_eq!(last.data["State"], "Cancelled");
    assert_eq!(last.data["Error"]["Code"], "FABRIC_E_TIMEOUT");
}

#[tokio::test]
async fn the_time_of_a_caller_who_only_follows_does_not_end_the_copy() {
    let (gate, server) = behind().await;
    let mut owner = events(&server, COPY, Some(BODY), &[]).await;
    assert_eq!(event(&mut owner).await.expect("an event").name, "progress");
    let mut follower = events(&server, &format!("{COPY}&timeout=4"), Some(BODY), &[]).await;
    assert_eq!(event(&mut follower).await.expect("an event").name, "progress");
    while let Some(event) = event(&mut follower).await {
        assert_eq!(event.name, "progress", "the copy has not ended");
    }
    gate.open();
    let last = done(&mut owner).await;
    assert_eq!(last.data["State"], "Succeeded");
}

#[tokio::test]
async fn a_watch_whose_time_passes_ends_without_an_event() {
    let (_gate, server) = behind().await;
    let _owner = events(&server, COPY, Some(BODY), &[]).await;
    for target in [OPERATION, ALL] {
        let mut connection = events(&server, &format!("{target}?timeout=4"), None, &[]).await;
        assert_eq!(event(&mut connection).await.expect("an event").name, "progress");
        while let Some(event) = event(&mut connection).await {
            assert_eq!(event.name, "progress", "{target}");
        }
    }
}

#[tokio::test]
async fn an_operation_is_followed_and_followed_again() {
    let (gate, server) = behind().await;
    let request = server.http().request("POST", COPY).header("Prefer", "respond-async");
    assert_eq!(request.body(BODY.as_bytes()).send().await.status, 202);
    let mut connection = events(&server, OPERATION, None, &[]).await;
    let first = event(&mut connection).await.expect("an event");
    assert_eq!((first.name.as_str(), first.id.as_str()), ("progress", &*format!("{ID}-1")));
    // A browser reconnects with the last id that it received, and gets the current state.
    let again = [("Last-Event-ID", &*first.id)];
    let mut connection = events(&server, OPERATION, None, &again).await;
    let second = event(&mut connection).await.expect("an event");
    assert_eq!((second.name.as_str(), second.id.as_str()), ("progress", &*format!("{ID}-2")));
    assert_eq!(second.data["State"], "Running");
    gate.open();
    while event(&mut connection).await.is_some_and(|event| event.name != "done") {}
    // The stream of an ended operation has one event.
    let mut connection = events(&server, OPERATION, None, &[]).await;
    assert_eq!(event(&mut connection).await.expect("an event").name, "done");
    assert!(event(&mut connection).await.is_none());
}

#[tokio::test]
async fn all_operations_are_followed() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let mut connection = events(&server, ALL, None, &[]).await;
    let mut ids = Vec::new();
    for destination in ["b", "c"] {
        server.rest().copy(&copy("a", destination)).await.expect("copied");
        let event = event(&mut connection).await.expect("an event");
        assert_eq!(event.name, "done");
        assert_eq!(event.data["RemoteDestination"], destination);
        ids.push(event.id);
    }
    assert_eq!(ids, ["change-1", "change-2"]);
}

#[tokio::test]
async fn who_follows_all_operations_again_hears_of_every_end() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    let mut connection = events(&server, ALL, None, &[]).await;
    assert_eq!(connection.piece().await.expect("an id"), b"id: change-0\n\n");
    drop(connection);
    server.rest().copy(&copy("a", "b")).await.expect("copied");
    let before = [("Last-Event-ID", "change-0")];
    let mut connection = events(&server, ALL, None, &before).await;
    let last = event(&mut connection).await.expect("an event").id;
    assert_eq!(last, "change-1");
    drop(connection);
    for destination in ["c", "d"] {
        server.rest().copy(&copy("a", destination)).await.expect("copied");
    }
    server.rest().delete("b").await.expect("deleted");
    let mut connection = events(&server, ALL, None, &[("Last-Event-ID", &*last)]).await;
    for (id, kind) in [("change-2", "Copy"), ("change-3", "Copy"), ("change-4", "Delete")] {
        let event = event(&mut connection).await.expect("an event");
        assert_eq!((event.name.as_str(), event.id.as_str()), ("done", id));
        assert_eq!(event.data["Kind"], kind);
    }
    // An unknown id gets a `reset` event, and then the new changes.
    let unknown = [("Last-Event-ID", "change-1000")];
    let mut connection = events(&server, ALL, None, &unknown).await;
    assert_eq!(event(&mut connection).await.expect("an event").name, "reset");
    server.rest().copy(&copy("a", "e")).await.expect("copied");
    assert_eq!(event(&mut connection).await.expect("an event").id, "change-5");
}

/// A browser's `EventSource` reconnects even after the end of a stream; the status 204 stops it.
#[tokio::test]
async fn who_has_seen_the_end_of_an_operation_is_sent_away() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    server.rest().copy(&copy("a", "b").id(ID)).await.expect("copied");
    let mut connection = events(&server, OPERATION, None, &[]).await;
    let last = event(&mut connection).await.expect("an event");
    assert_eq!((last.name.as_str(), last.id.as_str()), ("done", &*format!("{ID}-done")));
    let request = server.http().request("GET", OPERATION).header("Accept", "text/event-stream");
    assert_eq!(request.header("Last-Event-ID", &last.id).send().await.status, 204);
}

#[tokio::test]
async fn a_copy_that_is_left_to_run_says_where_to_find_it() {
    let (gate, server) = behind().await;
    let request = server.http().request("POST", COPY).header("Prefer", "wait=1, respond-async");
    let answer = request.body(BODY.as_bytes()).send().await;
    assert_eq!(answer.status, 202);
    answer.assert_json();
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    // The location is relative to the URL of the call, so it holds behind a proxy that adds a prefix.
    let location = answer.header("location").expect("a location");
    assert_eq!(location, format!("Operations/{ID}"));
    let location = format!("/ImageStore/$/{location}");
    assert_eq!(answer.json()["State"], "Running");
    assert_eq!(answer.json()["Id"], ID);
    // The location works, and the copy continues without its caller.
    let mut connection = events(&server, &location, None, &[]).await;
    gate.open();
    while event(&mut connection).await.is_some_and(|event| event.name != "done") {}
    assert_eq!(server.http().get(&location).await.json()["State"], "Succeeded");
    // A copy that ends at once has a response of the same form.
    let body = r#"{"RemoteSource":"a","RemoteDestination":"c"}"#;
    let request = server.http().request("POST", COPY).header("Prefer", "respond-async");
    let answer = request.body(body.as_bytes()).send().await;
    assert_eq!((answer.status, &answer.json()["State"]), (202, &"Succeeded".into()));
    let location = answer.header("location").expect("a location");
    let found = server.http().get(&format!("/ImageStore/$/{location}")).await;
    assert_eq!(found.json(), answer.json());
    let slashed = server.http().request("POST", "/ImageStore/$/Copy/?api-version=6.0");
    let answer = slashed.header("Prefer", "respond-async").body(body.as_bytes()).send().await;
    assert!(answer.header("location").expect("a location").starts_with("../Operations/"));
}

#[tokio::test]
async fn a_copy_that_is_left_to_run_keeps_its_time_limit() {
    let (_gate, server) = behind().await;
    let target = format!("{COPY}&timeout=4");
    let request = server.http().request("POST", &target).header("Prefer", "respond-async");
    assert_eq!(request.body(BODY.as_bytes()).send().await.status, 202);
    let mut connection = events(&server, OPERATION, None, &[]).await;
    let last = done(&mut connection).await;
    assert_eq!(last.data["State"], "Cancelled");
    assert_eq!(last.data["Error"]["Code"], "FABRIC_E_TIMEOUT");
}

#[tokio::test]
async fn a_cancel_answers_the_operation() {
    let (_gate, server) = behind().await;
    let request = server.http().request("POST", COPY).header("Prefer", "respond-async");
    assert_eq!(request.body(BODY.as_bytes()).send().await.status, 202);
    let answer = server.http().post(&format!("{OPERATION}/$/Cancel"), b"").await;
    assert_eq!(answer.status, 200);
    answer.assert_json();
    assert_eq!((&answer.json()["State"], &answer.json()["Id"]), (&"Cancelled".into(), &ID.into()));
    assert_eq!(answer.json()["Error"]["Code"], "E_ABORT");
    let again = server.http().post(&format!("{OPERATION}/$/Cancel"), b"").await;
    again.assert_fault(Kind::Finished);
    assert_eq!(again.status, 409);
}

#[tokio::test]
async fn operations_are_listed_newest_first_in_pages() {
    let server = Server::start().await;
    let store = server.rest();
    store.upload("a/f", b"1").await.expect("stored");
    for index in 0..150 {
        store.copy(&copy("a", &format!("b{index}"))).await.expect("copied");
    }
    let mut found = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    while pages == 0 || !token.is_empty() {
        let target = format!("/ImageStore/$/Operations?State=Succeeded&ContinuationToken={token}");
        let page = server.http().get(&target).await.json();
        for operation in page["Operations"].as_array().expect("operations") {
            found.push(operation["RemoteDestination"].as_str().expect("a path").to_owned());
        }
        page["ContinuationToken"].as_str().expect("a token").clone_into(&mut token);
        pages += 1;
    }
    assert_eq!(pages, 2);
    assert_eq!(found, (0..150).rev().map(|index| format!("b{index}")).collect::<Vec<_>>());
    let target = "/ImageStore/$/Operations?ContinuationToken=x";
    server.http().get(target).await.assert_fault(Kind::InvalidArgument);
}

#[tokio::test]
async fn operations_are_listed_by_state() {
    let server = Server::start().await;
    fill(&server.rest(), "a/f=1").await;
    server.rest().copy(&copy("a", "b")).await.expect("copied");
    for (state, count) in [("Succeeded", 1), ("Running", 0), ("Failed", 0), ("Cancelled", 0)] {
        let target = format!("/ImageStore/$/Operations?State={state}");
        let list = server.http().get(&target).await.json();
        assert_eq!(list["Operations"].as_array().expect("operations").len(), count, "{state}");
    }
    for state in ["running", "Done", "1"] {
        let target = format!("/ImageStore/$/Operations?State={state}");
        let message = server.http().get(&target).await.assert_fault(Kind::InvalidArgument);
        assert!(message.contains(&format!("'{state}'")), "{message}");
    }
}

#[tokio::test]
async fn an_operation_that_is_not_there_is_told_so_as_json_and_as_events() {
    let server = Server::start().await;
    for (target, kind) in [
        (OPERATION, Kind::OperationNotFound),
        ("/ImageStore/$/Operations/x", Kind::InvalidArgument),
    ] {
        server.http().get(target).await.assert_fault(kind);
        let request = server.http().request("GET", target).header("Accept", "text/event-stream");
        request.send().await.assert_fault(kind);
        server.http().post(&format!("{target}/$/Cancel"), b"").await.assert_fault(kind);
    }
}
