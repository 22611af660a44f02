//! CPU-bound work that would hold a thread of the runtime for too long: moved to the blocking pool.
//!
//! A thread of the runtime serves many calls in turn, so a call that parses megabytes on it delays the others.
//! Work of some tens of microseconds stays on its thread: a change of threads takes as long.

use std::{future::pending, panic::resume_unwind};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::{block_in_place, spawn_blocking},
};
use tracing::Span;

use crate::limits::{OFFLOAD_BYTES_MIN, OFFLOADS_MAX};

/// The permits of work on the blocking pool. They have no shares among peers: such work waits for nobody and
/// takes some milliseconds, and the bytes of a caller that waits are in a budget that has shares.
static TURNS: Semaphore = Semaphore::const_new(OFFLOADS_MAX);

/// Runs work whose duration grows with `bytes`. From [`OFFLOAD_BYTES_MIN`] on it runs on the blocking pool, at
/// most [`OFFLOADS_MAX`] at once; further work waits. It runs in the tracing span of the caller.
///
/// # Panics
/// If the work panics.
///
/// # Cancel safety
/// Can be dropped. Work that has begun runs to its end, and its result is lost.
pub async fn run<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes < OFFLOAD_BYTES_MIN {
        return work();
    }
    // The semaphore is never closed.
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
            // The runtime shuts down, which drops this future, too.
            Err(_) => pending().await,
        },
    }
}

/// Runs long work inside a poll of a task, on this thread. Another thread takes over the other tasks of this
/// one, which costs some microseconds. On a runtime of one thread the other tasks wait.
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
        // The last one has no permit, so its work never begins and its sender is dropped with it.
        drop(all.pop());
        drop(begun);
        drop(ends);
        for work in all {
            work.await;
        }
        assert_eq!(has_begun.iter().count(), OFFLOADS_MAX);
    }
}
