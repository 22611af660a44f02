//! What waits to be freed, as the store tells it.

use super::*;
use crate::{
    limits::{RECLAIM_CHUNK_ROWS, RECLAIM_OWED_MAX, UNPIN_ROWS},
    namespace::{
        garbage::Ref,
        pin::{self, Owner},
    },
};

/// The rows and bytes that wait.
async fn waiting(fixture: &Fixture) -> (i64, i64) {
    let garbage = fixture.store.info(Call::default()).await.unwrap().garbage;
    (garbage.count, garbage.bytes)
}

#[tokio::test]
async fn what_waits_is_what_nothing_refers_to() {
    let grace = Duration::from_hours(1);
    let fixture = Fixture::with_grace(grace).await;
    let size = object(1).len() as i64;
    fixture.upload("a/b/f", object(1)).await.unwrap();
    fixture.upload("a/g", "1234").await.unwrap();
    let copying = fixture.store.copy(request("a", "c"), false, Call::default()).await.unwrap();
    finish(copying).await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    // The copy still refers to all of it.
    fixture.store.delete(&path("c"), Call::default()).await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    fixture.store.delete(&path("a"), Call::default()).await.unwrap();
    assert_eq!(waiting(&fixture).await, (1, size + 4));
    // A file that is replaced leaves its content.
    fixture.upload("d", "old").await.unwrap();
    fixture.upload("d", "new").await.unwrap();
    assert_eq!(waiting(&fixture).await, (2, size + 4 + 3));
    fixture.age(grace).await;
    fixture.store.reclaim().await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM folder").await, 1);
}

/// Each step takes its bytes out of the folder or content that it works on, so that none count twice.
#[tokio::test]
async fn what_waits_falls_step_by_step() {
    let grace = Duration::from_hours(1);
    let fixture = Fixture::with_grace(grace).await;
    let files = 2 * RECLAIM_CHUNK_ROWS as i64 + 1;
    for number in 0..files {
        fixture.upload(&format!("a/{number}"), format!("{number:010}")).await.unwrap();
    }
    fixture.store.delete(&path("a"), Call::default()).await.unwrap();
    fixture.age(grace).await;
    let mut before = files * 10;
    assert_eq!(waiting(&fixture).await, (1, before));
    let step = move |tx: &mut Tx<'_>| namespace::garbage::reclaim(tx, micros(grace), 0, &|| true);
    while fixture.store.0.engine.write(None, step).await.unwrap() {
        let (_, bytes) = waiting(&fixture).await;
        assert!(bytes <= before, "{bytes} wait after {before}");
        before = bytes;
    }
    assert_eq!(waiting(&fixture).await, (0, 0));
}

#[tokio::test]
async fn a_step_takes_apart_what_it_owes_although_callers_wait() {
    // So that the background does nothing.
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    for number in 0..8 {
        fixture.upload(&number.to_string(), format!("{number:010}")).await.unwrap();
        fixture.store.delete(&path(&number.to_string()), Call::default()).await.unwrap();
    }
    let contents = async || fixture.number("SELECT COUNT(*) FROM content").await;
    let mut before = contents().await;
    // Of each file the content, and the part after it.
    for (owed, done) in [(0, 1), (2, 1), (6, 3), (RECLAIM_OWED_MAX, before - 5)] {
        let step = move |tx: &mut Tx<'_>| namespace::garbage::reclaim(tx, 0, owed, &|| true);
        fixture.store.0.engine.write(None, step).await.unwrap();
        let left = contents().await;
        assert_eq!(before - left, done, "{owed} owed");
        before = left;
    }
}

#[tokio::test]
async fn pins_of_an_earlier_run_are_dropped_in_steps() {
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    fixture.upload("f", "f").await.unwrap();
    let own = fixture.store.0.server.clone();
    let steps = move |tx: &mut Tx<'_>| {
        let pins = "SELECT COUNT(*) FROM pin";
        pin::pin(tx, &Owner::new(&own), Ref::content(1))?;
        for server in ["-", "~"] {
            let other = Owner::new(server);
            for _ in 0..UNPIN_ROWS {
                pin::pin(tx, &other, Ref::content(1))?;
            }
        }
        assert_eq!(pin::of_others(tx, &own)?, 2 * UNPIN_ROWS as u64);
        let mut left = tx.one(pins, &[])?.int(0)?;
        while pin::unpin_others(tx, &own)? {
            left -= UNPIN_ROWS as i64;
            assert_eq!(tx.one(pins, &[])?.int(0)?, left);
        }
        assert_eq!(left, 1, "its own stays");
        Ok(())
    };
    fixture.store.0.engine.write(None, steps).await.unwrap();
}
