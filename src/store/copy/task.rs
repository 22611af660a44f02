//! The task that owns a copy: only this task begins the copy, works on it, and writes the end of its row.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;

use crate::{
    error::{Error, Kind, Result},
    limits::{ENTRY_ROW_BYTES, FILTER_STEP_ROWS, VERDICT_RETRY_FIRST, VERDICT_RETRY_MAX},
    model::{CopyRequest, Operation, OperationId, OperationState},
    namespace::{
        copy::{self, START_PINS, Started},
        filter::{BUILD_PINS, Build, Search},
        operation,
        pin::Owner,
        sql::Tx,
        tree::Target,
    },
    store::{
        Store,
        report::Report,
        run::{Run, State},
        verify,
    },
};

/// Owns a run until it has ended.
pub(super) async fn own(store: Store, run: Arc<Run>, request: Arc<CopyRequest>) {
    let life = async {
        if let Some((target, work)) = begin(&store, &run, &request).await {
            work.run(target).await;
        }
    };
    tokio::select! {
        () = life => {}
        never = run.keep_deadlines() => match never {},
    }
}

/// Begins the copy. Returns the work that is left, or `None` if the run has ended.
async fn begin(
    store: &Store,
    run: &Arc<Run>,
    request: &Arc<CopyRequest>,
) -> Option<(Target, Work)> {
    let runs = &store.0.runs;
    let space = &store.0.space;
    let room = async {
        if request.skip_files.is_empty() {
            space.check_change().await
        } else {
            space.check_rows(FILTER_STEP_ROWS as u64 * ENTRY_ROW_BYTES).await
        }
    };
    if let Err(error) = unless_cancelled(run, room).await {
        runs.end_unchanged(run, State::Refused(error));
        return None;
    }
    let has_started = Arc::new(AtomicBool::new(false));
    match start(store, run, request, &has_started).await {
        Ok(Started::Done(_)) => None,
        Ok(Started::Earlier(operation)) if operation.state.is_final() => {
            runs.end_unchanged(run, State::Known(Box::new(operation)));
            None
        }
        Ok(Started::Earlier(_)) => {
            runs.end_unchanged(run, State::Elsewhere);
            None
        }
        Ok(Started::Begun(operation, target, number)) => {
            let owner = operation::owner(number, &store.0.server);
            let report = Report::new(Arc::clone(run), operation);
            let (store, request, run) = (store.clone(), Arc::clone(request), Arc::clone(run));
            Some((target, Work { store, request, run, number, owner, report }))
        }
        Err(error) => {
            // The error is logged once, and not for each caller.
            error.report();
            let error = error.logged();
            if has_started.load(Ordering::Acquire) {
                runs.refuse_in_doubt(run, error);
                resolve(store, request).await;
                runs.settled(run);
            } else {
                runs.end_unchanged(run, State::Refused(error));
            }
            None
        }
    }
}

/// Awaits work that may be dropped, until the run is cancelled.
async fn unless_cancelled(run: &Run, work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        biased;
        why = run.cancelled() => Err(why),
        done = work => done,
    }
}

/// Runs the first transaction. If it fails, `has_started` says whether it failed at the commit, so that its
/// outcome may be unknown.
async fn start(
    store: &Store,
    run: &Arc<Run>,
    request: &Arc<CopyRequest>,
    has_started: &Arc<AtomicBool>,
) -> Result<Started> {
    let (asked, server, begun) = (Arc::clone(request), store.0.server.clone(), Arc::clone(run));
    let has_started = Arc::clone(has_started);
    let start = move |tx: &mut Tx<'_>| {
        begun.check()?;
        let started = copy::start(tx, &asked, &server, (begun.caller.name(), begun.credential()))?;
        has_started.store(true, Ordering::Release);
        Ok(started)
    };
    let recorder = store.clone();
    let record = move |started: &Started| match started {
        Started::Done(operation) | Started::Begun(operation, ..) => {
            recorder.0.runs.record(operation);
        }
        Started::Earlier(_) => {}
    };
    store.0.engine.write_unless(run.cancelled(), start, record).await
}

/// Ends the operation that a first transaction with an unknown outcome may have begun.
async fn resolve(store: &Store, request: &CopyRequest) {
    let (id, fingerprint) = (request.id, request.fingerprint());
    until_verdict(store, id, || {
        let (store, server) = (store.clone(), store.0.server.clone());
        let resolve = move |tx: &mut Tx<'_>| match operation::find(tx, id)? {
            Some(found) if found.fingerprint == fingerprint => {
                let error = Error::new(Kind::Cancelled, "the database failed while the copy began");
                copy::abandon(tx, &found, &server, &error)
            }
            _ => Ok(None),
        };
        let recorder = store.clone();
        let record = move |ended: &Option<_>| {
            if let Some(operation) = ended {
                recorder.0.runs.record(operation);
            }
        };
        async move { store.0.engine.write_and(None, resolve, record).await.map(drop) }
    })
    .await;
}

/// Repeats a transaction, with backoff, until it succeeds or the store closes. In the latter case the next start
/// ends the operation.
async fn until_verdict<F>(store: &Store, id: OperationId, mut transaction: impl FnMut() -> F)
where
    F: Future<Output = Result<()>>,
{
    let mut wait: Duration = VERDICT_RETRY_FIRST;
    let mut has_failed = false;
    loop {
        let verdict = tokio::select! {
            verdict = transaction() => verdict,
            () = store.0.stop.cancelled() => return,
        };
        let Err(error) = verdict else { return };
        // A repeated failure is logged once.
        if !std::mem::replace(&mut has_failed, true) {
            error.report();
            tracing::warn!(%id, "a copy cannot be ended; it is tried again until it can");
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = store.0.stop.cancelled() => return,
        }
        wait = (wait * 2).min(VERDICT_RETRY_MAX);
    }
}

/// A copy that takes more than one transaction.
struct Work {
    store: Store,
    request: Arc<CopyRequest>,
    run: Arc<Run>,
    /// The number of the run of the operation.
    number: i64,
    owner: Owner,
    report: Report,
}

impl Work {
    async fn run(mut self, target: Target) {
        let worked = AssertUnwindSafe(self.work(target)).catch_unwind().await;
        let error = match worked {
            Ok(Ok(())) => return,
            Ok(Err(error)) if error.kind() == Kind::Cancelled && self.is_cancelled() => {
                self.run.why()
            }
            Ok(Err(error)) => error,
            Err(_) => Error::internal("the work of a copy panicked"),
        };
        self.fail(&error).await;
    }

    async fn work(&mut self, target: Target) -> Result<()> {
        let (target, pins) = match target {
            Target::Folder(folder) if !self.request.skip_files.is_empty() => {
                self.filter(folder).await?
            }
            Target::Folder(_) | Target::File(_) => (target, START_PINS),
        };
        if self.request.verify {
            let source = self.request.source.clone();
            verify::run(&self.store, &target, &source, &mut self.report, &self.run).await?;
        }
        let mut progress = self.report.progress().clone();
        progress.files_done = progress.files_total - progress.files_skipped;
        progress.bytes_done = progress.bytes_total - progress.bytes_skipped;
        let (request, number, owner) = (Arc::clone(&self.request), self.number, self.owner.clone());
        let run = Arc::clone(&self.run);
        let finish = move |tx: &mut Tx<'_>| {
            run.check()?;
            copy::finish(tx, &request, (number, &owner), (&target, pins), &progress)
        };
        let engine = &self.store.0.engine;
        engine.write_unless(self.run.cancelled(), finish, recorder(&self.store)).await.map(drop)
    }

    fn is_cancelled(&self) -> bool {
        self.run.token().is_cancelled()
    }

    /// Builds the filtered folder, which no path refers to yet. Returns it and the number of pins that hold it.
    async fn filter(&mut self, folder: i64) -> Result<(Target, usize)> {
        // The permit is not revoked, since the state of a long search would be lost.
        let _turn = self.run.turn(&self.store.0.budgets.filters).await?;
        let mut search = Search::new(folder, self.request.skip_files.clone());
        loop {
            self.run.check()?;
            let step = move |tx: &mut Tx<'_>| search.step(tx).map(|done| (search, done));
            let done;
            (search, done) = self.store.0.engine.read(None, step).await?;
            self.report.publish(&self.store.0.runs);
            if done {
                break;
            }
        }
        self.report.progress().skip_files_unmatched = search.unmatched();
        let Some(mut build) = search.plan()? else {
            return Ok((Target::Folder(folder), START_PINS));
        };
        loop {
            let room = self.store.0.space.check_rows(FILTER_STEP_ROWS as u64 * ENTRY_ROW_BYTES);
            unless_cancelled(&self.run, room).await?;
            let (owner, mut progress) = (self.owner.clone(), self.report.progress().clone());
            let number = self.number;
            let step = move |tx: &mut Tx<'_>| {
                operation::check_pins(tx, number, build.pins())?;
                let root = Build::step(&mut build, tx, &owner, &mut progress)?;
                Ok((build, progress, root))
            };
            let engine = &self.store.0.engine;
            let (next, progress, root) =
                engine.write_unless(self.run.cancelled(), step, |_| ()).await?;
            build = next;
            // With `verify`, files and bytes are counted as done later, when they are verified.
            let reported = self.report.progress();
            if self.request.verify {
                reported.files_skipped = progress.files_skipped;
                reported.bytes_skipped = progress.bytes_skipped;
            } else {
                *reported = progress;
            }
            self.report.publish(&self.store.0.runs);
            if let Some(root) = root {
                return Ok((Target::Folder(root), BUILD_PINS));
            }
        }
    }

    /// Ends the row of a copy that did not succeed. If the final transaction was committed after all, and only its
    /// outcome was lost, the row stays as it is.
    async fn fail(&mut self, error: &Error) {
        error.report();
        let cancelled = error.kind() == Kind::Timeout && self.is_cancelled();
        let state = if cancelled || error.kind() == Kind::Cancelled {
            OperationState::Cancelled
        } else {
            OperationState::Failed
        };
        let progress = self.report.progress().clone();
        let (id, number) = (self.request.id, self.number);
        until_verdict(&self.store, id, || {
            let (store, owner) = (self.store.clone(), self.owner.clone());
            let (error, progress) = (error.clone(), progress.clone());
            let end = move |tx: &mut Tx<'_>| {
                copy::give_up(tx, (number, &owner), (state, &error), &progress)?;
                // After a cancellation on another server the operation may run there anew, or its row may be gone.
                let found = operation::find(tx, id)?.filter(|found| found.run == number);
                Ok(found.map(|found| found.operation))
            };
            let (recorder, run) = (store.clone(), Arc::clone(&self.run));
            let record = move |found: &Option<Operation>| match found {
                Some(operation) => recorder.0.runs.record(operation),
                None => recorder.0.runs.end_unchanged(&run, State::Elsewhere),
            };
            async move { store.0.engine.write_and(None, end, record).await.map(drop) }
        })
        .await;
    }
}

/// A callback that records the operation which a transaction has changed.
fn recorder(store: &Store) -> impl FnOnce(&Operation) + Send + 'static {
    let store = store.clone();
    move |operation| store.0.runs.record(operation)
}
