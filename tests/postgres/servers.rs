//! Several servers on one store: who is silent for its lease is declared dead, loses its operations, and starts over.

use std::{sync::Arc, time::Duration};

use imagestore::{
    access::Rights,
    blob::Blobs,
    error::{Error, Kind, Result},
    model::{
        Conditions, CopyRequest, EntryKind, FileVersion, IfExists, Operation, OperationId,
        OperationState, SkipFiles, Stat,
    },
    namespace::{Database, expelled::Expelled},
    store::{Call, Config, NewToken, Store},
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    database::{administer, new_schema, parse},
    driver::url,
    gate::Gate,
    reader::Reader,
    store::{path, try_upload, upload},
    wire::Wire,
};

/// The bytes of two parts that are objects.
const ONE: &[u8] = &[1; 100_000];
const ANOTHER: &[u8] = &[2; 100_000];
const LEASE: Duration = Duration::from_secs(1);
/// Longer than any wait takes.
const SOON: Duration = Duration::from_mins(1);

async fn join(folder: &TempDir, database: &Database, gate: &Gate) -> Store {
    let config = Config {
        database: database.clone(),
        reserve_bytes: 0,
        lease: Some(LEASE),
        ..Config::new(folder.path())
    };
    Store::open(config, Blobs::new(Arc::new(gate.clone()))).await.expect("opened").0
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn version(stat: &Stat) -> FileVersion {
    match stat.entry.kind {
        EntryKind::File { version, .. } => version,
        EntryKind::Folder => panic!("a folder"),
    }
}

/// Begins a copy that reads three parts, which the gate holds.
async fn begin(store: &Store, gate: &Gate) -> OperationId {
    const FILES: [&[u8]; 3] = [&[1; 100_000], &[2; 100_000], &[3; 100_000]];
    for (number, bytes) in FILES.into_iter().enumerate() {
        upload(store, &path(&format!("a/{number}")), bytes).await;
    }
    gate.close();
    let request = CopyRequest {
        id: OperationId::new(),
        source: path("a"),
        destination: path("b"),
        skip_files: SkipFiles::default(),
        check_mark_file: false,
        if_exists: IfExists::Overwrite,
        conditions: Conditions::default(),
        verify: true,
    };
    let id = request.id;
    drop(store.copy(request, true, &Call::system()).await.expect("begun"));
    id
}

#[tokio::test]
async fn a_silent_server_is_declared_dead_and_its_operations_fail() {
    let (gate, folders) = (Gate::new(), [folder(), folder()]);
    let (wire, through) = Wire::new();
    let first = join(&folders[0], &through, &gate).await;
    let second = join(&folders[1], &wire.around(), &gate).await;
    let id = begin(&first, &gate).await;
    let mut updates = second.watch(id, &Call::system()).await.expect("seen");
    wire.fall_silent();
    let ended = async {
        while let Some(operation) = updates.next().await.expect("watched") {
            if operation.state.is_final() {
                return operation;
            }
        }
        panic!("the watch has ended");
    };
    let ended = timeout(SOON, ended).await.expect("in time");
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(ended.error.expect("an error").kind, Kind::ServerLost);
    // While nothing reaches it, the first server does not answer from what it may still know.
    let late = first.stat(&path("a"), &Call::system()).await.expect_err("its lease is over");
    assert_eq!(late.kind(), Kind::Busy, "{late:?}");
    upload(&second, &path("c"), b"written meanwhile").await;
    wire.speak();
    assert_eq!(timeout(SOON, first.expelled()).await.expect("told"), Expelled::Dead);
    let refused = try_upload(&first, &path("d"), b"late").await.expect_err("expelled");
    assert_eq!(refused.kind(), Kind::Busy, "{refused:?}");
    first.abandon(Expelled::Dead).await;
    gate.open();
    first.close().await;
    // Under its new id it is a server like any other.
    let again = join(&folders[0], &through, &gate).await;
    upload(&again, &path("d"), b"again").await;
    second.stat(&path("d"), &Call::system()).await.expect("seen by both");
    again.close().await;
    second.close().await;
}

#[tokio::test]
async fn servers_that_commit_and_servers_that_stop_are_not_declared_dead() {
    let (gate, folders) = (Gate::new(), [folder(), folder()]);
    let url = new_schema(&url());
    let database = parse(&url);
    let first = join(&folders[0], &database, &gate).await;
    let second = join(&folders[1], &database, &gate).await;
    let states = "SELECT CAST(SUM(state * CASE WHEN ended IS NULL THEN 1 ELSE 10 END) AS BIGINT) FROM server";
    let beats = "SELECT MIN(batch) FROM server";
    let reader = Reader::open(&database);
    // Each has sent heartbeats for longer than its lease.
    let beaten = async {
        while reader.number(beats) < 12 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, beaten).await.expect("in time");
    assert_eq!(reader.number(states), 2);
    second.close().await;
    // One is alive, and one has ended.
    assert_eq!(reader.number(states), 1 + 3 * 10);
    upload(&first, &path("a"), b"bytes").await;
    first.close().await;
}

#[tokio::test]
async fn a_restart_after_a_kill_ends_what_the_run_before_has_begun() {
    let (gate, folder) = (Gate::new(), folder());
    let database = parse(&new_schema(&url()));
    let killed = join(&folder, &database, &gate).await;
    let id = begin(&killed, &gate).await;
    // Another start with its data folder, as after a kill.
    let next = join(&folder, &database, &gate).await;
    let ended = next.operation(id, &Call::system()).await.expect("known");
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(ended.error.expect("an error").kind, Kind::ServerLost);
    assert_eq!(timeout(SOON, killed.expelled()).await.expect("told"), Expelled::Dead);
    killed.abandon(Expelled::Dead).await;
    gate.open();
    killed.close().await;
    next.close().await;
}

#[tokio::test]
async fn an_epoch_begins_when_the_database_has_lost_commits() {
    // The row of the server is as it was before its last commit, or is gone.
    for lost in ["UPDATE server SET batch = batch - 1", "DELETE FROM server"] {
        let (gate, folder) = (Gate::new(), folder());
        let url = new_schema(&url());
        let database = parse(&url);
        let store = join(&folder, &database, &gate).await;
        let before = version(&upload(&store, &path("a"), b"bytes").await);
        administer(&url, lost);
        assert_eq!(timeout(SOON, store.expelled()).await.expect("told"), Expelled::CommitsLost);
        store.abandon(Expelled::CommitsLost).await;
        store.close().await;
        let again = join(&folder, &database, &gate).await;
        let after = version(&upload(&again, &path("b"), b"bytes").await);
        assert!(after.epoch_data_loss > before.epoch_data_loss, "{before:?} {after:?}");
        again.close().await;
        // Once.
        let last = join(&folder, &database, &gate).await;
        let same = version(&upload(&last, &path("c"), b"bytes").await);
        assert_eq!(same.epoch_data_loss, after.epoch_data_loss);
        last.close().await;
    }
}

#[tokio::test]
async fn a_sweep_leaves_what_a_living_server_is_putting_and_deletes_what_a_dead_one_has_put() {
    let (gate, folders) = (Gate::new(), [folder(), folder()]);
    let (wire, through) = Wire::new();
    let first = join(&folders[0], &through, &gate).await;
    let second = join(&folders[1], &wire.around(), &gate).await;
    let putting = {
        let first = first.clone();
        move |name, bytes| {
            let first = first.clone();
            tokio::spawn(async move { try_upload(&first, &path(name), bytes).await })
        }
    };
    gate.hold_answers();
    let upload = putting("a", ONE);
    stored(&gate, 1).await;
    // The object is there, and no row names it yet. The clock of the bucket is of no account.
    gate.age();
    second.sweep().await.expect("swept");
    second.reclaim().await.expect("reclaimed");
    first.judge_suspects().await.expect("judged");
    second.reclaim().await.expect("reclaimed");
    assert_eq!(gate.keys().await.len(), 1);
    gate.open();
    upload.await.expect("no panic").expect("uploaded");
    // Of a dead server it goes.
    gate.hold_answers();
    let late = putting("b", ANOTHER);
    stored(&gate, 2).await;
    administer(
        wire.url(),
        "UPDATE server SET state = 3, ended = 0 WHERE id = (SELECT MIN(id) FROM server)",
    );
    assert_eq!(timeout(SOON, first.expelled()).await.expect("told"), Expelled::Dead);
    second.sweep().await.expect("swept");
    second.reclaim().await.expect("reclaimed");
    assert_eq!(gate.keys().await.len(), 1);
    gate.open();
    late.await.expect("no panic").expect_err("its server is dead");
    first.abandon(Expelled::Dead).await;
    first.close().await;
    second.stat(&path("a"), &Call::system()).await.expect("there");
    second.close().await;
}

/// Waits until the gate has stored so many objects.
async fn stored(gate: &Gate, objects: usize) {
    let stored = async {
        while gate.keys().await.len() < objects {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, stored).await.expect("in time");
}

#[tokio::test]
async fn an_object_that_its_server_has_put_too_late_is_deleted() {
    let (gate, folder) = (Gate::new(), folder());
    let database = parse(&new_schema(&url()));
    let store = join(&folder, &database, &gate).await;
    upload(&store, &path("a"), ONE).await;
    let key = gate.keys().await.pop().expect("an object");
    // Another object of this server, as a put leaves it that has timed out and then happened nevertheless.
    let late = format!("{}{}", key.get(..key.len() - 32).expect("a prefix"), "0".repeat(32));
    gate.copy(&key, &late).await;
    let reader = Reader::open(&database);
    assert_eq!(reader.number("SELECT COUNT(*) FROM part"), 1);
    store.sweep().await.expect("swept");
    store.reclaim().await.expect("reclaimed");
    assert_eq!(gate.keys().await, [key]);
    store.close().await;
}

/// Waits for the last state of an operation.
async fn ended(next: impl AsyncFnMut() -> Result<Option<Operation>>) -> Operation {
    let mut next = next;
    let last = async {
        loop {
            let operation = next().await.expect("told").expect("a state");
            if operation.state.is_final() {
                return operation;
            }
        }
    };
    timeout(SOON, last).await.expect("in time")
}

#[tokio::test]
async fn an_operation_of_one_server_is_watched_on_a_second_and_cancelled_on_a_third() {
    let (gate, folders) = (Gate::new(), [folder(), folder(), folder()]);
    let database = parse(&new_schema(&url()));
    let call = Call::system();
    let first = join(&folders[0], &database, &gate).await;
    let second = join(&folders[1], &database, &gate).await;
    let third = join(&folders[2], &database, &gate).await;
    let mut early = second.watch_all(None, &call).await.expect("watched");
    let id = begin(&first, &gate).await;
    let mut late = second.watch_all(None, &call).await.expect("watched");
    let mut one = second.watch(id, &call).await.expect("watched");
    let mut own = first.watch(id, &call).await.expect("watched");
    for updates in [&mut early, &mut late] {
        let begun = timeout(SOON, updates.next()).await.expect("in time").expect("told");
        let begun = begun.expect("a change");
        assert_eq!((begun.id, begun.state), (id, OperationState::Running));
    }
    // The third file waits at the gate, and the progress of the first two reaches the other server.
    gate.pass(2);
    let progress = async {
        while one.next().await.expect("told").expect("a state").progress.files_done < 2 {}
    };
    timeout(SOON, progress).await.expect("in time");
    let why = Error::new(Kind::Cancelled, "somebody cancelled it");
    let cancelled = third.cancel(id, why, &call).await.expect("cancelled");
    assert_eq!(cancelled.state, OperationState::Cancelled);
    assert_eq!(ended(async || early.next().await).await.state, OperationState::Cancelled);
    assert_eq!(ended(async || late.next().await).await.state, OperationState::Cancelled);
    assert_eq!(ended(async || one.next().await).await.error, cancelled.error);
    // Its own server ends its work, which waits.
    assert_eq!(ended(async || own.next().await).await.state, OperationState::Cancelled);
    gate.open();
    for store in [first, second, third] {
        store.close().await;
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_on_one_server_ends_on_the_others() {
    let (gate, folders) = (Gate::new(), [folder(), folder()]);
    let database = parse(&new_schema(&url()));
    let call = Call::system();
    let first = join(&folders[0], &database, &gate).await;
    let second = join(&folders[1], &database, &gate).await;
    let rights = Rights::parse("writer /").expect("rights");
    let new = |name: &str| NewToken { name: name.to_owned(), rights: rights.clone(), life: None };
    let (_, revoked) = first.create_token(new("revoked"), &call).await.expect("made");
    let (_, rotated) = first.create_token(new("rotated"), &call).await.expect("made");
    let callers = [
        second.token_caller(revoked.expose()).await.expect("taken"),
        second.token_caller(rotated.expose()).await.expect("taken"),
    ];
    first.revoke_token("revoked".to_owned(), &call).await.expect("revoked");
    let (_, next) =
        first.rotate_token("rotated".to_owned(), Duration::ZERO, &call).await.expect("rotated");
    for caller in callers {
        timeout(SOON, caller.revoked()).await.expect("in time");
    }
    assert!(second.known_token(revoked.expose()).is_none());
    assert!(second.known_token(rotated.expose()).is_none());
    second.token_caller(rotated.expose()).await.expect_err("replaced");
    second.token_caller(next.expose()).await.expect("taken");
    first.close().await;
    second.close().await;
}
