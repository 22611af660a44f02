//! All calls of the store while its blob store fails: the error is clear and in time, nothing has changed,
//! the same call succeeds afterwards, and nothing is left over.
//!
//! The clock is stopped, and advances only by the timeout of a blob store call that stalls. So the tests take
//! no real time for timeouts, and a call without a timeout hangs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt;
use imagestore::{
    error::{Error, Kind, Result},
    limits::{INLINE_BYTES_MAX, PART_BYTES_MAX, RECLAIM_OBJECTS_IN_FLIGHT},
    model::{CheckRequest, ChunkRange, CopyRequest, FindingKind, SessionId},
    store::Call,
};
use object_store::ObjectStore;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    audit,
    faulty::{Asked, Fault, Faulty, pass_time, stop_clock},
    harness::{Fixture, copy, until},
    machine::send_chunk,
};

/// An upper bound for a call whose blob store does not answer.
const TOO_LONG: Duration = Duration::from_mins(10);

/// A store on an object store with injected faults.
pub(crate) async fn faulty_store() -> (Fixture, Arc<Faulty>) {
    let faulty = Faulty::new();
    let fixture = Fixture::with(|_| {}, Arc::<Faulty>::clone(&faulty)).await;
    (fixture, faulty)
}

/// The bytes of a file of one object.
fn one_part(byte: u8) -> Bytes {
    vec![byte; 3 * INLINE_BYTES_MAX].into()
}

/// The bytes of a file of two objects.
fn two_parts(byte: u8) -> Bytes {
    let mut bytes = vec![byte; PART_BYTES_MAX + 3 * INLINE_BYTES_MAX];
    // No part equals a part of another such file.
    bytes[0] = !byte;
    bytes[PART_BYTES_MAX] = !byte;
    bytes.into()
}

/// Checks that an error has a kind, names the path, and shows no internals.
pub(crate) fn assert_clear(error: &Error, kind: Kind, at: &str) {
    let message = error.message();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(at.is_empty() || message.contains(&format!("\"{at}\"")), "{message} names no {at}");
    assert!(!message.contains("secret") && !message.contains("faulty"), "{message}");
}

/// Cleans up after faults, then checks that nothing is left but the objects that the tables name.
pub(crate) async fn assert_clean(fixture: &Fixture, faulty: &Faulty) {
    // Calls in flight end, with or without a response.
    pass_time().await;
    let pins = "SELECT COUNT(*) FROM pin";
    until("what broke off has released", async || fixture.tables.number(pins) == 0).await;
    faulty.age(true);
    fixture.store.sweep().await.unwrap();
    faulty.age(false);
    fixture.store.reclaim().await.unwrap();
    audit::laws(&fixture.tables);
    let objects: Vec<_> = faulty.list(None).try_collect().await.unwrap();
    let objects = objects.into_iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(audit::objects_named(&fixture.tables), objects);
    assert_eq!(findings(fixture, true).await.unwrap(), []);
}

/// The kinds of the findings of a check.
async fn findings(fixture: &Fixture, deep: bool) -> Result<Vec<FindingKind>> {
    let mut checking =
        fixture.store.check(CheckRequest { deep, repair: false }, &Call::system())?;
    let mut kinds = Vec::new();
    while let Some(report) = checking.next().await? {
        kinds.extend(report.findings.iter().map(|finding| finding.kind));
    }
    Ok(kinds)
}

/// Makes a call while blob store calls of one kind fail after the first `sound` ones, and again without
/// faults: first the call fails and changes nothing, then it succeeds.
async fn fails_then_succeeds(
    (fixture, faulty): (&Fixture, &Faulty),
    at: &str,
    (sound, asked, fault, kind): (usize, Asked, Fault, Kind),
    act: impl AsyncFn() -> Result<()>,
) {
    let before = audit::tree(&fixture.tables);
    let (what, started) = (format!("{at}: {fault:?}"), Instant::now());
    faulty.after(sound, asked, fault);
    let error = faulty.run(act()).await.expect_err(&what);
    assert!(started.elapsed() < TOO_LONG, "{what}: after {:?}", started.elapsed());
    assert_clear(&error, kind, at);
    assert!(audit::tree(&fixture.tables) == before, "{what}: something has changed");
    faulty.stop();
    act().await.expect(&what);
    assert_clean(fixture, faulty).await;
}

/// The faults of a put, and the kind of error that the caller gets.
const PUTS: [(Fault, Kind); 5] = [
    (Fault::Fail, Kind::Internal),
    (Fault::Tear, Kind::Internal),
    (Fault::Lie, Kind::Internal),
    (Fault::Full, Kind::NoSpace),
    (Fault::Stall, Kind::Busy),
];

/// The faults of a read, and the kind of error that the caller gets.
const GETS: [(Fault, Kind); 3] =
    [(Fault::Fail, Kind::Internal), (Fault::Flip, Kind::Corrupt), (Fault::Stall, Kind::Busy)];

#[tokio::test]
async fn an_upload_whose_put_goes_wrong_stores_nothing_and_can_be_repeated() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    for (byte, (fault, kind)) in (0..).zip(PUTS) {
        for (sound, at, bytes) in [
            (0, "one", one_part(byte)),
            (0, "first", two_parts(100 + byte)),
            (1, "second", two_parts(200 + byte)),
        ] {
            let case = (sound, Asked::Put, fault.clone(), kind);
            fails_then_succeeds((&fixture, &faulty), at, case, async || {
                fixture.upload(at, bytes.clone()).await.map(drop)
            })
            .await;
            assert_eq!(fixture.read(at).await.unwrap(), bytes);
        }
    }
}

#[tokio::test]
async fn a_chunk_whose_put_goes_wrong_is_not_counted_and_can_be_repeated() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    for (byte, (fault, kind)) in (0..).zip(PUTS) {
        for (sound, bytes) in [(0, one_part(byte)), (1, two_parts(byte))] {
            let id = SessionId::parse(&uuid::Uuid::new_v4().to_string()).unwrap();
            let range = ChunkRange::new(0, bytes.len() as u64, bytes.len() as u64).unwrap();
            let case = (sound, Asked::Put, fault.clone(), kind);
            fails_then_succeeds((&fixture, &faulty), "a/chunk", case, async || {
                send_chunk(&fixture, id, "a/chunk", range, bytes.clone()).await
            })
            .await;
            fixture.store.commit_session(id, &Call::system()).await.unwrap();
            assert_eq!(fixture.read("a/chunk").await.unwrap(), bytes);
        }
    }
}

#[tokio::test]
async fn a_read_that_goes_wrong_is_told_and_can_be_repeated() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    fixture.upload("a/file", two_parts(1)).await.unwrap();
    let copied = CopyRequest { verify: true, ..copy("a", "b") };
    for (fault, kind) in GETS {
        for sound in [0, 1] {
            let case = || (sound, Asked::Get, fault.clone(), kind);
            fails_then_succeeds((&fixture, &faulty), "a/file", case(), async || {
                fixture.read("a/file").await.map(drop)
            })
            .await;
            fixture.delete("b").await.unwrap();
            fails_then_succeeds((&fixture, &faulty), "a/file", case(), async || {
                let id = imagestore::model::OperationId::new();
                fixture.copy(CopyRequest { id, ..copied.clone() }).await.map(drop)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_put_that_lies_is_noticed_and_healed() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    faulty.once(Asked::Put, Fault::Short);
    fixture.upload("short", one_part(1)).await.unwrap();
    let error = fixture.read("short").await.unwrap_err();
    assert_clear(&error, Kind::Corrupt, "short");
    fixture.upload("again", one_part(1)).await.unwrap();
    assert_eq!(fixture.read("short").await.unwrap(), one_part(1));
    assert_clean(&fixture, &faulty).await;
}

#[tokio::test]
async fn an_upload_relies_on_no_part_that_cannot_be_read() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    fixture.upload("a", one_part(1)).await.unwrap();
    let first = fixture.object_keys().await;
    // A part whose read stalls may be intact: its object stays.
    faulty.after(0, Asked::Get, Fault::Stall);
    let error = faulty.run(fixture.upload("b", one_part(1))).await.unwrap_err();
    assert_clear(&error, Kind::Busy, "b");
    faulty.stop();
    assert_eq!(fixture.object_keys().await, first);
    for fault in [Fault::Fail, Fault::Flip] {
        // The part can neither be read nor put again.
        let is_broken = fault.clone();
        faulty.schedule(move |call| match call {
            Asked::Get => Some(is_broken.clone()),
            Asked::Put => Some(Fault::Tear),
            Asked::Delete | Asked::List => None,
        });
        let error = fixture.upload("b", one_part(1)).await.unwrap_err();
        assert_clear(&error, Kind::Internal, "b");
        faulty.after(0, Asked::Get, fault);
        fixture.upload("b", one_part(1)).await.unwrap();
        faulty.stop();
        assert_eq!(fixture.read("a").await.unwrap(), one_part(1));
        assert_clean(&fixture, &faulty).await;
    }
    let last = fixture.object_keys().await;
    assert!(last.len() == 1 && last != first, "{first:?} became {last:?}");
}

#[tokio::test]
async fn a_reader_follows_a_part_that_is_put_anew_meanwhile() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    fixture.upload("a", one_part(1)).await.unwrap();
    let verified = CopyRequest { verify: true, ..copy("a", "b") };
    let (permits, before) = (Arc::new(Semaphore::new(0)), faulty.faults());
    faulty.once(Asked::Get, Fault::Hold(Arc::clone(&permits)));
    let read = async || {
        let both = tokio::join!(fixture.read("a"), async {
            until("the reader waits", async || faulty.faults() > before).await;
            faulty.once(Asked::Get, Fault::Fail);
            fixture.upload("c", one_part(1)).await.unwrap();
            fixture.store.reclaim().await.unwrap();
            assert_eq!(fixture.object_keys().await.len(), 1, "the old object is gone");
            permits.add_permits(1);
        });
        both.0
    };
    assert_eq!(read().await.unwrap(), one_part(1));
    fixture.copy(verified).await.unwrap();
    assert_clean(&fixture, &faulty).await;
}

#[tokio::test]
async fn reclamation_deletes_what_it_can_and_the_rest_later() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    for (fault, kind) in
        [(Fault::Fail, Kind::Internal), (Fault::Lie, Kind::Internal), (Fault::Stall, Kind::Busy)]
    {
        for byte in 0..100 {
            fixture.upload(&format!("a/{byte}"), one_part(byte)).await.unwrap();
        }
        let objects = fixture.object_keys().await.len();
        // Every other delete fails.
        let mut number = 0;
        let some = fault.clone();
        faulty.schedule(move |call| {
            number += usize::from(call == Asked::Delete);
            (call == Asked::Delete && number.is_multiple_of(2)).then(|| some.clone())
        });
        fixture.delete("a").await.unwrap();
        let started = Instant::now();
        // The background work may have reclaimed first.
        if let Err(error) = faulty.run(fixture.store.reclaim()).await {
            assert_clear(&error, kind, "");
        }
        assert!(started.elapsed() < TOO_LONG, "{fault:?}: after {:?}", started.elapsed());
        assert!(fixture.object_keys().await.len() < objects, "{fault:?}");
        // All deletes fail; every object stays marked for deletion.
        faulty.after(0, Asked::Delete, fault.clone());
        let before = faulty.faults();
        fixture.upload("b", one_part(99)).await.unwrap();
        fixture.delete("b").await.unwrap();
        assert_clear(&faulty.run(fixture.store.reclaim()).await.unwrap_err(), kind, "");
        // The background work tries some of the objects as well.
        let tried = faulty.faults() - before;
        assert!(kind != Kind::Busy || tried <= 4 * RECLAIM_OBJECTS_IN_FLIGHT, "{tried} tried");
        assert!(fixture.tables.number("SELECT COUNT(*) FROM dead_object") > 0);
        faulty.stop();
        assert_clean(&fixture, &faulty).await;
        assert_eq!(fixture.object_keys().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_listing_that_goes_wrong_is_an_error_of_a_sweep_and_a_finding_of_a_check() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    fixture.upload("a", one_part(1)).await.unwrap();
    faulty.once(Asked::Put, Fault::Tear);
    fixture.upload("b", one_part(2)).await.unwrap_err();
    assert_eq!(fixture.object_keys().await.len(), 2, "a torn object is left");
    for (fault, kind) in [(Fault::Fail, Kind::Internal), (Fault::Stall, Kind::Busy)] {
        faulty.age(true);
        faulty.after(0, Asked::List, fault);
        let started = Instant::now();
        assert_clear(&faulty.run(fixture.store.sweep()).await.unwrap_err(), kind, "");
        let found = faulty.run(findings(&fixture, false)).await.unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|kind| *kind == FindingKind::ObjectsUnlisted), "{found:?}");
        assert!(started.elapsed() < TOO_LONG);
        faulty.stop();
        faulty.age(false);
    }
    assert_clean(&fixture, &faulty).await;
    assert_eq!(fixture.object_keys().await.len(), 1);
}

#[tokio::test]
async fn a_check_tells_of_parts_that_cannot_be_read() {
    let _clock = stop_clock();
    let (fixture, faulty) = faulty_store().await;
    fixture.upload("a", one_part(1)).await.unwrap();
    for (fault, deep) in [
        (Fault::Fail, false),
        (Fault::Stall, false),
        (Fault::Fail, true),
        (Fault::Stall, true),
        (Fault::Flip, true),
    ] {
        faulty.after(0, Asked::Get, fault);
        let found = faulty.run(findings(&fixture, deep)).await;
        assert_eq!(found.unwrap(), [FindingKind::PartDamaged]);
        faulty.stop();
        assert_clean(&fixture, &faulty).await;
    }
}
