//! Sweeps beside running uploads: no object that a row will name is deleted, and no other object stays.

use super::*;
use crate::{
    limits::{PART_BYTES_MAX, SWEEP_STEP},
    namespace::{
        content::{self, Part, Place},
        garbage,
        pin::Owner,
        sql::Value,
    },
};

/// Begins an upload, and returns when its object exists and the gate delays the result of the put.
async fn put_without_an_answer(
    fixture: &Fixture,
    bytes: Bytes,
) -> tokio::task::JoinHandle<Result<Stat>> {
    fixture.gate.hold_answers();
    let puts = fixture.gate.puts();
    let store = fixture.store.clone();
    let upload = tokio::spawn(async move {
        let mut upload = store.upload(UploadSpec::new(path("a")), &Call::system()).await?;
        upload.write(bytes).await?;
        upload.finish().await
    });
    until("an object is put", async || fixture.gate.puts() > puts).await;
    upload
}

async fn sweep(fixture: &Fixture) {
    fixture.gate.age();
    fixture.store.sweep().await.unwrap();
    fixture.store.reclaim().await.unwrap();
}

#[tokio::test]
async fn a_sweep_between_the_put_of_an_object_and_its_row_takes_nothing() {
    // The object of a file of one part, and that of the first part of a longer file.
    for bytes in [object(1), vec![1; PART_BYTES_MAX + 1].into()] {
        let fixture = Fixture::new().await;
        let upload = put_without_an_answer(&fixture, bytes.clone()).await;
        sweep(&fixture).await;
        assert_eq!(fixture.gate.keys().await.len(), 1, "it is no leftover");
        fixture.gate.open();
        upload.await.unwrap().unwrap();
        assert_eq!(fixture.read("a").await.unwrap(), bytes);
        sweep(&fixture).await;
        assert_eq!(fixture.read("a").await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_sweep_while_the_row_waits_for_the_writer_takes_nothing() {
    let fixture = Fixture::new().await;
    let upload = put_without_an_answer(&fixture, object(1)).await;
    let held = fixture.hold_writer().await;
    fixture.gate.open();
    fixture.waiting(1).await;
    fixture.gate.age();
    // The sweep has nothing to write; otherwise it would wait for the writer, too.
    fixture.store.sweep().await.unwrap();
    assert_eq!(fixture.store.0.undecided.len(), 1, "the verdict is not known");
    drop(held);
    upload.await.unwrap().unwrap();
    assert_eq!(fixture.store.0.undecided.len(), 0, "the row is there");
    sweep(&fixture).await;
    assert_eq!(fixture.read("a").await.unwrap(), object(1));
}

#[tokio::test]
async fn an_upload_that_is_given_up_during_the_put_leaves_nothing() {
    let fixture = Fixture::new().await;
    let upload = put_without_an_answer(&fixture, object(1)).await;
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled());
    sweep(&fixture).await;
    assert_eq!(fixture.gate.keys().await.len(), 1, "it is still being put");
    fixture.gate.open();
    fixture.idle().await;
    assert_eq!(fixture.store.0.undecided.len(), 0);
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_put_that_fails_is_decided_and_left_to_the_sweep() {
    let fixture = Fixture::new().await;
    fixture.gate.fail_after(0);
    fixture.upload("a", object(1)).await.unwrap_err();
    assert_eq!(fixture.store.0.undecided.len(), 0);
}

/// The key of an object that was not put, and a part that names it.
fn part(byte: u8) -> (String, Part) {
    let (digest, size) = (Digest::of(&object(byte)), object(byte).len() as i64);
    let key = blob::new_key(&digest.0, Uuid::from_u128(1));
    (key.clone(), Part { digest, size, place: Place::Object(key) })
}

#[tokio::test]
async fn a_row_takes_back_the_mark_of_the_object_that_it_names() {
    let fixture = Fixture::new().await;
    let owner = Owner::new(&fixture.store.0.server);
    let job = move |tx: &mut Tx<'_>| {
        let ((first, new), (second, healed)) = (part(1), part(2));
        garbage::tombstone_object(tx, &first, new.size)?;
        garbage::tombstone_object(tx, &second, healed.size)?;
        let id = content::add_part(tx, &owner, &new)?;
        let first_is_dead =
            tx.exists("SELECT 1 FROM dead_object WHERE object = $1", params![&first])?;
        assert!(content::replace_part(tx, id, Some(&first), &healed.place)?);
        let dead = tx.all("SELECT object FROM dead_object", &[])?;
        Ok((first_is_dead, dead, first))
    };
    let (first_is_dead, dead, first) = fixture.store.0.engine.write(None, job).await.unwrap();
    assert!(!first_is_dead, "a new part has its object");
    assert_eq!(dead, [Row(vec![Value::Text(first)])], "a part that is put anew has its object");
}

#[tokio::test]
async fn an_object_that_is_being_deleted_gets_no_row() {
    let fixture = Fixture::new().await;
    let owner = Owner::new(&fixture.store.0.server);
    let job = move |tx: &mut Tx<'_>| {
        let (key, part) = part(1);
        garbage::tombstone_object(tx, &key, part.size)?;
        assert_eq!(garbage::claim_objects(tx, vec![key.clone()])?, [key]);
        content::add_part(tx, &owner, &part)
    };
    let error = fixture.store.0.engine.write(None, job).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error}");
}

#[tokio::test]
async fn an_object_that_a_row_names_is_never_claimed() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    let job = |tx: &mut Tx<'_>| {
        tx.execute("INSERT INTO dead_object (object, size) SELECT object, size FROM part", &[])?;
        let objects = garbage::dead_objects(tx, &garbage::DeadObject::default(), 0, 2)?;
        let objects: Vec<_> = objects.into_iter().map(|object| object.key).collect();
        Ok((objects.len(), garbage::claim_objects(tx, objects)?))
    };
    let claimed = fixture.store.0.engine.write(None, job).await.unwrap();
    assert_eq!(claimed, (1, Vec::new()));
    fixture.store.reclaim().await.unwrap();
    assert_eq!(fixture.read("a").await.unwrap(), object(1));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM dead_object").await, 0);
}

#[tokio::test]
async fn a_sweep_takes_all_leftovers_and_nothing_else() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    // More than are looked up at once, of a server that is dead.
    for number in 0..SWEEP_STEP as u64 + 5 {
        let digest = Digest::of(&number.to_le_bytes());
        let key = blob::new_key(&digest.0, Uuid::from_u128(1));
        fixture.store.0.blobs.put(&key, Bytes::new()).await.unwrap();
    }
    sweep(&fixture).await;
    assert_eq!(fixture.gate.keys().await.len(), 1);
    assert_eq!(fixture.read("a").await.unwrap(), object(1));
}
