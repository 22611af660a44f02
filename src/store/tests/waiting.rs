//! The size of the garbage queue, as the store reports it.

use super::*;
use crate::{
    limits::{RECLAIM_CHUNK_ROWS, RECLAIM_STEP, STEP, UNPIN_ROWS},
    namespace::{
        garbage::Ref,
        lost_server,
        pin::{self, Owner},
        server,
    },
    store::background::is_enough,
};

/// The rows and bytes in the garbage queue.
async fn waiting(fixture: &Fixture) -> (i64, i64) {
    let garbage = fixture.store.info(&Call::system()).await.unwrap().garbage;
    (garbage.count, garbage.bytes)
}

#[tokio::test]
async fn what_waits_is_what_nothing_refers_to() {
    let grace = Duration::from_hours(1);
    let fixture = Fixture::with_grace(grace).await;
    let size = object(1).len() as i64;
    fixture.upload("a/b/f", object(1)).await.unwrap();
    fixture.upload("a/g", "1234").await.unwrap();
    let copying = fixture.store.copy(request("a", "c"), false, &Call::system()).await.unwrap();
    finish(copying).await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    // "a" still refers to the same content, so nothing is garbage.
    fixture.store.delete(&path("c"), &Call::system()).await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    assert_eq!(waiting(&fixture).await, (1, size + 4));
    // The content of a replaced file becomes garbage.
    fixture.upload("d", "old").await.unwrap();
    fixture.upload("d", "new").await.unwrap();
    assert_eq!(waiting(&fixture).await, (2, size + 4 + 3));
    fixture.age(grace).await;
    fixture.store.reclaim().await.unwrap();
    assert_eq!(waiting(&fixture).await, (0, 0));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM folder").await, 1);
}

/// Each step subtracts its bytes from the folder or content that it takes apart, so that no bytes count twice.
#[tokio::test]
async fn what_waits_falls_step_by_step() {
    let grace = Duration::from_hours(1);
    let fixture = Fixture::with_grace(grace).await;
    let files = 2 * RECLAIM_CHUNK_ROWS as i64 + 1;
    for number in 0..files {
        fixture.upload(&format!("a/{number}"), format!("{number:010}")).await.unwrap();
    }
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.age(grace).await;
    let mut before = files * 10;
    assert_eq!(waiting(&fixture).await, (1, before));
    let step = move |tx: &mut Tx<'_>| namespace::garbage::reclaim(tx, micros(grace), &|_| true);
    while fixture.store.0.engine.write(None, step).await.unwrap().is_more {
        let (_, bytes) = waiting(&fixture).await;
        assert!(bytes <= before, "{bytes} wait after {before}");
        before = bytes;
    }
    assert_eq!(waiting(&fixture).await, (0, 0));
}

#[test]
fn a_step_takes_apart_what_it_owes_although_callers_wait_but_not_for_long() {
    let short = Duration::ZERO;
    assert!(!is_enough((1, 2), short, true) && is_enough((2, 2), short, true));
    assert!(!is_enough((2, 2), short, false), "nobody waits");
    assert!(is_enough((2, 2), RECLAIM_STEP, false));
    assert!(!is_enough((1, 200), RECLAIM_STEP, true));
    assert!(is_enough((1, 200), STEP, true) && is_enough((1, 200), STEP, false));
}

#[tokio::test]
async fn a_step_says_what_it_has_done() {
    // With this grace the background work finds nothing that is due.
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    for number in 0..8 {
        fixture.upload(&number.to_string(), format!("{number:010}")).await.unwrap();
        fixture.store.delete(&path(&number.to_string()), &Call::system()).await.unwrap();
    }
    let contents = async || fixture.number("SELECT COUNT(*) FROM content").await;
    let mut before = contents().await;
    // Each file is two items: its content, and then its part.
    for (enough, done, gone) in [(1, 1, 1), (2, 2, 1), (5, 5, 2), (u64::MAX, 8, 4)] {
        let step =
            move |tx: &mut Tx<'_>| namespace::garbage::reclaim(tx, 0, &|done| done >= enough);
        let reclaimed = fixture.store.0.engine.write(None, step).await.unwrap();
        let left = contents().await;
        assert_eq!((reclaimed.done, before - left), (done, gone), "{enough} are enough");
        assert_eq!(reclaimed.is_more, enough < u64::MAX);
        before = left;
    }
    assert_eq!(before, 0);
}

#[tokio::test]
async fn pins_of_an_earlier_run_are_dropped_in_steps() {
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    fixture.upload("f", "f").await.unwrap();
    let own = fixture.store.0.server.clone();
    let steps = move |tx: &mut Tx<'_>| {
        let pins = "SELECT COUNT(*) FROM pin";
        pin::pin(tx, &Owner::new(&own), Ref::content(1))?;
        let others = ["-", "~"];
        for server in others {
            let other = Owner::new(server);
            for _ in 0..UNPIN_ROWS {
                pin::pin(tx, &other, Ref::content(1))?;
            }
        }
        assert_eq!(server::dead_owners(tx)?, others);
        let mut left = tx.one(pins, &[])?.int(0)?;
        for id in others {
            assert_eq!(pin::of(tx, id)?, UNPIN_ROWS as u64);
            while server::clear(tx, id, &lost_server())?.1 {
                left -= UNPIN_ROWS as i64;
                assert_eq!(tx.one(pins, &[])?.int(0)?, left);
            }
        }
        assert!(server::dead_owners(tx)?.is_empty());
        assert_eq!(left, 1, "its own stays");
        Ok(())
    };
    fixture.store.0.engine.write(None, steps).await.unwrap();
}
