//! Uploads in chunks, over both interfaces.

use imagestore::error::Kind;

use crate::harness::{Driver, Server, both, fill, of};

const ID: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
const NIL: &str = "00000000-0000-0000-0000-000000000000";
const OTHER: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b12";

#[tokio::test]
async fn chunks_come_in_any_order_and_are_visible_when_committed() {
    let (told, left) = both(async |store| {
        let mut missing = vec![store.session(ID).await.expect("none")];
        for (offset, bytes) in [(6, "789"), (0, "12"), (2, "3456")] {
            store.chunk(ID, "a/f", (offset, 9), bytes.as_bytes()).await.expect("stored");
            missing.push(store.session(ID).await.expect("a session"));
            assert_eq!(of(store.list("a").await), Err(Kind::PathNotFound), "not visible yet");
        }
        store.commit(ID).await.expect("committed");
        missing.push(store.session(ID).await.expect("a session"));
        missing
    })
    .await;
    let ranges = |ranges: &[(u64, u64)]| Some(ranges.to_vec());
    let expected = [None, ranges(&[(0, 5)]), ranges(&[(2, 5)]), ranges(&[]), ranges(&[])];
    assert_eq!(told, expected);
    assert_eq!(left, "a/f=123456789");
}

#[tokio::test]
async fn a_chunk_that_is_there_already_succeeds_and_changes_nothing() {
    let ((), left) = both(async |store| {
        for (offset, bytes) in
            [(0, "1234"), (0, "1234"), (1, "23"), (4, "5"), (3, "45"), (0, "12345")]
        {
            store.chunk(ID, "f", (offset, 5), bytes.as_bytes()).await.expect("stored");
        }
        store.commit(ID).await.expect("committed");
        store.chunk(ID, "f", (0, 5), b"12345").await.expect("stored");
    })
    .await;
    assert_eq!(left, "f=12345");
}

#[tokio::test]
async fn other_bytes_for_a_stored_range_are_refused_and_change_nothing() {
    let (told, left) = both(async |store| {
        store.chunk(ID, "f", (0, 9), b"1234").await.expect("stored");
        store.chunk(ID, "f", (4, 9), b"567").await.expect("stored");
        let mut told = vec![
            of(store.chunk(ID, "f", (0, 9), b"x234").await),
            of(store.chunk(ID, "f", (5, 9), b"67").await),
            of(store.chunk(ID, "f", (5, 9), b"6x").await),
            of(store.chunk(ID, "f", (0, 9), b"123456x").await),
        ];
        assert_eq!(store.session(ID).await.expect("a session"), Some(vec![(7, 8)]));
        store.chunk(ID, "f", (7, 9), b"89").await.expect("stored");
        store.commit(ID).await.expect("committed");
        // A chunk of a committed session is compared with the file; other bytes need a session of their own.
        told.push(of(store.chunk(ID, "f", (0, 9), b"x").await));
        store.chunk(OTHER, "f", (0, 9), b"x23456789").await.expect("stored");
        store.commit(OTHER).await.expect("committed");
        told.push(of(store.chunk(ID, "f", (0, 9), b"1").await));
        told
    })
    .await;
    let other = Err(Kind::SessionConflict);
    assert_eq!(told, [other, Ok(()), other, other, other, other]);
    assert_eq!(left, "f=x23456789");
}

#[tokio::test]
async fn what_does_not_fit_the_session_is_refused_and_changes_nothing() {
    let (told, left) = both(async |store| {
        store.chunk(ID, "f", (2, 9), b"345").await.expect("stored");
        let told = vec![
            // Partial overlaps: on either side of the stored range, and around it.
            of(store.chunk(ID, "f", (0, 9), b"123").await),
            of(store.chunk(ID, "f", (4, 9), b"56").await),
            of(store.chunk(ID, "f", (0, 9), b"123456789").await),
            // Another path, a path that differs only in case, and another total.
            of(store.chunk(ID, "g", (0, 9), b"12").await),
            of(store.chunk(ID, "F", (0, 9), b"12").await),
            of(store.chunk(ID, "f", (0, 8), b"12").await),
            // Another spelling of the same path is accepted.
            of(store.chunk(ID, "\\f/", (0, 9), b"12").await),
            // The commit of an incomplete session.
            of(store.commit(ID).await),
            of(store.list("").await),
        ];
        assert_eq!(store.session(ID).await.expect("a session"), Some(vec![(5, 8)]));
        told
    })
    .await;
    let (range, path) = (Err(Kind::BadRange), Err(Kind::SessionConflict));
    let bad = Err(Kind::InvalidArgument);
    assert_eq!(told, [range, range, range, path, path, bad, Ok(()), bad, Ok(())]);
    assert_eq!(left, "");
}

#[tokio::test]
async fn a_session_of_no_bytes_can_be_committed() {
    let (told, left) = both(async |store| {
        store.chunk(ID, "f", (0, 0), b"").await.expect("stored");
        let missing = store.session(ID).await.expect("a session");
        store.commit(ID).await.expect("committed");
        missing
    })
    .await;
    assert_eq!(told, Some(vec![]));
    assert_eq!(left, "f");
}

#[tokio::test]
async fn a_commit_can_be_repeated_and_replaces_a_file() {
    let (told, left) = both(async |store| {
        fill(store, "f=old").await;
        store.chunk(ID, "f", (0, 3), b"new").await.expect("stored");
        let mut told = vec![of(store.commit(ID).await), of(store.commit(ID).await)];
        // A repeated commit leaves a later upload of the same path unchanged.
        fill(store, "f=later").await;
        told.push(of(store.commit(ID).await));
        store.delete("f").await.expect("deleted");
        told.push(of(store.commit(ID).await));
        fill(store, "f=last").await;
        told
    })
    .await;
    assert_eq!(told, [Ok(()); 4]);
    assert_eq!(left, "f=last");
}

#[tokio::test]
async fn no_file_can_be_committed_onto_a_folder_or_below_a_file() {
    let (told, left) = both(async |store| {
        fill(store, "d/x=1 f=2").await;
        let mut told = vec![
            of(store.chunk(ID, "d", (0, 1), b"1").await),
            of(store.chunk(ID, "f/below", (0, 1), b"1").await),
        ];
        // Conflicts that arise after the chunk was stored.
        store.chunk(ID, "e", (0, 1), b"1").await.expect("stored");
        store.chunk(OTHER, "g/below", (0, 1), b"1").await.expect("stored");
        fill(store, "e/x=3 g=4").await;
        told.push(of(store.commit(ID).await));
        told.push(of(store.commit(OTHER).await));
        told
    })
    .await;
    assert_eq!(told, [Err(Kind::AlreadyExists); 4]);
    assert_eq!(left, "d/x=1 e/x=3 f=2 g=4");
}

#[tokio::test]
async fn a_session_can_be_forgotten() {
    let (told, left) = both(async |store| {
        store.chunk(ID, "f", (0, 2), b"1").await.expect("stored");
        let told = vec![
            of(store.forget(ID).await),
            of(store.forget(ID).await),
            of(store.forget(OTHER).await),
            of(store.commit(ID).await),
        ];
        assert_eq!(store.session(ID).await.expect("none"), None);
        // The id of a deleted session can be used again, for another path.
        store.chunk(ID, "g", (0, 1), b"2").await.expect("stored");
        store.commit(ID).await.expect("committed");
        told
    })
    .await;
    let unknown = Err(Kind::SessionNotFound);
    assert_eq!(told, [Ok(()), unknown, unknown, Err(Kind::InvalidArgument)]);
    assert_eq!(left, "g=2");
}

#[tokio::test]
async fn a_session_is_named_by_a_uuid() {
    let (told, left) = both(async |store| {
        let mut told = Vec::new();
        for id in
            ["", "x", "d7d3d8c84d2a4b8e9c060e2f8f0f8b11", "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b1g"]
        {
            told.push(of(store.chunk(id, "f", (0, 1), b"1").await));
            told.push(store.session(id).await.map(drop).map_err(|fault| fault.kind));
        }
        // The nil UUID is an id like any other.
        store.chunk(NIL, "nil", (0, 1), b"1").await.expect("stored");
        store.commit(NIL).await.expect("committed");
        // An id in upper case is the same id.
        store.chunk(&ID.to_uppercase(), "f", (0, 1), b"1").await.expect("stored");
        store.commit(ID).await.expect("committed");
        told
    })
    .await;
    assert_eq!(told, [Err(Kind::InvalidSessionId); 8]);
    assert_eq!(left, "f=1 nil=1");
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let server = Server::start().await;
    let store = server.rest();
    store.chunk(ID, "f", (0, 4), b"12").await.expect("stored");
    let server = server.restart().await;
    let store = server.grpc().await;
    assert_eq!(store.session(ID).await.expect("a session"), Some(vec![(2, 3)]));
    store.chunk(ID, "f", (2, 4), b"34").await.expect("stored");
    store.commit(ID).await.expect("committed");
    let server = server.restart().await;
    let store = server.rest();
    store.commit(ID).await.expect("committed again");
    assert_eq!(store.download("f").await.expect("the bytes"), b"1234");
}
