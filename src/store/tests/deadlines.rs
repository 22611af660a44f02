//! Calls whose deadline passes while they wait. The tests hold what the calls wait for until after the deadline,
//! so that only the deadline can end a call.

use super::*;
use crate::{
    limits::{MIB, PART_BYTES_MAX, UPLOAD_PARTS_IN_FLIGHT},
    model::{ChunkRange, SessionId},
};

/// A call with a short deadline.
fn short() -> Call {
    Call::system().within(Some(Duration::from_millis(50)))
}

fn incoming(at: &str) -> UploadSpec {
    UploadSpec::new(path(at))
}

fn session() -> SessionId {
    SessionId::parse("00000000-0000-4000-8000-000000000001").unwrap()
}

async fn begin(fixture: &Fixture, bytes: &Bytes, call: &Call) -> Result<Chunk> {
    let length = bytes.len() as u64;
    let range = ChunkRange::new(0, length, length).unwrap();
    fixture.store.chunk(session(), path("c"), range, call).await
}

fn assert_late<T>(result: Result<T>) {
    assert_eq!(result.map(drop).map_err(|error| error.kind()), Err(Kind::Timeout));
}

#[tokio::test]
async fn nobody_waits_for_a_turn_beyond_his_deadline() {
    let fixture = Fixture::new().await;
    let (store, bytes) = (&fixture.store, object(1));
    let mut chunk = begin(&fixture, &bytes, &Call::system()).await.unwrap();
    chunk.write(bytes.clone()).await.unwrap();
    chunk.finish().await.unwrap();
    let _uploads = all(&store.0.budgets.uploads, Peer::default());
    let _downloads = all(&store.0.budgets.downloads, Peer::default());
    assert_late(store.upload(incoming("a"), &short()).await);
    assert_late(begin(&fixture, &bytes, &short()).await);
    store.delete_session(session(), &Call::system()).await.unwrap();
    assert_late(begin(&fixture, &bytes, &short()).await);
    assert_late(store.download(&path("a"), (0, None), None, &short()).await);
}

/// The parts are put, and the jobs for their rows are queued for the writer.
#[tokio::test]
async fn an_upload_does_not_wait_for_its_parts_beyond_its_deadline() {
    let fixture = Fixture::new().await;
    let bytes: Bytes = vec![1; PART_BYTES_MAX + MIB].into();
    let mut upload = fixture.store.upload(incoming("a"), &Call::system()).await.unwrap();
    let mut chunk = begin(&fixture, &bytes, &Call::system()).await.unwrap();
    let held = fixture.hold_writer().await;
    upload.write(bytes.clone()).await.unwrap();
    upload.limit(short());
    assert_late(upload.finish().await);
    chunk.write(bytes).await.unwrap();
    chunk.limit(short());
    assert_late(chunk.finish().await);
    drop(held);
    fixture.idle().await;
    fixture.expect_nothing_left().await;
}

/// As many parts as allowed are being stored, so the next bytes wait.
#[tokio::test]
async fn bytes_do_not_wait_for_room_beyond_the_deadline() {
    let fixture = Fixture::new().await;
    let mut upload = fixture.store.upload(incoming("a"), &Call::system()).await.unwrap();
    let held = fixture.hold_writer().await;
    let part: Bytes = vec![1; PART_BYTES_MAX].into();
    for _ in 0..UPLOAD_PARTS_IN_FLIGHT {
        upload.write(part.clone()).await.unwrap();
    }
    upload.limit(short());
    assert_late(upload.write(vec![1; 2 * PART_BYTES_MAX].into()).await);
    // Bytes that need not wait are refused after the deadline, too.
    let bytes: Bytes = "1".into();
    assert_late(upload.write(bytes.clone()).await);
    drop((upload, held));
    let mut chunk = begin(&fixture, &bytes, &Call::system()).await.unwrap();
    chunk.limit(Call::system().within(Some(Duration::ZERO)));
    assert_late(chunk.write(bytes).await);
    drop(chunk);
    fixture.idle().await;
    fixture.expect_nothing_left().await;
}

/// A commit that was reported as failed is not made later.
#[tokio::test]
async fn a_commit_that_waits_for_the_writer_is_taken_back() {
    let fixture = Fixture::new().await;
    let bytes: Bytes = "12".into();
    fixture.upload("b", "1").await.unwrap();
    let mut upload = fixture.store.upload(incoming("a"), &Call::system()).await.unwrap();
    upload.write(bytes.clone()).await.unwrap();
    let mut chunk = begin(&fixture, &bytes, &Call::system()).await.unwrap();
    chunk.write(bytes).await.unwrap();
    let held = fixture.hold_writer().await;
    upload.limit(short());
    assert_late(upload.finish().await);
    chunk.limit(short());
    assert_late(chunk.finish().await);
    assert_late(fixture.store.delete(&path("b"), &short()).await);
    drop(held);
    assert_eq!(fixture.read("b").await.unwrap(), b"1");
    assert!(fixture.store.stat(&path("a"), &Call::system()).await.is_err());
    assert!(fixture.store.session(session(), &Call::system()).await.is_err());
}

/// All readers are blocked.
#[tokio::test]
async fn no_first_answer_waits_for_a_reader_beyond_its_deadline() {
    let fixture = Fixture::new().await;
    let held = fixture.hold_readers().await;
    let store = &fixture.store;
    assert_late(store.upload(incoming("a"), &short()).await);
    assert_late(begin(&fixture, &"1".into(), &short()).await);
    assert_late(store.download(&path("a"), (0, None), None, &short()).await);
    assert_late(store.list(&path("a"), 0, String::new(), &short()).await);
    assert_late(store.stat(&path("a"), &short()).await);
    assert_late(store.sessions(None, 0, String::new(), &short()).await);
    assert_late(store.operations(None, 0, String::new(), &short()).await);
    assert_late(store.operation(OperationId::new(), &short()).await);
    assert_late(store.info(&short()).await);
    assert_late(store.backup(true, &short()).await);
    assert_late(store.restore(&short()).await);
    drop(held);
}
