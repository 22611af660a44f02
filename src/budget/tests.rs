//! Tests of how peers share a budget.

use std::net::Ipv4Addr;

use futures::{FutureExt, future::BoxFuture};
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A peer of the tests.
fn peer(number: u8) -> Peer {
    Peer::from(std::net::IpAddr::from(Ipv4Addr::new(10, 0, 0, number)))
}

/// A budget of 16: a share is 4, the reserve 2.
fn budget() -> Budget {
    Budget::new("tests", 16)
}

fn queue(waiting: usize) -> Budget {
    budget().with_queue(waiting, 30 * SECOND)
}

/// Acquires `count` permits of one unit each.
fn take(budget: &Budget, number: u8, count: usize) -> Vec<Permit> {
    (0..count).map(|_| budget.try_acquire(peer(number), 1).expect("enough")).collect()
}

#[track_caller]
fn assert_busy(result: Result<Permit>) {
    let error = result.expect_err("too little");
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(error.message(), "the server has too many tests; try again later");
}

/// A request that is in the queue.
fn waits(budget: &Budget, number: u8, amount: usize) -> BoxFuture<'static, Result<Permit>> {
    let budget = budget.clone();
    let mut wait = async move { budget.acquire(peer(number), amount).await }.boxed();
    assert!((&mut wait).now_or_never().is_none(), "it does not wait");
    wait
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_comes_back() {
    let budget = budget();
    let mut permit = budget.try_acquire(peer(1), 2).expect("enough");
    permit.grow(3).expect("enough");
    assert_eq!((permit.amount(), budget.free()), (5, 11));
    let error = permit.grow(12).expect_err("too much");
    assert_eq!((error.kind(), permit.amount(), budget.free()), (Kind::Busy, 5, 11));
    permit.shrink(1);
    assert_eq!((permit.amount(), budget.free()), (4, 12));
    permit.shrink(9);
    assert_eq!((permit.amount(), budget.free()), (0, 16));
    permit.grow(1).expect("enough");
    drop(permit);
    assert_eq!(budget.free(), 16);
    assert!(budget.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_peer_may_have_all_but_the_reserve() {
    let budget = budget();
    let greedy = take(&budget, 1, 14);
    assert_busy(budget.try_acquire(peer(1), 1));
    assert!(budget.is_scarce(1));
    let newcomers = [take(&budget, 2, 1), take(&budget, 3, 1)];
    assert_busy(budget.try_acquire(peer(4), 1));
    drop((greedy, newcomers));
    assert!(budget.lock().is_empty() && !budget.is_scarce(14) && budget.is_scarce(15));
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_anything_may_have_more_than_a_share() {
    let budget = budget();
    let large = budget.try_acquire(peer(1), 16).expect("all of it");
    assert_busy(budget.try_acquire(peer(2), 1));
    drop(large);
    assert_busy(budget.try_acquire(peer(1), 17));
    assert_busy(queue(8).acquire(peer(1), 17).await);
    let one = Budget::new("tests", 1);
    let held = one.try_acquire(peer(1), 1).expect("the one");
    assert_busy(one.try_acquire(peer(2), 1));
    drop(held);
    drop(one.try_acquire(peer(2), 1).expect("the one"));
}

#[tokio::test(start_paused = true)]
async fn whoever_is_below_his_share_goes_first_and_the_others_in_order() {
    let budget = queue(8);
    let mut greedy = take(&budget, 1, 14);
    let third = waits(&budget, 1, 1);
    let fourth = waits(&budget, 1, 1);
    let newcomers = take(&budget, 2, 2);
    let second = waits(&budget, 2, 2);
    greedy.pop();
    // Free permits are for the first waiter, although later requests would fit.
    assert_busy(budget.try_acquire(peer(1), 1));
    assert_busy(budget.try_acquire(peer(3), 1));
    greedy.pop();
    let second = second.now_or_never().expect("his turn").expect("granted");
    assert!(greedy.len() == 12 && budget.free() == 0);
    greedy.truncate(10);
    let mut third = third;
    assert!((&mut third).now_or_never().is_none(), "the reserve comes first");
    greedy.truncate(9);
    let third = third.now_or_never().expect("his turn").expect("granted");
    let mut fourth = fourth;
    assert!((&mut fourth).now_or_never().is_none(), "one after the other");
    drop((third, second, newcomers, greedy));
    drop(fourth.now_or_never().expect("his turn").expect("granted"));
    assert!(budget.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_and_leaves_nothing() {
    let budget = queue(8);
    let all = take(&budget, 1, 14);
    let rest = take(&budget, 2, 2);
    let begun = Instant::now();
    assert_busy(budget.acquire(peer(3), 1).await);
    assert_eq!(begun.elapsed(), 30 * SECOND);
    drop(waits(&budget, 3, 1));
    // A waiter that is dropped after its grant releases it.
    let late = waits(&budget, 3, 1);
    drop(rest);
    assert_eq!(budget.free(), 1);
    drop(late);
    assert_eq!(budget.free(), 2);
    // A waiter that leaves no longer blocks those behind it.
    let large = waits(&budget, 3, 4);
    let small = waits(&budget, 4, 1);
    drop(large);
    drop(small.now_or_never().expect("his turn").expect("granted"));
    drop(all);
    assert!(budget.lock().is_empty());
    let endless = Budget::new("tests", 1).with_queue(1, Duration::MAX);
    let held = endless.try_acquire(peer(1), 1).expect("the one");
    let mut wait = waits(&endless, 2, 1);
    advance(Duration::from_hours(24)).await;
    assert!((&mut wait).now_or_never().is_none());
    drop(held);
    drop(wait.await.expect("granted"));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_shared() {
    let budget = queue(8);
    let _all = (take(&budget, 1, 14), take(&budget, 2, 1), take(&budget, 3, 1));
    let mut waiting = Vec::new();
    for _ in 0..7 {
        waiting.push(waits(&budget, 1, 1));
    }
    assert_busy(budget.acquire(peer(1), 1).await);
    waiting.push(waits(&budget, 4, 1));
    assert_busy(budget.acquire(peer(5), 1).await);
    waiting.pop();
    waiting.push(waits(&budget, 5, 1));
    assert_busy(Budget::new("tests", 0).acquire(peer(1), 1).await);
}

/// Notes that the clients of all permits stall from now on.
fn stall(permits: &[Permit]) {
    for permit in permits {
        permit.hold().stalls();
    }
}

/// The indices of the revoked permits.
fn revoked(permits: &[Permit]) -> Vec<usize> {
    (0..permits.len()).filter(|&place| permits[place].hold().is_revoked()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_oldest_stalled_goes_first_and_nobody_who_moves() {
    let budget = queue(8);
    let mut greedy = take(&budget, 1, 14);
    for place in [5, 3, 7] {
        greedy[place].hold().stalls();
        advance(SECOND).await;
    }
    // A repeated note does not change when the stall began.
    greedy[5].hold().stalls();
    greedy[9].hold().stalls();
    greedy[3].hold().progress();
    assert_eq!(revoked(&greedy), [0; 0], "nobody needs anything");
    // Two new peers take the reserve; permits are revoked to fill it again.
    let second = take(&budget, 2, 1);
    assert_eq!(revoked(&greedy), [5]);
    let third = take(&budget, 3, 1);
    assert_eq!(revoked(&greedy), [5, 7]);
    let mut fourth = waits(&budget, 4, 3);
    assert_eq!(revoked(&greedy), [5, 7], "the others move, or stand still for no second yet");
    advance(SECOND).await;
    assert!((&mut fourth).now_or_never().is_none());
    assert_eq!(revoked(&greedy), [5, 7, 9]);
    let error = greedy[5].hold_mut().revoked().await;
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.message().contains("its client had too many tests"), "{error}");
    assert!(greedy[0].hold_mut().revoked().now_or_never().is_none());
    for place in [9, 7, 5] {
        drop(greedy.remove(place));
    }
    assert_eq!(fourth.await.expect("granted").amount(), 3);
    drop((greedy, second, third));
    assert!(budget.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_within_his_share_is_cut_and_nobody_beyond_it() {
    let budget = queue(8);
    let crowd: Vec<_> = (1..=3).flat_map(|number| take(&budget, number, 4)).collect();
    stall(&crowd);
    let fourth = take(&budget, 4, 4);
    advance(2 * SECOND).await;
    drop(waits(&budget, 5, 1));
    assert_eq!(revoked(&crowd), [0; 0]);
    drop((crowd, fourth));
    // A peer loses permits down to its share, and not below.
    let greedy = take(&budget, 1, 6);
    stall(&greedy);
    let _others: Vec<_> = [2, 3].iter().flat_map(|&number| take(&budget, number, 4)).collect();
    advance(2 * SECOND).await;
    drop(waits(&budget, 4, 4));
    assert_eq!(revoked(&greedy), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_greedy_peer_in_need_cuts_nobody() {
    let budget = queue(8);
    let first = take(&budget, 1, 7);
    let second = take(&budget, 2, 7);
    stall(&second);
    advance(2 * SECOND).await;
    drop(waits(&budget, 1, 1));
    assert_eq!(revoked(&second), [0; 0]);
    // A refused request of a peer below its share revokes permits.
    let third = take(&budget, 3, 2);
    assert_eq!(revoked(&second).len(), 2);
    drop(budget.try_acquire(peer(4), 3));
    assert_eq!(revoked(&second).len(), 3);
    drop((first, second, third));
    assert!(budget.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_comes_back_before_more_of_the_same_peer() {
    let budget = queue(8);
    let mut greedy = take(&budget, 1, 14);
    let second = take(&budget, 2, 2);
    let mut later = waits(&budget, 1, 1);
    let third = waits(&budget, 3, 1);
    let mut renewed = Box::pin(budget.renew(peer(1), &mut greedy[0]));
    assert!((&mut renewed).now_or_never().is_none(), "others have it");
    let third = third.now_or_never().expect("his turn").expect("granted");
    drop((second, third));
    assert!((&mut later).now_or_never().is_none(), "one who came later");
    renewed.now_or_never().expect("its turn").expect("granted");
    assert!(greedy[0].amount() == 1 && budget.free() == 2);
    // With an empty queue the renewal succeeds at once; a renewal that is dropped leaves the permit empty.
    drop(later);
    greedy.truncate(2);
    budget.renew(peer(1), &mut greedy[0]).now_or_never().expect("at once").expect("granted");
    assert_eq!(budget.free(), 14);
    greedy.extend(take(&budget, 1, 5));
    let others = take(&budget, 2, 7);
    let newcomer = take(&budget, 3, 2);
    let fourth = waits(&budget, 4, 1);
    drop(Box::pin(budget.renew(peer(1), &mut greedy[0])).now_or_never());
    assert_eq!(greedy[0].amount(), 0);
    drop((others, newcomer, greedy));
    drop(fourth.now_or_never().expect("his turn").expect("granted"));
    assert!(budget.lock().is_empty());
}
