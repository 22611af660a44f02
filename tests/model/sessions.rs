//! Upload sessions: chunks in any order, repeated or wrong, and the end of a session by commit, delete or
//! expiry.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use imagestore::{
    error::{Kind, Result},
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX},
    model::{ChunkRange, SessionId},
    store::{Call, Chunk},
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
    let entry = fixture.store.commit_session(id(session), &Call::system()).await?;
    Ok(entry.is_some())
}

async fn gaps(fixture: &Fixture, session: u32) -> Vec<(i64, i64)> {
    let session = fixture.store.session(id(session), &Call::system()).await.unwrap();
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

const OTHER: &[u8] = b"xxxxxxxxxx";

#[tokio::test]
async fn a_stored_range_takes_the_same_bytes_again_and_no_others() {
    let fixture = Fixture::new().await;
    let again = async |range| {
        send(&fixture, 1, "a", BYTES, range).await.unwrap();
        for at in range.0..range.1 {
            let mut other = BYTES.to_vec();
            other[at] = b'x';
            assert_eq!(kind(send(&fixture, 1, "a", &other, range).await), Kind::SessionConflict);
        }
    };
    send(&fixture, 1, "a", BYTES, (0, 6)).await.unwrap();
    for range in [(0, 6), (2, 4), (0, 1), (5, 6)] {
        again(range).await;
    }
    send(&fixture, 1, "a", BYTES, (6, 10)).await.unwrap();
    // A range across two stored chunks is stored, too.
    for range in [(0, 10), (5, 7), (0, 8), (3, 10)] {
        again(range).await;
    }
    commit(&fixture, 1).await.unwrap();
    again((3, 7)).await;
    assert_eq!(fixture.read("a").await.unwrap(), BYTES);
}

#[tokio::test]
async fn large_pieces_are_compared_as_they_were_cut() {
    let fixture = Fixture::new().await;
    let mut bytes: Vec<u8> =
        (0_u32..).flat_map(u32::to_be_bytes).take(2 * PART_BYTES_MAX).collect();
    let middle = PART_BYTES_MAX + 100;
    send(&fixture, 1, "a", &bytes, (0, middle)).await.unwrap();
    send(&fixture, 1, "a", &bytes, (middle, bytes.len())).await.unwrap();
    let ranges = [
        (0, bytes.len()),
        (PART_BYTES_MAX - 1, PART_BYTES_MAX + 1),
        (7, bytes.len() - 7),
        (middle - 1, bytes.len()),
    ];
    for range in ranges {
        send(&fixture, 1, "a", &bytes, range).await.unwrap();
    }
    bytes[PART_BYTES_MAX] ^= 1;
    for range in ranges.into_iter().take(3) {
        assert_eq!(kind(send(&fixture, 1, "a", &bytes, range).await), Kind::SessionConflict);
    }
    send(&fixture, 1, "a", &bytes, (middle - 1, bytes.len())).await.unwrap();
    assert!(commit(&fixture, 1).await.unwrap());
    bytes[PART_BYTES_MAX] ^= 1;
    assert_eq!(fixture.read("a").await.unwrap(), bytes);
}

/// Begins a chunk and writes its bytes; the chunk is compared with what the session has now.
async fn begin(fixture: &Fixture, bytes: &[u8], range: (usize, usize)) -> Chunk {
    let (start, end) = range;
    let chunk = ChunkRange::new(start as u64, (end - start) as u64, bytes.len() as u64).unwrap();
    let mut chunk = fixture.store.chunk(id(1), path("a"), chunk, &Call::system()).await.unwrap();
    chunk.write(Bytes::copy_from_slice(&bytes[start..end])).await.unwrap();
    chunk
}

#[tokio::test]
async fn of_two_chunks_at_once_the_later_one_has_the_same_bytes_or_is_refused() {
    let fixture = Fixture::new().await;
    let large: Vec<u8> = vec![7; 3 * INLINE_BYTES_MAX];
    let mut other = large.clone();
    other[5] = 8;
    for (bytes, other) in [(BYTES, OTHER), (&large, &other)] {
        let range = (0, bytes.len());
        let chunks = [begin(&fixture, bytes, range).await, begin(&fixture, bytes, range).await];
        let late = begin(&fixture, other, range).await;
        for chunk in chunks {
            chunk.finish().await.unwrap();
        }
        assert_eq!(kind(late.finish().await), Kind::SessionConflict);
        commit(&fixture, 1).await.unwrap();
        assert_eq!(fixture.read("a").await.unwrap(), bytes);
        fixture.store.delete_session(id(1), &Call::system()).await.unwrap();
    }
    // Where the stored chunks have other bounds, the chunk is refused as busy, and its retry succeeds or
    // fails for good.
    let late = begin(&fixture, BYTES, (0, 10)).await;
    let different = begin(&fixture, OTHER, (0, 10)).await;
    for range in [(0, 6), (6, 10)] {
        send(&fixture, 1, "a", BYTES, range).await.unwrap();
    }
    for (chunk, bytes) in [(late, BYTES), (different, OTHER)] {
        assert_eq!(kind(chunk.finish().await), Kind::Busy);
        let again = send(&fixture, 1, "a", bytes, (0, 10)).await;
        assert_eq!(again.is_ok(), bytes == BYTES);
    }
    fixture.settle().await;
}

#[tokio::test]
async fn a_chunk_whose_session_began_anew_meanwhile_is_not_there() {
    let fixture = Fixture::new().await;
    let delete = async || fixture.store.delete_session(id(1), &Call::system()).await.unwrap();
    send(&fixture, 1, "a", BYTES, (0, 10)).await.unwrap();
    let chunks = [begin(&fixture, BYTES, (0, 10)).await, begin(&fixture, BYTES, (0, 10)).await];
    delete().await;
    let [first, second] = chunks;
    assert_eq!(kind(first.finish().await), Kind::Busy);
    send(&fixture, 1, "a", OTHER, (0, 10)).await.unwrap();
    assert_eq!(kind(second.finish().await), Kind::Busy);
    commit(&fixture, 1).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), OTHER);
}

#[tokio::test]
async fn after_the_commit_a_chunk_is_there_as_long_as_its_bytes_are() {
    let fixture = Fixture::new().await;
    send(&fixture, 1, "a", BYTES, (0, 10)).await.unwrap();
    // A repeated chunk that began before the commit succeeds after it.
    let chunk = begin(&fixture, BYTES, (2, 8)).await;
    commit(&fixture, 1).await.unwrap();
    chunk.finish().await.unwrap();
    assert_eq!(kind(send(&fixture, 1, "a", OTHER, (0, 10)).await), Kind::SessionConflict);
    for file in [Some(&b"another file"[..]), Some(OTHER), None] {
        match file {
            Some(bytes) => drop(fixture.upload("a", bytes).await.unwrap()),
            None => fixture.delete("a").await.map(drop).unwrap(),
        }
        let again = send(&fixture, 1, "a", BYTES, (0, 10)).await;
        assert_eq!(kind(again), Kind::SessionConflict, "{file:?}");
    }
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
    assert_eq!(kind(fixture.store.session(id(1), &Call::system()).await), Kind::SessionNotFound);
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
    let listed = fixture.store.session(id(1), &Call::system()).await.unwrap();
    assert!(listed.committed && listed.expected.is_empty());
    fixture.delete("a").await.unwrap();
    // The session was committed, and its file has been deleted since.
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
        async || fixture.store.stat(&path("a"), &Call::system()).await.unwrap().entry.kind;
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
    let call = Call::system();
    let sessions = fixture.store.sessions(Some(path("a")), 1, String::new(), &call);
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
    let delete = async || fixture.store.delete_session(id(1), &Call::system()).await;
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
    assert_eq!(kind(fixture.store.session(id(1), &Call::system()).await), Kind::SessionNotFound);
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
    let stat = async || fixture.store.stat(&path("a"), &Call::system()).await.unwrap().digest;
    until("the digest is known", async || stat().await.is_some()).await;
    assert_eq!(stat().await, Some(digest(&bytes)));
    assert_eq!(fixture.read("a").await.unwrap(), bytes);
}
