//! Copies that are cancelled, repeated or shared by several callers, and their permits.

use super::*;
use crate::{
    limits::{INLINE_BYTES_MAX, SKIP_FILES_BYTES_MAX},
    model::Progress,
};

fn why() -> Error {
    Error::new(Kind::Cancelled, "cancelled by a test")
}

/// A verifying copy that waits for a read at the gate.
async fn begun(fixture: &Fixture, request: &CopyRequest) -> Copying {
    fixture.gate.close();
    let reads = fixture.gate.reads();
    let copying = fixture.store.copy(request.clone(), false, &Call::system()).await.unwrap();
    until("the copy reads", async || fixture.gate.reads() > reads).await;
    copying
}

#[tokio::test]
async fn a_copy_dropped_by_its_caller_is_cancelled() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    drop(begun(&fixture, &request).await);
    let mut updates = fixture.store.watch(request.id, &Call::system()).await.unwrap();
    let mut last = None;
    while let Some(operation) = updates.next().await.unwrap() {
        last = Some(operation);
    }
    assert_eq!(last.unwrap().state, OperationState::Cancelled);
    fixture.gate.open();
    let missing = fixture.store.stat(&path("b"), &Call::system()).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::PathNotFound);
    fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_detached_copy_goes_on_without_its_caller() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    fixture.gate.close();
    drop(fixture.store.copy(request.clone(), true, &Call::system()).await.unwrap());
    fixture.gate.open();
    let mut updates = fixture.store.watch(request.id, &Call::system()).await.unwrap();
    let mut last = None;
    while let Some(operation) = updates.next().await.unwrap() {
        last = Some(operation);
    }
    assert_eq!(last.unwrap().state, OperationState::Succeeded);
    assert_eq!(fixture.read("b/f").await.unwrap(), object(1));
}

/// The second request arrives before the first run has ended, and waits for its end.
#[tokio::test]
async fn a_cancelled_copy_that_is_sent_again_runs_again() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    let first = begun(&fixture, &request).await;
    let held = fixture.hold_writer().await;
    let cancel = {
        let (store, id) = (fixture.store.clone(), request.id);
        tokio::spawn(async move { store.cancel(id, why(), &Call::system()).await })
    };
    fixture.waiting(1).await;
    let call = Call::system();
    let mut again = Box::pin(fixture.store.copy(request.clone(), false, &call));
    assert!(futures::poll!(&mut again).is_pending());
    // A request does not wait beyond its deadline.
    let call = Call::system().within(Some(Duration::from_millis(20)));
    let late = fixture.store.copy(request.clone(), false, &call).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Timeout);
    // The first run may still succeed.
    assert!(!late.message().contains("nothing has changed"), "{}", late.message());
    drop(held);
    assert_eq!(cancel.await.unwrap().unwrap().state, OperationState::Cancelled);
    let again = again.await.unwrap();
    drop(first);
    fixture.gate.open();
    assert_eq!(finish(again).await.unwrap().state, OperationState::Succeeded);
    // A download has a pin of its own, dropped after its end.
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    assert_eq!(fixture.read("b/f").await.unwrap(), object(1));
}

/// A cancellation while the final transaction is queued for the writer wins; a later one does not.
#[tokio::test]
async fn a_cancel_and_the_final_transaction_have_one_winner() {
    for is_waiting in [true, false] {
        let fixture = Fixture::new().await;
        fixture.upload("a/f", object(1)).await.unwrap();
        let request = CopyRequest { verify: true, ..request("a", "b") };
        let copying = begun(&fixture, &request).await;
        let (cancelled, copied) = if is_waiting {
            let held = fixture.hold_writer().await;
            fixture.gate.open();
            fixture.waiting(1).await;
            let call = Call::system();
            let mut cancel = Box::pin(fixture.store.cancel(request.id, why(), &call));
            assert!(futures::poll!(&mut cancel).is_pending());
            drop(held);
            (cancel.await, finish(copying).await)
        } else {
            fixture.gate.open();
            let copied = finish(copying).await;
            (fixture.store.cancel(request.id, why(), &Call::system()).await, copied)
        };
        let exists = fixture.store.stat(&path("b"), &Call::system()).await.is_ok();
        let row = fixture.store.operation(request.id, &Call::system()).await.unwrap().state;
        if is_waiting {
            assert_eq!(cancelled.unwrap().state, OperationState::Cancelled);
            assert_eq!(copied.unwrap_err().kind(), Kind::Cancelled);
            assert_eq!((exists, row), (false, OperationState::Cancelled));
        } else {
            assert_eq!(cancelled.unwrap_err().kind(), Kind::Finished);
            assert_eq!(copied.unwrap().state, OperationState::Succeeded);
            assert_eq!((exists, row), (true, OperationState::Succeeded));
        }
        assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    }
}

#[tokio::test]
async fn the_same_id_follows_a_copy_that_runs_and_other_arguments_conflict() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    let first = begun(&fixture, &request).await;
    let second = fixture.store.copy(request.clone(), false, &Call::system()).await.unwrap();
    let other = CopyRequest { destination: path("c"), ..request.clone() };
    let conflict = fixture.store.copy(other, false, &Call::system()).await.unwrap_err();
    assert_eq!(conflict.kind(), Kind::WriteConflict);
    // A caller that joined may leave without effect on the copy.
    drop(fixture.store.copy(request.clone(), false, &Call::system()).await.unwrap());
    fixture.gate.open();
    let (first, second) = tokio::join!(finish(first), finish(second));
    assert_eq!(first.unwrap(), second.unwrap());
    let third = fixture.store.copy(request, false, &Call::system()).await.unwrap();
    assert_eq!(finish(third).await.unwrap().state, OperationState::Succeeded);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM operation WHERE kind = 1").await, 1);
}

#[tokio::test]
async fn a_deadline_cancels_a_copy_and_nothing_has_changed() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    fixture.gate.close();
    let request = CopyRequest { verify: true, ..request("a", "b") };
    // Enough time for the copy to begin.
    let call = Call::system().within(Some(Duration::from_secs(4)));
    let copying = fixture.store.copy(request.clone(), false, &call).await.unwrap();
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Timeout);
    let row = fixture.store.operation(request.id, &Call::system()).await.unwrap();
    assert_eq!(row.state, OperationState::Cancelled);
    assert!(fixture.store.stat(&path("b"), &Call::system()).await.is_err());
}

/// The counters of every state that a watcher sees.
async fn progress_of(fixture: &Fixture, request: CopyRequest) -> Vec<Progress> {
    let mut copying = fixture.store.copy(request, false, &Call::system()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(operation) = copying.next().await.unwrap() {
        seen.push(operation.progress);
    }
    seen
}

#[tokio::test]
async fn counters_never_fall_and_never_pass_their_totals() {
    let fixture = Fixture::new().await;
    for number in 0..8_u8 {
        fixture.upload(&format!("a/{number}/keep"), object(number)).await.unwrap();
        fixture.upload(&format!("a/{number}/skip"), Bytes::from_static(b"skip")).await.unwrap();
    }
    let skip_files = SkipFiles::new(&["skip"]).unwrap();
    let request = CopyRequest { verify: true, skip_files, ..request("a", "b") };
    let seen = progress_of(&fixture, request).await;
    let counters = |progress: &Progress| {
        [progress.files_done, progress.bytes_done, progress.files_skipped, progress.bytes_skipped]
    };
    for pair in seen.windows(2) {
        for (before, after) in counters(&pair[0]).iter().zip(counters(&pair[1])) {
            assert!(*before <= after, "{seen:?}");
        }
    }
    let last = seen.last().unwrap();
    assert_eq!((last.files_done, last.files_skipped, last.files_total), (8, 8, 16));
    let bytes = 8 * (INLINE_BYTES_MAX as i64 + 1);
    assert_eq!((last.bytes_done, last.bytes_skipped), (bytes, 32));
}

/// The first transaction was committed, but its outcome was lost with the database: a repeated request runs the
/// copy anew.
#[tokio::test]
async fn a_copy_that_nobody_runs_is_begun_anew() {
    let fixture = Fixture::new().await;
    fixture.upload("a", "1").await.unwrap();
    let asked = CopyRequest { verify: true, ..request("a", "b") };
    let (lost, server) = (asked.clone(), fixture.store.0.server.clone());
    let start = move |tx: &mut Tx<'_>| namespace::copy::start(tx, &lost, &server, ("", ""));
    fixture.store.0.engine.write(None, start).await.unwrap();
    let copying = fixture.store.copy(asked, false, &Call::system()).await.unwrap();
    assert_eq!(finish(copying).await.unwrap().state, OperationState::Succeeded);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM operation").await, 1);
}

/// A client that lost its connection sends the request again; the drop of its first call does not end the copy.
#[tokio::test]
async fn a_copy_goes_on_while_one_who_asked_for_it_is_there() {
    for (second_is_detached, second_leaves) in [(false, false), (true, false), (true, true)] {
        let fixture = Fixture::new().await;
        fixture.upload("a", object(1)).await.unwrap();
        fixture.gate.close();
        let asked = CopyRequest { verify: true, ..request("a", "b") };
        let copy = async |detached| {
            fixture.store.copy(asked.clone(), detached, &Call::system()).await.unwrap()
        };
        let (first, second) = (copy(false).await, copy(second_is_detached).await);
        drop(first);
        let second = if second_leaves {
            drop(second);
            None
        } else {
            Some(second)
        };
        // Jobs that the drops queue for the writer are queued before the job below.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        fixture.store.0.engine.write(None, |_| Ok(())).await.unwrap();
        fixture.gate.open();
        if let Some(second) = second {
            assert_eq!(finish(second).await.unwrap().state, OperationState::Succeeded);
        }
        fixture.idle().await;
        assert_eq!(fixture.read("b").await.unwrap(), object(1));
    }
}

/// Filtered copies that wait for a permit have no state yet, and can be cancelled.
#[tokio::test]
async fn a_filtered_copy_waits_for_its_turn() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    fixture.upload("a/g", object(2)).await.unwrap();
    let filtered =
        |to| CopyRequest { skip_files: SkipFiles::new(&["g"]).unwrap(), ..request("a", to) };
    let others = all(&fixture.store.0.budgets.filters, Peer::default());
    let first = filtered("b");
    let waiting = fixture.store.copy(first.clone(), false, &Call::system()).await.unwrap();
    // Without the wait, the copy would end within fewer commits than these.
    for _ in 0..20 {
        fixture.store.0.engine.write(None, |_| Ok(())).await.unwrap();
    }
    let ended = fixture.store.cancel(first.id, why(), &Call::system()).await.unwrap();
    assert_eq!(ended.state, OperationState::Cancelled);
    assert_eq!(finish(waiting).await.unwrap_err().kind(), Kind::Cancelled);
    let second = fixture.store.copy(filtered("c"), false, &Call::system()).await.unwrap();
    drop(others);
    assert_eq!(finish(second).await.unwrap().progress.files_skipped, 1);
}

#[tokio::test]
async fn a_skip_list_takes_room_while_its_copy_runs() {
    let fixture = Fixture::new().await;
    fixture.upload("a/b", object(1)).await.unwrap();
    let whole = fixture.store.0.runs.skip_room();
    let skip_files = SkipFiles::new(&["n".repeat(SKIP_FILES_BYTES_MAX)]).unwrap();
    let bytes = skip_files.bytes_held();
    let asked = |to: &str| {
        let skip_files = skip_files.clone();
        CopyRequest { verify: true, skip_files, ..request("a", to) }
    };
    let begin =
        async |asked: &CopyRequest| fixture.store.copy(asked.clone(), false, &Call::system()).await;
    fixture.gate.close();
    // The copies wait at the gate for the parts that they verify.
    let mut running = Vec::new();
    let refused = loop {
        let asked = asked(&running.len().to_string());
        match begin(&asked).await {
            Ok(copying) => running.push((asked, copying)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), Kind::Busy);
    assert!(refused.message().contains("bytes of skip lists"), "{refused}");
    assert!(running.len() > 1 && running.len() * bytes <= whole, "{} run", running.len());
    assert_eq!(fixture.store.0.runs.skip_room(), whole - running.len() * bytes);
    // A caller that joins a run takes nothing of the budget, and a short list still fits.
    let again = begin(&running[0].0).await.unwrap();
    let skip_files = SkipFiles::new(&["x"]).unwrap();
    let short = begin(&CopyRequest { skip_files, ..request("a", "short") }).await.unwrap();
    fixture.gate.open();
    let all = running.into_iter().map(|(_, copying)| copying).chain([again, short]);
    for copying in all {
        assert_eq!(finish(copying).await.unwrap().state, OperationState::Succeeded);
    }
    until("there is room again", async || fixture.store.0.runs.skip_room() == whole).await;
}
