//! Verification: reads every distinct part that a copy refers to, and checks its digest.
//!
//! Several parts are read concurrently, and their results are taken in order, so that a file is counted when
//! its last part is verified. A part that occurs many times is read once. When its permit is revoked for other
//! peers, a verification releases the permit, waits for a new one, and continues.

use std::collections::{HashSet, VecDeque};

use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::{
    budget::Permit,
    error::{Error, Result},
    model::StorePath,
    namespace::{
        content::PartRow,
        files::{self, WalkedFile},
        sql::Tx,
        tree::Target,
    },
    store::{Store, report::Report, run::Run},
};

/// Parts that are read at once: enough to keep two cores hashing while the disk is read.
const IN_FLIGHT: usize = 4;

/// Acquires a permit, and verifies all content below a pinned target.
///
/// # Errors
/// `Corrupt`, naming the file; the reason of the cancellation of the run; those of [`Store::read_part`].
pub(super) async fn run(
    store: &Store,
    target: &Target,
    path: &StorePath,
    report: &mut Report,
    run: &Run,
) -> Result<()> {
    let turn = run.turn(&store.0.budgets.verifies).await?;
    let mut check = Check {
        store,
        report,
        run,
        turn,
        running: VecDeque::new(),
        contents: HashSet::new(),
        parts: HashSet::new(),
    };
    let mut walk = match files::begin(target, path) {
        Ok(files) => files,
        Err(file) => {
            check.file(file).await?;
            return check.drain_to(0).await;
        }
    };
    loop {
        let step = move |tx: &mut Tx<'_>| walk.step(tx).map(|files| (walk, files));
        let files;
        (walk, files) = store.0.engine.read(None, step).await?;
        let Some(files) = files else { return check.drain_to(0).await };
        for file in files {
            check.file(file).await?;
        }
    }
}

/// An entry of the queue: a part that is being read, or the end of a file, at which the file is counted.
enum Running {
    Part { task: JoinHandle<Result<()>>, path: StorePath, bytes: i64 },
    Counted { files: i64, bytes: i64 },
}

struct Check<'a> {
    store: &'a Store,
    report: &'a mut Report,
    run: &'a Run,
    turn: Permit,
    running: VecDeque<Running>,
    contents: HashSet<i64>,
    parts: HashSet<i64>,
}

impl Check<'_> {
    /// If the permit is revoked: waits for the parts that are being read, and renews the permit.
    async fn give_way(&mut self) -> Result<()> {
        // Noted as a stall, since a verification can release its permit at any time.
        self.turn.hold().stalls();
        if !self.turn.hold().is_revoked() {
            return Ok(());
        }
        self.drain_to(0).await?;
        tokio::select! {
            renewed = self.store.0.budgets.verifies.renew(self.run.peer, &mut self.turn) => renewed,
            error = self.run.cancelled() => Err(error),
        }
    }

    async fn file(&mut self, file: WalkedFile) -> Result<()> {
        self.give_way().await?;
        let mut rest = file.size;
        if self.contents.insert(file.content) {
            let mut from = 0;
            while from < file.size {
                let parts = self.store.parts(&file.path, file.content, from).await?;
                from = parts.last().map_or(file.size, |last| last.start + last.size);
                for part in parts {
                    if self.parts.insert(part.id) {
                        rest -= part.size;
                        self.part(&file, part).await?;
                    }
                }
            }
        }
        let times = file.times;
        let bytes = rest.saturating_mul(times);
        self.running.push_back(Running::Counted { files: times, bytes });
        self.drain_to(IN_FLIGHT).await
    }

    async fn part(&mut self, file: &WalkedFile, part: PartRow) -> Result<()> {
        self.give_way().await?;
        let (store, path, bytes) =
            (self.store.clone(), file.path.clone(), part.size.saturating_mul(file.times));
        let checking = {
            let path = path.clone();
            async move { store.check_part(&path, part).await }
        };
        let task = tokio::spawn(checking.in_current_span());
        self.running.push_back(Running::Part { task, path, bytes });
        self.drain_to(IN_FLIGHT).await
    }

    /// Waits for a part, and meanwhile publishes the progress that was counted before.
    async fn wait(&mut self, task: &mut JoinHandle<Result<()>>) -> Result<()> {
        loop {
            tokio::select! {
                checked = &mut *task => return checked.map_err(Error::internal)?,
                () = self.report.due() => self.report.publish(&self.store.0.runs),
                error = self.run.cancelled() => {
                    task.abort();
                    return Err(error);
                }
            }
        }
    }

    /// Takes results until at most `left` entries are in the queue and the first of them is a part.
    async fn drain_to(&mut self, left: usize) -> Result<()> {
        while self.running.len() > left
            || matches!(self.running.front(), Some(Running::Counted { .. }))
        {
            match self.running.pop_front() {
                None => break,
                Some(Running::Counted { files, bytes }) => {
                    let progress = self.report.progress();
                    progress.files_done += files;
                    progress.bytes_done = progress.bytes_done.saturating_add(bytes);
                }
                Some(Running::Part { mut task, path, bytes }) => {
                    self.wait(&mut task).await?;
                    let progress = self.report.progress();
                    progress.bytes_done = progress.bytes_done.saturating_add(bytes);
                    path.as_str().clone_into(&mut progress.current_path);
                }
            }
            self.report.publish(&self.store.0.runs);
        }
        Ok(())
    }
}
