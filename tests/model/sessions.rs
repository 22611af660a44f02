//! Upload sessions: chunks in any order, repeated, wrong, and what becomes of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use imagestore::{
    error::{Kind, Result},
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX},
    model::{ChunkRange, SessionId},
    store::Call,
};
use object_store::memory::InMemory;

use crate::{
    harness::{Fixture, digest, kind, path, until},
    machine::send_chunk,
};

fn id(number: u32) -> SessionId {
    SessionId::parse(&format!("00000000-0000-4000-8000-{number:012}")).unwrap()
}

/// Sends a range of bytes to a session.
async fn send(
    fixture: &Fixture,
    session: u32,
    at: &str,
    bytes: &[u8],
    range: (usize, usize),
) -> Result<()> {
    let (start, end) = range;
    let chunk = ChunkRange::new(start as u64, (end - start) as u64, bytes.len() as u64)?;
    let piece = Bytes::copy_from_slice(&bytes[start..end]);
    send_chunk(fixture, id(session), at, chunk, piece).await
}

async fn commit(fixture: &Fixture, session: u32) -> Result<bool> {
    let entry = fixture.store.commit_session(id(session), Call::default()).await?;
    Ok(entry.is_some())
}

async fn gaps(fixture: &Fixture, session: u32) -> Vec<(i64, i64)> {
    let session = fixture.store.session(id(session), Call::default()).await.unwrap();
    session.expected.iter().map(|gap| (gap.start, gap.end)).collect()
}

const BYTES: &[u8] = b"0123456789";

#[tokio::test]
async fn chunks_come_in_any_order_and_gaps_are_told() {
    let fixture = Fixture::new().await;
    send(&fixture, 1, "a", BYTES, (4, 6)).await.unwrap();
    assert_eq!(gaps(&fixture, 1).await, [(0, 3), (6, 9)]);
    send(&fixture, 1, "a", BYTES, (9, 10)).await.unwrap();
    send(&fixture, 1, "a", BYTES, (0, 4)).await.unwrap();
    assert_eq!(gaps(&fixture, 1).await, [(6, 8)]);
    send(&fixture, 1, "a", BYTES, (6, 9)).await.unwrap();
    assert_eq!(gaps(&fixture, 1).await, []);
    assert_eq!(kind(fixture.read("a").await), Kind::FileNotFound);
    assert!(commit(&fixture, 1).await.unwrap());
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);
}

#[tokio::test]
async fn a_stored_chunk_may_be_sent_again_and_its_new_bytes_are_not_looked_at() {
    let fixture = Fixture::new().await;
    send(&fixture, 1, "a", BYTES, (0, 6)).await.unwrap();
    let other = b"xxxxxxxxxx";
    for range in [(0, 6), (2, 4), (0, 1), (5, 6)] {
        send(&fixture, 1, "a", other, range).await.unwrap();
    }
    send(&fixture, 1, "a", BYTES, (6, 10)).await.unwrap();
    // What two chunks cover together is there, too.
    send(&fixture, 1, "a", other, (0, 10)).await.unwrap();
    commit(&fixture, 1).await.unwrap();
    send(&fixture, 1, "a", other, (3, 7)).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);
}

#[tokio::test]
async fn a_chunk_that_overlaps_in_part_is_refused_and_nothing_is_stored() {
    let fixture = Fixture::new().await;
    send(&fixture, 1, "a", BYTES, (3, 6)).await.unwrap();
    for range in [(0, 4), (5, 7), (0, 10), (2, 7)] {
        assert_eq!(kind(send(&fixture, 1, "a", BYTES, range).await), Kind::BadRange);
    }
    assert_eq!(gaps(&fixture, 1).await, [(0, 2), (6, 9)]);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_its_range_is_refused() {
    let fixture = Fixture::new().await;
    let range = ChunkRange::new(0, 4, 10).unwrap();
    for bytes in [&b"012"[..], b"01234", b""] {
        let sent = send_chunk(&fixture, id(1), "a", range, Bytes::from_static(bytes)).await;
        assert_eq!(kind(sent), Kind::BadRange);
    }
    assert_eq!(kind(fixture.store.session(id(1), Call::default()).await), Kind::SessionNotFound);
    for (offset, length, total) in [(0, 11, 10), (10, 1, 10), (0, 0, 10), (u64::MAX, 1, 10)] {
        assert_eq!(kind(ChunkRange::new(offset, length, total)), Kind::BadRange);
    }
}

#[tokio::test]
async fn a_session_belongs_to_one_path_and_one_size() {
    let fixture = Fixture::new().await;
    send(&fixture, 1, "a/b", BYTES, (0, 5)).await.unwrap();
    for other in ["a/B", "a", "a/b/c"] {
        let sent = send(&fixture, 1, other, BYTES, (5, 10)).await;
        assert_eq!(kind(sent), Kind::SessionConflict);
    }
    let sent = send(&fixture, 1, "a/b", b"01234567891", (5, 10)).await;
    assert_eq!(kind(sent), Kind::InvalidArgument);
    assert_eq!(gaps(&fixture, 1).await, [(5, 9)]);
}

#[tokio::test]
async fn an_empty_file_is_committed_too() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        send(&fixture, 1, "a", b"", (0, 0)).await.unwrap();
    }
    assert_eq!(gaps(&fixture, 1).await, []);
    assert!(commit(&fixture, 1).await.unwrap());
    assert_eq!(fixture.read("a").await.unwrap(), b"");
}

#[tokio::test]
async fn a_commit_repeats_safely_and_needs_every_byte() {
    let fixture = Fixture::new().await;
    assert_eq!(kind(commit(&fixture, 1).await), Kind::InvalidArgument);
    send(&fixture, 1, "a", BYTES, (0, 5)).await.unwrap();
    assert_eq!(kind(commit(&fixture, 1).await), Kind::InvalidArgument);
    send(&fixture, 1, "a", BYTES, (5, 10)).await.unwrap();
    for _ in 0..2 {
        assert!(commit(&fixture, 1).await.unwrap());
    }
    let listed = fixture.store.session(id(1), Call::default()).await.unwrap();
    assert!(listed.committed && listed.expected.is_empty());
    fixture.delete("a").await.unwrap();
    // It was committed, and the file is gone since.
    assert!(!commit(&fixture, 1).await.unwrap());
    assert_eq!(fixture.files("").await, [""; 0]);
    assert_eq!(fixture.tables.number("SELECT COUNT(*) FROM operation WHERE kind = 3"), 1);
}

#[tokio::test]
async fn a_commit_onto_a_folder_or_below_a_file_is_refused_and_the_session_stays() {
    let fixture = Fixture::new().await;
    for (session, at) in [(1, "a"), (2, "b/c")] {
        send(&fixture, session, at, BYTES, (0, 10)).await.unwrap();
    }
    fixture.fill(&["a/f", "b"]).await;
    for session in [1, 2] {
        assert_eq!(kind(commit(&fixture, session).await), Kind::AlreadyExists);
    }
    fixture.delete("a").await.unwrap();
    fixture.delete("b").await.unwrap();
    for session in [1, 2] {
        assert!(commit(&fixture, session).await.unwrap());
    }
    assert_eq!(fixture.files("").await, ["a", "b/c"]);
}

#[tokio::test]
async fn a_first_chunk_for_a_folder_or_below_a_file_is_refused() {
    let fixture = Fixture::new().await;
    fixture.fill(&["a/f"]).await;
    for at in ["a", "a/f/g"] {
        assert_eq!(kind(send(&fixture, 1, at, BYTES, (0, 5)).await), Kind::AlreadyExists);
    }
}

#[tokio::test]
async fn a_commit_replaces_a_file_with_a_new_version() {
    let fixture = Fixture::new().await;
    fixture.fill(&["a"]).await;
    let version =
        async || fixture.store.stat(&path("a"), Call::default()).await.unwrap().entry.kind;
    let before = version().await;
    send(&fixture, 1, "a", BYTES, (0, 10)).await.unwrap();
    commit(&fixture, 1).await.unwrap();
    assert_ne!(version().await, before);
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);
}

#[tokio::test]
async fn two_sessions_of_one_path_do_not_mix_and_the_later_commit_wins() {
    let fixture = Fixture::new().await;
    let other = b"abcdefghij";
    send(&fixture, 1, "a", BYTES, (0, 5)).await.unwrap();
    send(&fixture, 2, "a", other, (0, 10)).await.unwrap();
    send(&fixture, 1, "a", BYTES, (5, 10)).await.unwrap();
    let sessions = fixture.store.sessions(Some(path("a")), 1, String::new(), Call::default());
    let page = sessions.await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (1, true));
    commit(&fixture, 1).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);
    commit(&fixture, 2).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), other);
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing() {
    let fixture = Fixture::new().await;
    let bytes = vec![7; 3 * INLINE_BYTES_MAX];
    send(&fixture, 1, "a", &bytes, (0, 2 * INLINE_BYTES_MAX)).await.unwrap();
    assert_eq!(fixture.object_keys().await.len(), 1);
    let delete = async || fixture.store.delete_session(id(1), Call::default()).await;
    delete().await.unwrap();
    assert_eq!(kind(delete().await), Kind::SessionNotFound);
    fixture.settle().await;
    assert_eq!(fixture.leftovers(), []);
    assert_eq!(fixture.object_keys().await, [""; 0]);
}

#[tokio::test]
async fn sessions_survive_a_restart_and_expire() {
    let mut fixture = Fixture::new().await;
    send(&fixture, 1, "a", BYTES, (0, 5)).await.unwrap();
    fixture.restart().await;
    send(&fixture, 1, "a", BYTES, (5, 10)).await.unwrap();
    commit(&fixture, 1).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);

    let memory = Arc::new(InMemory::new());
    let fixture = Fixture::with(|config| config.session_life = Duration::ZERO, memory).await;
    send(&fixture, 1, "a", BYTES, (0, 5)).await.unwrap();
    fixture.store.expire().await.unwrap();
    assert_eq!(kind(fixture.store.session(id(1), Call::default()).await), Kind::SessionNotFound);
    fixture.settle().await;
    assert_eq!(fixture.leftovers(), []);
}

#[tokio::test]
async fn a_file_of_several_large_chunks_gets_its_digest_in_the_background() {
    let fixture = Fixture::new().await;
    let mut bytes = vec![1; PART_BYTES_MAX + 100];
    bytes[PART_BYTES_MAX] = 2;
    let middle = PART_BYTES_MAX - 1;
    send(&fixture, 1, "a", &bytes, (middle, bytes.len())).await.unwrap();
    send(&fixture, 1, "a", &bytes, (0, middle)).await.unwrap();
    commit(&fixture, 1).await.unwrap();
    let stat = async || fixture.store.stat(&path("a"), Call::default()).await.unwrap().digest;
    until("the digest is known", async || stat().await.is_some()).await;
    assert_eq!(stat().await, Some(digest(&bytes)));
    assert_eq!(fixture.read("a").await.unwrap(), bytes);
}
