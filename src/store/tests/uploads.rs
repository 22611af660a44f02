//! Uploads that are dropped half-way leave nothing; uploads that share buffers and chunks that race.

use super::*;
use crate::{
    limits::{KIB, MIB, PART_BYTES_MAX, UPLOAD_PARTS_MAX},
    model::{ChunkRange, SessionId},
};

/// Uploads an object, and drops the upload when its first write job has run and its result is not returned yet.
async fn leave_during_the_first_job(fixture: &Fixture, at: &str) {
    let held = fixture.hold_writer().await;
    let incoming = UploadSpec::new(path(at));
    let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
    upload.write(object(1)).await.unwrap();
    let finish = tokio::spawn(upload.finish());
    fixture.waiting(1).await;
    // This job runs after the first one in the same batch, and delays its commit.
    let engine = fixture.store.0.engine.clone();
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel();
    let second = tokio::spawn(async move {
        engine
            .write(None, move |_| {
                begun.send(()).unwrap();
                wait.recv_timeout(SOON).ok();
                Ok(())
            })
            .await
    });
    fixture.waiting(2).await;
    drop(held);
    began.await.unwrap();
    finish.abort();
    assert!(finish.await.unwrap_err().is_cancelled());
    drop(go_on);
    second.await.unwrap().unwrap();
    fixture.idle().await;
}

#[tokio::test]
async fn an_upload_whose_caller_leaves_during_the_commit_keeps_its_object() {
    let fixture = Fixture::new().await;
    leave_during_the_first_job(&fixture, "a").await;
    fixture.store.reclaim().await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), object(1));
}

/// The part is stored already, so the first write job pins it.
#[tokio::test]
async fn an_upload_whose_caller_leaves_while_its_part_is_pinned_leaves_no_pin() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    leave_during_the_first_job(&fixture, "b").await;
    assert!(fixture.store.stat(&path("b"), &Call::system()).await.is_err());
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
}

#[tokio::test]
async fn an_upload_that_is_taken_back_in_the_queue_leaves_nothing() {
    let fixture = Fixture::new().await;
    let held = fixture.hold_writer().await;
    let incoming = UploadSpec::new(path("a"));
    let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
    upload.write(object(1)).await.unwrap();
    let finish = tokio::spawn(upload.finish());
    fixture.waiting(1).await;
    finish.abort();
    assert!(finish.await.unwrap_err().is_cancelled());
    drop(held);
    fixture.expect_nothing_left().await;
    let missing = fixture.store.stat(&path("a"), &Call::system()).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::PathNotFound);
}

#[tokio::test]
async fn an_upload_dropped_half_way_leaves_nothing() {
    let fixture = Fixture::new().await;
    let incoming = UploadSpec::new(path("a"));
    let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
    upload.write(vec![1; PART_BYTES_MAX + MIB].into()).await.unwrap();
    until("a part is stored", async || fixture.number("SELECT COUNT(*) FROM pin").await > 0).await;
    drop(upload);
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn an_upload_whose_part_cannot_be_stored_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.gate.fail_after(1);
    let mut bytes = vec![1; PART_BYTES_MAX];
    bytes.resize(PART_BYTES_MAX + MIB, 2);
    let error = fixture.upload("a", bytes).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    fixture.expect_nothing_left().await;
}

/// All chunks begin before the first of them is added to the session.
#[tokio::test]
async fn of_some_chunks_at_once_one_is_stored_and_nothing_else() {
    let fixture = Fixture::new().await;
    let id = SessionId::parse("00000000-0000-4000-8000-000000000001").unwrap();
    let bytes = object(1);
    let range = ChunkRange::new(0, bytes.len() as u64, bytes.len() as u64).unwrap();
    let store = &fixture.store;
    let mut chunks = Vec::new();
    for bytes in [object(1), object(1), object(2)] {
        let mut chunk = store.chunk(id, path("a"), range, &Call::system()).await.unwrap();
        chunk.write(bytes).await.unwrap();
        chunks.push(chunk);
    }
    let mut told = Vec::new();
    for chunk in chunks {
        told.push(chunk.finish().await.map_err(|error| error.kind()));
    }
    assert_eq!(told, [Ok(()), Ok(()), Err(Kind::SessionConflict)]);
    until("the objects of the others are deleted", async || {
        store.reclaim().await.unwrap();
        fixture.gate.keys().await.len() == 1
    })
    .await;
    store.commit_session(id, &Call::system()).await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), bytes);
    store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.expect_nothing_left().await;
}

/// Other uploads have the whole pool of buffers; a buffer is released while the upload waits for it.
#[tokio::test]
async fn an_upload_waits_for_the_room_of_a_whole_part() {
    let fixture = Fixture::new().await;
    let others = fixture
        .store
        .0
        .budgets
        .upload_pool
        .try_acquire(Peer::default(), UPLOAD_BUFFER_POOL_BYTES)
        .unwrap();
    let bytes = vec![7; PART_BYTES_MAX + MIB];
    let upload = fixture.upload("a", bytes.clone());
    let wait = async {
        tokio::task::yield_now().await;
        drop(others);
    };
    let (stat, ()) = futures::future::join(upload, wait).await;
    assert_eq!(stat.unwrap().entry.totals.bytes, bytes.len() as i64);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content_part").await, 2);
}

/// After a wait in vain an upload cuts small parts up to the offset of the next whole part.
#[tokio::test(start_paused = true)]
async fn an_upload_that_waits_in_vain_goes_on_with_smaller_parts() {
    let fixture = Fixture::new().await;
    let others = fixture
        .store
        .0
        .budgets
        .upload_pool
        .try_acquire(Peer::default(), UPLOAD_BUFFER_POOL_BYTES)
        .unwrap();
    let incoming = UploadSpec::new(path("a"));
    let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
    let bytes: Vec<u8> = (0..=250).cycle().take(PART_BYTES_MAX + MIB).collect();
    upload.write(Bytes::copy_from_slice(&bytes[..MIB])).await.unwrap();
    drop(others);
    upload.write(Bytes::copy_from_slice(&bytes[MIB..])).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), bytes);
    let starts = "SELECT start FROM content_part WHERE start % 8388608 = 0 ORDER BY start";
    assert_eq!(fixture.rows(starts).await.len(), 2, "the second whole part is where it always is");
    assert!(fixture.number("SELECT COUNT(*) FROM content_part").await > 2);
}

#[tokio::test]
async fn what_a_file_may_replace_is_judged_when_it_becomes_visible() {
    let fixture = Fixture::new().await;
    for (replaces, expected) in
        [(Replaces::File, Err(Kind::AlreadyExists)), (Replaces::Anything, Ok(2))]
    {
        let incoming = UploadSpec { replaces, ..UploadSpec::new(path("d")) };
        let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
        upload.write(object(1)).await.unwrap();
        fixture.upload("d/f", object(2)).await.unwrap();
        fixture.upload("d/s/g", object(3)).await.unwrap();
        let stored = upload.store().await.map(|stored| stored.files_replaced);
        assert_eq!(stored.map_err(|error| error.kind()), expected);
    }
    fixture.upload("d", object(4)).await.expect("it is a file now");
}

/// Stalled senders have nearly all of the pool of buffers.
#[tokio::test]
async fn who_sends_slowly_gives_back_the_room_that_others_need() {
    let fixture = Fixture::new().await;
    let pool = fixture.store.0.budgets.upload_pool.clone();
    let mut slow = Vec::new();
    while !pool.is_scarce(PART_BYTES_MAX) {
        let incoming = UploadSpec::new(path("slow"));
        let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
        upload.write(vec![7; 300 * KIB].into()).await.unwrap();
        slow.push(tokio::spawn(async move { upload.wait_for(std::future::pending::<()>()).await }));
    }
    until("there is room", async || !pool.is_scarce(PART_BYTES_MAX)).await;
    for upload in slow {
        upload.abort();
        upload.await.unwrap_err();
    }
    fixture.expect_nothing_left().await;
}

/// While the pool has room, a slow sender keeps its buffer until the part is whole.
#[tokio::test(start_paused = true)]
async fn who_sends_slowly_keeps_what_nobody_needs() {
    let fixture = Fixture::new().await;
    let mut upload =
        fixture.store.upload(UploadSpec::new(path("a")), &Call::system()).await.unwrap();
    for _ in 0..16 {
        upload.write(vec![7; MIB].into()).await.unwrap();
        upload.wait_for(tokio::time::sleep(Duration::from_secs(10))).await.unwrap();
    }
    upload.finish().await.unwrap();
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content_part").await, 2);
}

#[tokio::test]
async fn what_would_have_too_many_parts_is_refused() {
    let fixture = Fixture::new().await;
    let size = UPLOAD_PARTS_MAX as u64 * PART_BYTES_MAX as u64;
    let incoming = |size| UploadSpec { size: Some(size), ..UploadSpec::new(path("a")) };
    let call = Call::system();
    let begin = |size| fixture.store.upload(incoming(size), &call);
    let error = begin(size + 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    assert!(error.message().contains("262144 parts"), "{error:?}");
    assert_ne!(begin(size).await.map(drop).map_err(|error| error.kind()), Err(Kind::TooLarge));
}
