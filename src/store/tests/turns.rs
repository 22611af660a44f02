//! Permits of stalled clients, which are revoked when other peers need them.

use super::*;
use crate::limits::{
    BUDGET_RESERVE, BUDGET_STALL, DOWNLOAD_MESSAGE_BYTES, OPERATIONS_RUNNING_MAX,
    PACKAGE_POOL_BYTES,
};

/// A call of a peer of the tests.
fn from(number: u8) -> Call {
    let peer = Peer::from(std::net::IpAddr::from([10, 0, 0, number]));
    Call::from_peer(peer)
}

/// The most permits that one peer may have of a budget: all but the reserve.
fn most(turns: usize) -> usize {
    turns - turns.div_ceil(BUDGET_RESERVE)
}

#[track_caller]
fn assert_gave_way<T>(result: Result<T>, what: &str) {
    let error = result.err().expect("its turn is gone");
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.message().contains(what), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_gives_way_to_those_of_others() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut watchers = Vec::new();
    for _ in 0..most(WATCHERS_MAX) {
        watchers.push(store.watch_all(None, &from(1)).await.unwrap());
    }
    assert!(store.watch_all(None, &from(1)).await.is_err(), "the reserve is for others");
    tokio::time::advance(BUDGET_STALL).await;
    let _newcomer = store.watch_all(None, &from(2)).await.unwrap();
    assert_gave_way(watchers[0].next().await, "too many watchers");
    watchers.swap_remove(0);
    let _again = store.watch_all(None, &from(3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_download_that_nobody_reads_gives_way_to_those_of_others() {
    let fixture = Fixture::new().await;
    // A file of more than one message, whose download holds a permit from the start.
    fixture.upload("a", vec![7; DOWNLOAD_MESSAGE_BYTES + 1]).await.unwrap();
    let begin = async |call: Call| fixture.store.download(&path("a"), (0, None), None, &call).await;
    let mut downloads = Vec::new();
    for _ in 0..most(DOWNLOADS_MAX) {
        downloads.push(begin(from(1)).await.unwrap());
    }
    // Until the last download has been stalled for long enough, too.
    tokio::time::sleep(2 * BUDGET_STALL).await;
    let mut newcomer = begin(from(2)).await.unwrap();
    let first = downloads[0].next().await.expect("no end that looks like a whole file");
    assert_gave_way(first, "stood still while others waited");
    newcomer.next().await.unwrap().unwrap();
    downloads[1].next().await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn packages_that_nobody_reads_give_way_to_those_of_others() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", vec![7; 1_000_000]).await.unwrap();
    let begin =
        async |call: Call| fixture.store.package(&path("a"), Compression::None, &call).await;
    let budgets = &fixture.store.0.budgets;
    let mut packages = vec![begin(from(1)).await.unwrap()];
    let each = PACKAGE_POOL_BYTES - budgets.package_pool.free();
    while packages.len() < most(PACKAGE_POOL_BYTES) / each {
        packages.push(begin(from(1)).await.unwrap());
    }
    let pool = &budgets.package_pool;
    let before = pool.free();
    until("one gives way", async || {
        tokio::time::advance(BUDGET_STALL).await;
        drop(pool.try_acquire(from(2).peer(), each).unwrap());
        pool.free() > before
    })
    .await;
    // Of the turns there are enough: it is the memory that others need.
    assert!(budgets.downloads.free() > DOWNLOADS_MAX / 2);
    let mut gone = 0;
    for package in &mut packages {
        let next = package.next().await.expect("no end that looks like a whole archive");
        if next.is_err() {
            assert_gave_way(next, "stood still while others waited");
            gone += 1;
        }
    }
    assert!((1..packages.len()).contains(&gone), "{gone}");
    begin(from(2)).await.unwrap().next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_package_that_waits_for_memory_gives_its_turn_to_others() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let budgets = &fixture.store.0.budgets;
    let pool = &budgets.package_pool;
    let most_memory = pool.try_acquire(from(3).peer(), most(PACKAGE_POOL_BYTES)).unwrap();
    let all_memory = pool.try_acquire(from(4).peer(), pool.free()).unwrap();
    let store = fixture.store.clone();
    let waiting = tokio::spawn(async move {
        store.package(&path("a"), Compression::None, &from(1)).await.map(drop)
    });
    until("it is pinned", async || fixture.number("SELECT COUNT(*) FROM pin").await == 1).await;
    // With these commits it has seen the end of its own, after which it waits.
    for _ in 0..3 {
        fixture.store.0.engine.write(None, |_| Ok(())).await.unwrap();
    }
    let own = all(&budgets.downloads, from(1).peer());
    let others = all(&budgets.downloads, from(5).peer());
    tokio::time::pause();
    let turn = budgets.downloads.acquire(from(2).peer(), 1).await.unwrap();
    assert_gave_way(waiting.await.unwrap(), "too many downloads");
    drop((most_memory, all_memory, own, others, turn));
}

#[tokio::test]
async fn the_listings_of_one_do_not_hold_up_those_of_another() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let root = StorePath::root();
    let mut held = Vec::new();
    for _ in 0..most(LISTINGS_MAX) {
        held.push(store.0.budgets.listings.acquire(from(1).peer(), 1).await.unwrap());
    }
    let waits = |number| {
        let (store, root) = (store.clone(), root.clone());
        tokio::spawn(async move {
            let call = from(number);
            store.list(&root, 10, String::new(), &call).await.unwrap();
            store.operations(None, 10, String::new(), &call).await.unwrap();
            store.sessions(None, 10, String::new(), &call).await.unwrap();
        })
    };
    let greedy = waits(1);
    // Without the wait, the first caller would end meanwhile.
    for _ in 0..100 {
        waits(2).await.unwrap();
    }
    assert!(!greedy.is_finished());
    drop(held);
    greedy.await.unwrap();
}

/// Begins a verifying, detached copy of `a`.
async fn verify(fixture: &Fixture, call: Call) -> Result<Copying> {
    let request = CopyRequest { verify: true, ..request("a", "b") };
    fixture.store.copy(request, true, &call).await
}

#[tokio::test]
async fn a_copy_does_not_wait_for_the_many_of_another() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    fixture.gate.close();
    let reading = async |turns: usize| {
        until("they read", async || fixture.gate.reads() == turns).await;
    };
    let before = fixture.gate.reads();
    // These copies hold their permits until the gate is open.
    let many = (0..most(OPERATIONS_RUNNING_MAX)).map(|_| verify(&fixture, from(1)));
    let many = futures::future::try_join_all(many).await.unwrap();
    let refused = verify(&fixture, from(1)).await.unwrap_err();
    assert_eq!(refused.message(), "the server has too many running copies; try again later");
    reading(before + most(VERIFIES_MAX)).await;
    let newcomer = verify(&fixture, from(2)).await.unwrap();
    reading(before + most(VERIFIES_MAX) + 1).await;
    fixture.gate.open();
    finish(newcomer).await.unwrap();
    for copying in many {
        finish(copying).await.unwrap();
    }
    // The permits are released before the callers see the end of the copies.
    drop(futures::future::try_join_all((0..8).map(|_| verify(&fixture, from(1)))).await.unwrap());
}

#[tokio::test]
async fn a_filtered_copy_does_not_wait_for_those_of_another() {
    let fixture = Fixture::new().await;
    fixture.upload("a/f", object(1)).await.unwrap();
    let filtered = async |call: Call| {
        let skip_files = SkipFiles::new(&["g"]).unwrap();
        fixture.store.copy(CopyRequest { skip_files, ..request("a", "b") }, false, &call).await
    };
    let turns = all(&fixture.store.0.budgets.filters, from(1).peer());
    let waiting = filtered(from(1)).await.unwrap();
    finish(filtered(from(2)).await.unwrap()).await.unwrap();
    drop(turns);
    finish(waiting).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_verifies_for_long_pauses_for_those_of_others() {
    let fixture = Fixture::new().await;
    for number in 0..6 {
        fixture.upload(&format!("a/{number}"), object(number)).await.unwrap();
    }
    let verifies = &fixture.store.0.budgets.verifies;
    fixture.gate.close();
    let reads = fixture.gate.reads();
    let copying = verify(&fixture, from(1)).await.unwrap();
    until("it reads", async || fixture.gate.reads() > reads).await;
    let others = [all(verifies, from(1).peer()), all(verifies, from(2).peer())];
    assert_eq!(others.each_ref().map(Vec::len), [most(VERIFIES_MAX) - 1, 1]);
    let waiting = verifies.acquire(from(3).peer(), 1);
    let slow = async {
        tokio::time::sleep(2 * BUDGET_STALL).await;
        fixture.gate.open();
    };
    let (turn, ()) = tokio::join!(waiting, slow);
    let turn = turn.unwrap();
    // Without the wait, the copy would end within fewer commits than these.
    for _ in 0..20 {
        fixture.store.0.engine.write(None, |_| Ok(())).await.unwrap();
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM operation WHERE state = 1").await, 1);
    drop((turn, others));
    assert_eq!(finish(copying).await.unwrap().progress.files_done, 6);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_stands_still_gives_way_to_those_of_others() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(1)).await.unwrap();
    let begin = async |call: Call| {
        let mut backup = fixture.store.backup(false, &call).await?;
        while !matches!(backup.next().await.unwrap()?, BackupMessage::Offer(_)) {}
        Ok::<_, Error>(backup)
    };
    let mut backups = Vec::new();
    for _ in 0..most(BACKUPS_MAX) {
        backups.push(begin(from(1)).await.unwrap());
    }
    begin(from(1)).await.unwrap_err();
    tokio::time::sleep(2 * BUDGET_STALL).await;
    let _newcomer = begin(from(2)).await.unwrap();
    assert_gave_way(backups[0].next().await.expect("a reason"), "too many backups");
    let _other = begin(from(3)).await.unwrap();
}
