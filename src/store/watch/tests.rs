//! The order of a change and the end of a drain.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use futures::future::BoxFuture;

use super::*;
use crate::error::Kind;

/// How many receivers there are. The sender notifies them in an order that it chooses at random.
const RECEIVERS: usize = 64;

type Waiting = Mutex<Vec<BoxFuture<'static, Result<bool>>>>;

/// A task that ends the drain as soon as it sees the value, when some receivers are not notified yet.
struct Drain {
    draining: CancellationToken,
    waiting: Waiting,
    polled: Mutex<Vec<Poll<Result<bool>>>>,
}

impl Wake for Drain {
    fn wake(self: Arc<Self>) {
        self.draining.cancel();
        for each in self.waiting.lock().expect("no panic").iter_mut() {
            self.polled.lock().expect("no panic").push(poll(each, Waker::noop()));
        }
    }
}

fn poll<T>(future: &mut BoxFuture<'_, T>, waker: &Waker) -> Poll<T> {
    future.poll_unpin(&mut Context::from_waker(waker))
}

#[test]
fn a_change_before_the_end_of_the_drain_is_seen() {
    let (sender, receiver) = watch::channel(());
    let draining = CancellationToken::new();
    let receive = |_| {
        let (mut receiver, draining) = (receiver.clone(), draining.clone());
        async move { changed(&mut receiver, &draining).await }.boxed()
    };
    let mut waiting: Vec<_> = (0..RECEIVERS).map(receive).collect();
    assert!(waiting.iter_mut().all(|each| poll(each, Waker::noop()).is_pending()));
    let (waiting, polled) = (Mutex::new(waiting), Mutex::default());
    let drain = Arc::new(Drain { draining, waiting, polled });
    let mut receiver = receiver.clone();
    let mut drains = receiver.changed().boxed();
    assert!(poll(&mut drains, &Waker::from(Arc::clone(&drain))).is_pending());

    sender.send_replace(());

    let polled = drain.polled.lock().expect("no panic");
    assert_eq!(polled.len(), RECEIVERS);
    assert!(polled.iter().all(|each| matches!(each, Poll::Ready(Ok(true)))), "{polled:?}");
}

#[tokio::test]
async fn the_end_of_the_drain_ends_the_wait() {
    let (sender, mut receiver) = watch::channel(());
    let draining = CancellationToken::new();
    draining.cancel();
    let error = changed(&mut receiver, &draining).await.expect_err("drained");
    assert_eq!(error.kind(), Kind::Busy);
    drop(sender);
    assert!(!changed(&mut receiver, &draining).await.expect("it is seen"));
}
