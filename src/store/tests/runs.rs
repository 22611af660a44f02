//! One task owns each run: callers may be dropped at any await, and every reported state stays true.

use super::*;
use crate::model::OperationError;

fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "cancelled by a test")
}

/// A request for a verifying copy, in a store whose gate is closed.
async fn verifying() -> (Fixture, CopyRequest) {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    fixture.gate.close();
    let asked = CopyRequest { verify: true, ..request("a", "b") };
    (fixture, asked)
}

async fn begin(fixture: &Fixture, asked: &CopyRequest, call: &Call) -> Copying {
    let reads = fixture.gate.reads();
    let copying = fixture.store.copy(asked.clone(), false, call).await.unwrap();
    until("the copy reads", async || fixture.gate.reads() > reads).await;
    copying
}

/// Checks that row, registry and tree agree: the copy is cancelled, and nothing has changed.
async fn expect_cancelled(fixture: &Fixture, id: OperationId) {
    fixture.idle().await;
    let operation = fixture.store.operation(id, &Call::system()).await.unwrap();
    assert_eq!(operation.state, OperationState::Cancelled);
    assert!(!fixture.store.0.runs.has(id));
    let missing = fixture.store.stat(&path("b"), &Call::system()).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::PathNotFound);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
}

#[tokio::test]
async fn a_cancel_goes_on_although_its_caller_left() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    let held = fixture.hold_writer().await;
    let call = Call::system();
    let mut cancel = Box::pin(fixture.store.cancel(asked.id, cancelled(), &call));
    assert!(futures::poll!(&mut cancel).is_pending());
    drop(cancel);
    fixture.gate.open();
    drop(held);
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Cancelled);
    expect_cancelled(&fixture, asked.id).await;
}

/// The copy finds that its pins are gone before its server has heard of the cancel.
#[tokio::test]
async fn a_copy_that_was_cancelled_on_another_server_ends_as_cancelled() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    let id = asked.id;
    let cancel =
        move |tx: &mut Tx<'_>| operation::cancel(tx, id, &OperationError::from(&cancelled()));
    fixture.store.0.engine.write(None, cancel).await.unwrap();
    fixture.gate.open();
    let error = finish(copying).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Cancelled, cancelled().message()));
    expect_cancelled(&fixture, asked.id).await;
}

#[tokio::test]
async fn a_copy_that_has_lost_its_pins_fails() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    fixture.log.expect("a reference of this operation was lost");
    let forget = |tx: &mut Tx<'_>| tx.execute("DELETE FROM pin", &[]);
    assert!(fixture.store.0.engine.write(None, forget).await.unwrap() > 0);
    fixture.gate.open();
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Busy);
    let operation = fixture.store.operation(asked.id, &Call::system()).await.unwrap();
    assert_eq!(operation.state, OperationState::Failed);
}

#[tokio::test]
async fn a_cancel_waits_no_longer_than_its_deadline_and_goes_on() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    let held = fixture.hold_writer().await;
    let call = Call::system().within(Some(Duration::from_millis(20)));
    let error = fixture.store.cancel(asked.id, cancelled(), &call).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    drop(held);
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Cancelled);
    expect_cancelled(&fixture, asked.id).await;
}

#[tokio::test]
async fn two_cancels_have_one_answer() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    let call = Call::system();
    let cancel = || fixture.store.cancel(asked.id, cancelled(), &call);
    let (first, second) = tokio::join!(cancel(), cancel());
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Cancelled);
    assert_eq!(cancel().await.unwrap_err().kind(), Kind::Finished);
}

/// The caller is dropped when its deadline passes, as by a client with the same timeout: after each number of
/// polls, while the writer is blocked.
#[tokio::test]
async fn a_deadline_holds_although_the_caller_leaves_with_it() {
    for polls in 0..4 {
        let (fixture, asked) = verifying().await;
        let call = Call::system().within(Some(Duration::from_secs(2)));
        let deadline = call.deadline().unwrap();
        let mut copying = begin(&fixture, &asked, &call).await;
        assert_eq!(copying.next().await.unwrap().unwrap().state, OperationState::Running);
        let held = fixture.hold_writer().await;
        let mut next = Box::pin(async move { while copying.next().await.unwrap().is_some() {} });
        tokio::time::sleep_until(deadline).await;
        for _ in 0..polls {
            assert!(futures::poll!(&mut next).is_pending());
        }
        drop(next);
        fixture.gate.open();
        drop(held);
        expect_cancelled(&fixture, asked.id).await;
    }
}

/// The deadline ends the copy although the caller is not polled any more.
#[tokio::test]
async fn a_deadline_holds_although_nobody_reads_the_answer() {
    let (fixture, asked) = verifying().await;
    let call = Call::system().within(Some(Duration::from_secs(2)));
    let _unread = begin(&fixture, &asked, &call).await;
    let mut updates = fixture.store.watch(asked.id, &Call::system()).await.unwrap();
    let mut last = None;
    while let Some(operation) = updates.next().await.unwrap() {
        last = Some(operation);
    }
    let error = last.unwrap().error.unwrap();
    assert_eq!(error.kind, Kind::Timeout);
    fixture.gate.open();
    expect_cancelled(&fixture, asked.id).await;
}

/// The call is dropped after each number of polls, while the writer is blocked: if the first transaction has not
/// begun, nothing has happened; otherwise the copy is cancelled.
#[tokio::test]
async fn a_copy_that_is_dropped_before_it_has_begun_is_none() {
    for polls in 0..3 {
        let (fixture, asked) = verifying().await;
        let held = fixture.hold_writer().await;
        let call = Call::system();
        let mut copy = Box::pin(fixture.store.copy(asked.clone(), false, &call));
        for _ in 0..polls {
            assert!(futures::poll!(&mut copy).is_pending());
            tokio::task::yield_now().await;
        }
        drop(copy);
        drop(held);
        fixture.gate.open();
        fixture.idle().await;
        assert!(!fixture.store.0.runs.has(asked.id));
        assert_eq!(fixture.number("SELECT COUNT(*) FROM operation").await, 0);
        assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    }
}

/// The second caller attaches before the outcome of the first transaction is known.
#[tokio::test]
async fn a_caller_who_attaches_before_the_copy_has_begun_is_counted() {
    for is_detached in [true, false] {
        let (fixture, asked) = verifying().await;
        let held = fixture.hold_writer().await;
        let call = Call::system();
        let mut first = Box::pin(fixture.store.copy(asked.clone(), false, &call));
        assert!(futures::poll!(&mut first).is_pending());
        let call = Call::system();
        let mut second = Box::pin(fixture.store.copy(asked.clone(), is_detached, &call));
        assert!(futures::poll!(&mut second).is_pending());
        drop(held);
        let (first, second) = tokio::join!(first, second);
        drop(first.unwrap());
        if is_detached {
            drop(second.unwrap());
        } else {
            fixture.gate.open();
            finish(second.unwrap()).await.unwrap();
        }
        fixture.gate.open();
        fixture.idle().await;
        assert_eq!(fixture.read("b").await.unwrap(), object(1));
    }
}

#[tokio::test]
async fn a_copy_that_is_refused_tells_all_who_asked() {
    let fixture = Fixture::new().await;
    let asked = request("missing", "b");
    let call = Call::system();
    let copy = || fixture.store.copy(asked.clone(), false, &call);
    let (first, second) = tokio::join!(copy(), copy());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.kind(), error.violated_field()), (Kind::FileNotFound, Some("source")));
    }
    assert!(!fixture.store.0.runs.has(asked.id));
}

/// A transaction that fails before its commit has a known outcome.
#[tokio::test]
async fn a_copy_whose_first_transaction_fails_leaves_nothing_to_wait_for() {
    let fixture = Fixture::new().await;
    fixture.log.expect("reason=\"INTERNAL\"");
    fixture.upload("a", object(1)).await.unwrap();
    let rename = |to: &'static str| {
        fixture.store.0.engine.write(None, move |tx: &mut Tx<'_>| tx.execute(to, &[]).map(drop))
    };
    rename("ALTER TABLE operation RENAME TO hidden").await.unwrap();
    let asked = request("a", "b");
    let error = fixture.store.copy(asked.clone(), false, &Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    fixture.idle().await;
    assert!(!fixture.store.0.runs.has(asked.id));
    rename("ALTER TABLE hidden RENAME TO operation").await.unwrap();
    let copying = fixture.store.copy(asked, false, &Call::system()).await.unwrap();
    assert_eq!(finish(copying).await.unwrap().state, OperationState::Succeeded);
}

#[tokio::test]
async fn a_deadline_before_the_copy_has_begun_promises_nothing() {
    let (fixture, asked) = verifying().await;
    let held = fixture.hold_writer().await;
    let call = Call::system().within(Some(Duration::from_millis(20)));
    let late = fixture.store.copy(asked.clone(), true, &call).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Timeout);
    let words = format!("look whether the operation {} begins", asked.id);
    assert!(late.message().contains(&words), "{}", late.message());
    drop(held);
    fixture.gate.open();
}

/// The destination is created while the copy reads.
#[tokio::test]
async fn a_copy_that_keeps_what_came_meanwhile_has_skipped_all() {
    let (fixture, asked) = verifying().await;
    let asked = CopyRequest { if_exists: IfExists::Keep, ..asked };
    let copying = begin(&fixture, &asked, &Call::system()).await;
    fixture.upload("b", Bytes::from_static(b"kept")).await.unwrap();
    fixture.gate.open();
    let progress = finish(copying).await.unwrap().progress;
    assert_eq!((progress.files_done, progress.files_skipped), (0, 1));
    assert_eq!((progress.bytes_done, progress.bytes_skipped), (0, progress.bytes_total));
    assert_eq!(fixture.read("b").await.unwrap(), b"kept");
}

#[tokio::test]
async fn a_panic_of_the_work_ends_the_copy() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    fixture.log.expect("a panic of a test");
    fixture.gate.panic();
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Internal);
    fixture.idle().await;
    let operation = fixture.store.operation(asked.id, &Call::system()).await.unwrap();
    assert_eq!(operation.state, OperationState::Failed);
    assert!(!fixture.store.0.runs.has(asked.id));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
}

#[tokio::test]
async fn a_stop_cancels_what_runs_and_refuses_what_comes() {
    let (fixture, asked) = verifying().await;
    let copying = begin(&fixture, &asked, &Call::system()).await;
    fixture.store.drain().await;
    assert_eq!(finish(copying).await.unwrap_err().kind(), Kind::Cancelled);
    let late = fixture.store.copy(request("a", "c"), false, &Call::system()).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Busy);
    fixture.gate.open();
    expect_cancelled(&fixture, asked.id).await;
}
