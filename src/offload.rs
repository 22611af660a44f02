//! Work that would hold a thread of the runtime for too long: on the blocking pool.
//!
//! A thread of the runtime serves all calls in turn, so one that parses megabytes stops them all. What
//! takes no more than some tens of microseconds stays where it is: to change the thread takes as long.

use std::{future::pending, panic::resume_unwind};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::{block_in_place, spawn_blocking},
};
use tracing::Span;

use crate::limits::{OFFLOAD_BYTES_MIN, OFFLOADS_MAX};

/// The turns of all who work on much at once. They need no shares: such work waits for nobody and takes
/// some milliseconds, and whoever waits for a turn holds his bytes, of which each peer has a share.
static TURNS: Semaphore = Semaphore::const_new(OFFLOADS_MAX);

/// Does work that takes its time with so many bytes: elsewhere, from [`OFFLOAD_BYTES_MIN`] on, where at
/// most [`OFFLOADS_MAX`] of it go on at once and further ones wait. Its lines in the log are those of the
/// caller.
///
/// # Panics
/// Where the work does.
///
/// # Cancel safety
/// Can be dropped. Work that has begun goes on, and nobody sees its result.
pub async fn run<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes < OFFLOAD_BYTES_MIN {
        return work();
    }
    // Nobody closes it.
    let turn = TURNS.acquire().await.ok();
    let span = Span::current();
    let work = move || {
        let _turn = turn;
        span.in_scope(work)
    };
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and with it whoever waits.
            Err(_) => pending().await,
        },
    }
}

/// Does on this thread what has to be done in one poll of a task and may take its time. Meanwhile another
/// thread serves the other tasks of this one. It costs some microseconds. A runtime of one thread has no
/// other: there they wait.
#[expect(clippy::disallowed_methods, reason = "what the library does in a poll cannot be moved")]
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_much_work_changes_the_thread() {
        let here = thread::current().id();
        assert_eq!(run(OFFLOAD_BYTES_MIN - 1, || thread::current().id()).await, here);
        assert_ne!(run(OFFLOAD_BYTES_MIN, || thread::current().id()).await, here);
    }

    #[tokio::test]
    async fn a_panic_is_that_of_the_caller() {
        for bytes in [0, OFFLOAD_BYTES_MIN] {
            let work = std::panic::AssertUnwindSafe(run(bytes, || panic!("as told")));
            let panic = work.catch_unwind().await.expect_err("a panic");
            assert_eq!(panic.downcast_ref(), Some(&"as told"));
        }
    }

    #[tokio::test]
    async fn so_much_work_goes_on_at_once() {
        let (begun, has_begun) = mpsc::channel();
        let mut ends = Vec::new();
        let mut all = Vec::new();
        for _ in 0..=OFFLOADS_MAX {
            let ((end, is_over), begun) = (mpsc::channel::<()>(), begun.clone());
            ends.push(end);
            let mut work = Box::pin(run(OFFLOAD_BYTES_MIN, move || {
                begun.send(()).expect("a listener");
                is_over.recv().ok();
            }));
            assert!(work.as_mut().now_or_never().is_none());
            all.push(work);
        }
        // The last one has no turn, so only its end of the channel is left when it is dropped.
        drop(all.pop());
        drop(begun);
        drop(ends);
        for work in all {
            work.await;
        }
        assert_eq!(has_begun.iter().count(), OFFLOADS_MAX);
    }
}
