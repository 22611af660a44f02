//! Downloads of files that are deleted meanwhile or damaged, and of slow clients.

use futures::FutureExt;

use super::*;
use crate::{
    limits::{DOWNLOAD_MESSAGE_BYTES, DOWNLOAD_PARTS_PAGE, INLINE_BYTES_MAX, PART_BYTES_MAX},
    model::{ChunkRange, SessionId},
    namespace::{
        content::{Part, Place},
        garbage,
        session::{self, Sent},
    },
};

/// The bytes of one piece of a file in many pieces.
const PIECE: usize = 8;

/// Makes a file of many small parts, and returns its bytes.
async fn many_parts(fixture: &Fixture, at: &str, parts: usize) -> Vec<u8> {
    let id = SessionId::parse("00000000-0000-4000-8000-000000000002").unwrap();
    let (at, total) = (path(at), (parts * PIECE) as u64);
    let bytes: Vec<u8> = (0..parts).flat_map(usize::to_be_bytes).collect();
    let sent = bytes.clone();
    let add = move |tx: &mut Tx<'_>| {
        for (number, piece) in sent.chunks(PIECE).enumerate() {
            let range = ChunkRange::new((number * PIECE) as u64, PIECE as u64, total)?;
            let place = Place::Inline(Bytes::copy_from_slice(piece));
            let part = Part { digest: Digest::of(piece), size: PIECE as i64, place };
            session::add_chunk(
                tx,
                id,
                (&at, Replaces::default()),
                range,
                &Sent::Parts(vec![part]),
            )?;
        }
        session::commit(tx, id, (Replaces::default(), &Conditions::default()), None)
    };
    fixture.store.0.engine.write(None, add).await.unwrap();
    bytes
}

/// Reclaims garbage without its grace, in the smallest steps, until at most `left` rows of lists of parts are left.
async fn reclaim_early(fixture: &Fixture, left: usize) {
    while fixture.number("SELECT COUNT(*) FROM content_part").await > left as i64 {
        let step = |tx: &mut Tx<'_>| garbage::reclaim(tx, 0, &|_| true);
        fixture.store.0.engine.write(None, step).await.unwrap();
    }
}

#[tokio::test]
async fn a_download_that_loses_its_content_fails_and_never_skips() {
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    let bytes = many_parts(&fixture, "a", 3 * DOWNLOAD_PARTS_PAGE).await;
    let mut download = fixture.download("a").await;
    let mut found = download.next().await.unwrap().unwrap().to_vec();
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    // The first page of rows of the list is gone, and some rows of the second page.
    reclaim_early(&fixture, 2 * DOWNLOAD_PARTS_PAGE - 1).await;
    let error = loop {
        match download.next().await.unwrap() {
            Ok(piece) => found.extend_from_slice(&piece),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Changed);
    assert!(bytes.starts_with(&found), "other bytes than the file's");
}

#[tokio::test]
async fn a_download_within_the_grace_of_a_delete_is_whole() {
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    let bytes = many_parts(&fixture, "a", 2 * DOWNLOAD_PARTS_PAGE).await;
    let mut download = fixture.download("a").await;
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.store.reclaim().await.unwrap();
    let mut found = Vec::new();
    while let Some(piece) = download.next().await {
        found.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(found, bytes);
}

/// With a grace of zero a download pins its content at once.
#[tokio::test]
async fn a_download_that_lasts_pins_its_content() {
    let fixture = Fixture::new().await;
    let bytes = many_parts(&fixture, "a", 3 * DOWNLOAD_PARTS_PAGE).await;
    let mut download = fixture.download("a").await;
    let mut found = download.next().await.unwrap().unwrap().to_vec();
    let pins = "SELECT COUNT(*) FROM pin WHERE kind = 2";
    until("it is pinned", async || fixture.number(pins).await == 1).await;
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.store.reclaim().await.unwrap();
    while let Some(piece) = download.next().await {
        found.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(found, bytes);
    until("the pin is dropped", async || fixture.number(pins).await == 0).await;
    let forget = |tx: &mut Tx<'_>| tx.execute("DELETE FROM upload_session", &[]);
    fixture.store.0.engine.write(None, forget).await.unwrap();
    fixture.expect_nothing_left().await;
}

/// The same for a file of one message whose object is read slowly: the read holds a permit and a pin.
#[tokio::test]
async fn a_late_object_of_a_small_file_has_a_pin_and_a_turn() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    let free = fixture.store.0.budgets.downloads.free();
    fixture.gate.close();
    let mut download = fixture.download("a").await;
    assert_eq!(fixture.store.0.budgets.downloads.free(), free, "nothing is read yet");
    let read = tokio::spawn(async move { download.next().await.unwrap().unwrap() });
    let pins = "SELECT COUNT(*) FROM pin WHERE kind = 2";
    until("it is pinned", async || fixture.number(pins).await == 1).await;
    assert_eq!(fixture.store.0.budgets.downloads.free(), free - 1);
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.store.reclaim().await.unwrap();
    fixture.gate.open();
    assert_eq!(read.await.unwrap(), object(1));
    until("the pin is dropped", async || fixture.number(pins).await == 0).await;
    assert_eq!(fixture.store.0.budgets.downloads.free(), free);
    fixture.expect_nothing_left().await;
}

/// A content below a folder that has been garbage for longer than the grace, whose last path was deleted just now.
#[tokio::test]
async fn the_grace_counts_from_the_last_path_that_led_to_a_content() {
    let grace = Duration::from_hours(1);
    let fixture = Fixture::with_grace(grace).await;
    fixture.upload("a/f", "old").await.unwrap();
    finish(fixture.store.copy(request("a", "b"), false, &Call::system()).await.unwrap())
        .await
        .unwrap();
    // This write clones the shared folder.
    fixture.upload("a/g", "new").await.unwrap();
    fixture.store.delete(&path("b"), &Call::system()).await.unwrap();
    fixture.age(grace).await;
    let download = fixture.download("a/f").await;
    fixture.store.delete(&path("a/f"), &Call::system()).await.unwrap();
    fixture.store.reclaim().await.unwrap();
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content").await, 2);
    drop(download);
}

#[tokio::test]
async fn a_corrupt_object_is_named_by_its_path_to_readers_and_to_verify() {
    let fixture = Fixture::new().await;
    fixture.log.expect("is corrupt");
    fixture.upload("a/b/f", object(1)).await.unwrap();
    fixture.gate.spoil(&object(2)).await;
    let read = fixture.read("a/b/f").await.unwrap_err();
    let verify = CopyRequest { verify: true, ..request("a", "c") };
    let copying = fixture.store.copy(verify.clone(), false, &Call::system()).await.unwrap();
    let copied = finish(copying).await.unwrap_err();
    for error in [read, copied] {
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains("\"a/b/f\""), "{error}");
        let key = &fixture.gate.keys().await[0];
        assert!(!error.message().contains(key), "{error}");
    }
    let row = fixture.store.operation(verify.id, &Call::system()).await.unwrap();
    assert_eq!(row.state, OperationState::Failed);
    assert!(fixture.store.stat(&path("c"), &Call::system()).await.is_err());
    // Without `verify` nothing is read.
    let plain = fixture.store.copy(request("a", "c"), false, &Call::system()).await.unwrap();
    assert_eq!(finish(plain).await.unwrap().state, OperationState::Succeeded);
}

#[tokio::test]
async fn one_corrupt_file_does_not_keep_others_from_their_digests() {
    let fixture = Fixture::new().await;
    let upload = async |at: &str, byte: u8| {
        let id = SessionId::parse(&format!("00000000-0000-4000-8000-0000000000{byte:02}")).unwrap();
        let pieces = [object(byte), object(byte + 10)];
        let total = 2 * pieces[0].len() as u64;
        for (number, piece) in (0..).zip(&pieces) {
            let start = number * piece.len() as u64;
            let range = ChunkRange::new(start, piece.len() as u64, total).unwrap();
            let call = Call::system();
            let begin = fixture.store.chunk(id, path(at), range, &call);
            let mut chunk = begin.await.unwrap();
            chunk.write(piece.clone()).await.unwrap();
            chunk.finish().await.unwrap();
        }
        if byte == 1 {
            fixture.gate.spoil(&object(9)).await;
        }
        fixture.store.commit_session(id, &Call::system()).await.unwrap();
        Digest::of(&pieces.concat())
    };
    fixture.gate.close();
    upload("bad", 1).await;
    let expected = upload("good", 2).await;
    fixture.gate.open();
    let digest =
        async |at: &str| fixture.store.stat(&path(at), &Call::system()).await.unwrap().digest;
    until("the good file has its digest", async || digest("good").await.is_some()).await;
    assert_eq!(digest("good").await, Some(expected));
    assert_eq!(digest("bad").await, None);
}

#[tokio::test]
async fn a_file_of_one_message_takes_one_look_at_the_database_and_no_task() {
    let fixture = Fixture::new().await;
    for (name, size) in
        [("empty", 0), ("inline", INLINE_BYTES_MAX), ("object", DOWNLOAD_MESSAGE_BYTES)]
    {
        let bytes = vec![7; size];
        fixture.upload(name, bytes.clone()).await.unwrap();
        fixture.idle().await;
        let mut download = fixture.download(name).await;
        assert_eq!(fixture.store.0.tasks.len(), fixture.background, "{name}");
        if size > INLINE_BYTES_MAX {
            assert_eq!(download.next().await.unwrap().unwrap(), bytes);
        } else if size > 0 {
            // The piece is ready at once: nothing waits for the database.
            let piece = download.next().now_or_never().expect("it is there");
            assert_eq!(piece.unwrap().unwrap(), bytes);
        }
        assert!(download.next().await.is_none());
        // The same for a range.
        if size > 0 {
            let range = (3, Some(5));
            let mut download =
                fixture.store.download(&path(name), range, None, &Call::system()).await.unwrap();
            assert_eq!(download.next().await.unwrap().unwrap(), bytes[3..8]);
            assert!(download.next().await.is_none());
        }
    }
}

/// More downloads than the pool has parts: the last ones begin only because the first ones drop their parts.
#[tokio::test]
async fn downloads_that_stand_still_hold_up_nobody() {
    let fixture = Fixture::new().await;
    let bytes: Vec<u8> = (0..=PART_BYTES_MAX as u64 / 8).flat_map(u64::to_be_bytes).collect();
    fixture.upload("a", bytes.clone()).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..=DOWNLOAD_POOL_BYTES / PART_BYTES_MAX {
        let mut download = fixture.download("a").await;
        let piece = tokio::time::timeout(SOON, download.next()).await.expect("a turn soon");
        slow.push((download, piece.unwrap().unwrap().to_vec()));
    }
    // Each download continues at its offset.
    let (mut first, mut found) = slow.swap_remove(0);
    while let Some(piece) = first.next().await {
        found.extend_from_slice(&piece.unwrap());
    }
    assert!(found == bytes, "other bytes than the file's");
    drop((first, slow));
    fixture.idle().await;
    let pool = &fixture.store.0.budgets.download_pool;
    until("nothing is held", async || pool.free() == DOWNLOAD_POOL_BYTES).await;
}

#[tokio::test]
async fn a_download_that_cannot_go_on_says_so() {
    let fixture = Fixture::new().await;
    let bytes = vec![7; 2 * PART_BYTES_MAX];
    fixture.upload("a", bytes).await.unwrap();
    let mut download = fixture.download("a").await;
    download.next().await.unwrap().unwrap();
    // Ends the task of the download, as a stop or a revoked permit does.
    fixture.store.close().await;
    let error = loop {
        match download.next().await.expect("no end that looks like a whole file") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Busy);
    assert!(download.next().await.is_none());
}
