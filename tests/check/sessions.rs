//! Damage to upload sessions, and the calls that a damaged session refuses.

use imagestore::{
    error::Kind,
    limits::SESSION_PARTS_MAX,
    model::{FindingKind as K, SessionId},
    store::Call,
};

use crate::{
    damage::{Case, try_all},
    harness::{FOR_EVER, Folder, SESSION, chunk, fill},
};

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_sessions_is_found() {
    try_all(&[
        Case {
            name: "a session that counts wrong",
            damage: |store| store.sql("UPDATE upload_session SET received = 300"),
            found: &[K::SessionReceived, K::StoreSums],
            paths: &[],
            left: &[],
        },
        Case {
            name: "a session without its chunks",
            damage: |store| store.sql("DELETE FROM upload_chunk"),
            found: &[K::SessionReceived, K::Unreferenced],
            paths: &[],
            left: &[],
        },
        Case {
            name: "chunks that overlap",
            damage: |store| store.sql("UPDATE upload_chunk SET start = 99 WHERE start > 0"),
            found: &[K::SessionChunks],
            paths: &[],
            left: &[K::SessionChunks],
        },
        Case {
            name: "a chunk beyond the end",
            damage: |store| store.sql("UPDATE upload_chunk SET start = 201 WHERE start > 0"),
            found: &[K::SessionChunks],
            paths: &[],
            left: &[K::SessionChunks],
        },
        Case {
            name: "a committed session with chunks",
            damage: |store| store.sql("UPDATE upload_session SET committed = 1, pieces = 0"),
            found: &[K::SessionChunks, K::StoreSums],
            paths: &[],
            left: &[K::SessionChunks],
        },
        Case {
            name: "chunks without a session",
            damage: |store| store.sql("DELETE FROM upload_session"),
            found: &[K::ChunkOrphan, K::StoreSums],
            paths: &[],
            left: &[],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_pieces_are_damaged_becomes_no_file() {
    for damage in [
        "UPDATE upload_chunk SET start = 50 WHERE start = 100",
        "UPDATE part SET size = 99 WHERE size = 100",
    ] {
        let folder = Folder::new();
        let store = folder.open(FOR_EVER).await;
        fill(&store).await;
        chunk(&store, SESSION, "late", (100, 100, 300)).await.unwrap();
        store.close().await;
        drop(store);
        folder.sql(damage);
        let store = folder.open(FOR_EVER).await;
        let id = SessionId::parse(SESSION).unwrap();
        let error = store.commit_session(id, &Call::system()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{damage}: {error}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_a_bound_of_pieces() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    store.close().await;
    drop(store);
    let pieces = format!("UPDATE upload_session SET pieces = {}", SESSION_PARTS_MAX - 1);
    folder.sql(&pieces);
    let store = folder.open(FOR_EVER).await;
    chunk(&store, SESSION, "late", (100, 50, 300)).await.unwrap();
    let error = chunk(&store, SESSION, "late", (150, 50, 300)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    // The refused calls have stored nothing.
    let id = SessionId::parse(SESSION).unwrap();
    assert_eq!(store.session(id, &Call::system()).await.unwrap().expected.len(), 1);
    store.close().await;
}
