//! Watchers of all operations get every end, once and in order.

use std::collections::HashMap;

use super::*;
use crate::limits::WATCH_LAG;

async fn copy(fixture: &Fixture, to: &str) -> Operation {
    let copying = fixture.store.copy(request("a", to), false, &Call::system()).await.unwrap();
    finish(copying).await.unwrap()
}

async fn watch(fixture: &Fixture, since: Option<i64>) -> Result<AllUpdates> {
    fixture.store.watch_all(since, &Call::system()).await
}

/// The next changes, up to the end of the operation with this destination.
async fn up_to(all: &mut AllUpdates, destination: &str) -> Vec<Operation> {
    let mut told = Vec::new();
    loop {
        let operation = all.next().await.unwrap().unwrap();
        let is_last = operation.destination == path(destination) && operation.state.is_final();
        told.push(operation);
        if is_last {
            return told;
        }
    }
}

fn destinations(told: &[Operation]) -> Vec<String> {
    told.iter().map(|operation| operation.destination.to_string()).collect()
}

/// A watcher of all operations gets each change once.
#[tokio::test]
async fn a_cancelled_copy_is_told_to_watchers_of_all_once() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    let mut all = watch(&fixture, None).await.unwrap();
    fixture.gate.close();
    let reads = fixture.gate.reads();
    let copying = fixture.store.copy(request.clone(), false, &Call::system()).await.unwrap();
    until("the copy reads", async || fixture.gate.reads() > reads).await;
    fixture
        .store
        .cancel(request.id, Error::new(Kind::Cancelled, "by a test"), &Call::system())
        .await
        .unwrap();
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Cancelled);
    fixture.idle().await;
    fixture.upload("c/f", object(2)).await.unwrap();
    fixture.store.delete(&path("c"), &Call::system()).await.unwrap();
    let mut states = Vec::new();
    loop {
        let operation = all.next().await.unwrap().unwrap();
        if operation.kind == OperationKind::Delete {
            break;
        }
        states.push(operation.state);
    }
    assert_eq!(states, [OperationState::Running, OperationState::Cancelled]);
}

#[tokio::test]
async fn a_watcher_that_lags_learns_every_end() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    fixture.gate.close();
    let long = CopyRequest { verify: true, ..request("a", "long") };
    let long = fixture.store.copy(long, false, &Call::system()).await.unwrap();
    let mut all = watch(&fixture, None).await.unwrap();
    let copies = (0..2 * WATCH_LAG).map(|number| {
        let fixture = &fixture;
        async move { copy(fixture, &format!("b{number}")).await.change }
    });
    let mut changes = futures::future::join_all(copies).await;
    changes.sort_unstable();
    fixture.gate.open();
    finish(long).await.unwrap();
    let told = up_to(&mut all, "long").await;
    let ends: Vec<i64> =
        told.iter().filter(|told| told.state.is_final()).map(|told| told.change).collect();
    changes.push(*ends.last().unwrap());
    assert_eq!(ends, changes);
    // A running copy is reported as running before its end, and its counters increase.
    let long: Vec<_> = told.iter().filter(|told| told.destination == path("long")).collect();
    assert!(long.len() >= 2 && !long[0].state.is_final());
    assert!(long.windows(2).all(|pair| {
        pair[0].progress.bytes_done <= pair[1].progress.bytes_done
            && pair[0].change <= pair[1].change
    }));
}

#[tokio::test]
async fn a_watcher_that_names_a_change_is_told_what_came_after_it() {
    let fixture = Fixture::new().await;
    fixture.upload("a", "1").await.unwrap();
    let mut changes = HashMap::new();
    for to in ["b", "c", "d"] {
        changes.insert(to, copy(&fixture, to).await.change);
    }
    let mut all = watch(&fixture, Some(changes["b"])).await.unwrap();
    copy(&fixture, "e").await;
    assert_eq!(destinations(&up_to(&mut all, "e").await), ["c", "d", "e"]);
    // With the lowest number all changes come first, and with the last number none.
    let mut all = watch(&fixture, Some(0)).await.unwrap();
    assert_eq!(destinations(&up_to(&mut all, "e").await), ["b", "c", "d", "e"]);
    let last = fixture.number("SELECT value FROM meta WHERE name = 'change'").await;
    let mut all = watch(&fixture, Some(last)).await.unwrap();
    copy(&fixture, "f").await;
    assert_eq!(destinations(&up_to(&mut all, "f").await), ["f"]);
}

#[tokio::test]
async fn changes_that_are_not_known_any_more_are_refused() {
    let fixture = Fixture::new().await;
    fixture.upload("a", "1").await.unwrap();
    let (first, second) = (copy(&fixture, "b").await.change, copy(&fixture, "c").await.change);
    let expire = move |tx: &mut Tx<'_>| {
        let sql = "UPDATE operation SET finished = 0 WHERE change = $1";
        tx.execute(sql, params![first])?;
        operation::expire(tx, micros(Duration::from_secs(1)))
    };
    fixture.store.0.engine.write(None, expire).await.unwrap();
    let kind = async |since| watch(&fixture, Some(since)).await.map(drop).map_err(|e| e.kind());
    assert_eq!(kind(first - 1).await, Err(Kind::ChangesForgotten));
    // The forgotten change is the one with the number `first`, so none after it is missing.
    assert_eq!(kind(first).await, Ok(()));
    assert_eq!(kind(second).await, Ok(()));
    assert_eq!(kind(second + 1).await, Err(Kind::ChangesForgotten));
}

/// An operation was committed, but its outcome was lost, so nobody announces it.
#[tokio::test]
async fn an_end_that_nobody_announced_is_told_with_the_next_one() {
    let fixture = Fixture::new().await;
    fixture.upload("a", "1").await.unwrap();
    let mut all = watch(&fixture, None).await.unwrap();
    let (lost, server) = (request("a", "lost"), fixture.store.0.server.clone());
    let start = move |tx: &mut Tx<'_>| namespace::copy::start(tx, &lost, &server, ("", ""));
    fixture.store.0.engine.write(None, start).await.unwrap();
    copy(&fixture, "b").await;
    assert_eq!(destinations(&up_to(&mut all, "b").await), ["lost", "b"]);
}

/// The caller of a delete leaves after the write job has begun.
#[tokio::test]
async fn a_delete_is_told_although_its_caller_left() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", "1").await.unwrap();
    let mut all = watch(&fixture, None).await.unwrap();
    let held = fixture.hold_writer().await;
    let at = path("a");
    let call = Call::system();
    let mut delete = Box::pin(fixture.store.delete(&at, &call));
    assert!(futures::poll!(&mut delete).is_pending());
    // One more job in the batch of the delete, which delays the commit until the caller has left.
    let (left, leaves) = mpsc::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel();
    let engine = fixture.store.0.engine.clone();
    tokio::spawn(async move {
        let wait = move |_: &mut Tx<'_>| {
            begun.send(()).unwrap();
            leaves.recv_timeout(SOON).ok();
            Ok(())
        };
        engine.write(None, wait).await
    });
    fixture.waiting(2).await;
    drop(held);
    began.await.unwrap();
    drop(delete);
    drop(left);
    let told = all.next().await.unwrap().unwrap();
    assert_eq!((told.kind, told.state), (OperationKind::Delete, OperationState::Succeeded));
}

#[tokio::test]
async fn a_start_tells_what_an_earlier_one_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let database = database::database(dir.path());
    let open = async || {
        let config = Config { database: database.clone(), ..Config::new(dir.path()) };
        let blobs = Blobs::new(Arc::new(Gate::new()));
        Store::open(config, blobs).await.unwrap().0
    };
    let store = open().await;
    let incoming = UploadSpec::new(path("a"));
    store.upload(incoming, &Call::system()).await.unwrap().finish().await.unwrap();
    let asked = CopyRequest { verify: true, ..request("a", "b") };
    let server = store.0.server.clone();
    let start = move |tx: &mut Tx<'_>| namespace::copy::start(tx, &asked, &server, ("", ""));
    store.0.engine.write(None, start).await.unwrap();
    let (running, change) =
        store.operations(None, 0, String::new(), &Call::system()).await.unwrap();
    assert_eq!(change, running.items[0].change);
    let since = running.items[0].change;
    store.close().await;
    let store = open().await;
    let mut all = store.watch_all(Some(since), &Call::system()).await.unwrap();
    let told = all.next().await.unwrap().unwrap();
    assert_eq!((told.id, told.state), (running.items[0].id, OperationState::Failed));
    assert_eq!(told.error.unwrap().kind, Kind::ServerLost);
    assert_eq!(told.change, since + 1);
    store.close().await;
}
