//! The consistency check of the whole store, while it serves or by a private server over a stopped store.
//!
//! The check scans the tables, then the sums, then the parts and their objects, and then the listing of the blob
//! store. It advances only in [`Checking::next`]: it ends when its caller leaves, and a slow caller delays nobody
//! else. An inconsistency that a scan sees is a candidate; it becomes a finding only if one later snapshot
//! confirms it, because writers and reclamation continue meanwhile. A repair has transactions of its own.

use std::collections::VecDeque;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::Instant;

use crate::{
    blob::{self, ObjectInfo, Unlisted},
    budget::{Peer, Permit},
    error::{Error, Kind, Result, chain},
    limits::{
        CHECK_FINDINGS_MAX, CHECK_IN_FLIGHT, PATH_DEPTH_MAX, PROGRESS_EVERY, SWEEP_AGE, micros,
    },
    model::{CheckReport, CheckRequest, Finding, FindingKind},
    namespace::{
        check::{self, Candidate, Lost, Repair, RepairResult, Scan, Verdict},
        content::PartRow,
        counted::Counted,
        garbage, server,
        sql::Tx,
    },
    store::{Call, Store, part::Keep},
};

/// A running check. Dropped, it ends; its repairs stay.
pub struct Checking {
    store: Store,
    request: CheckRequest,
    report: CheckReport,
    at: At,
    candidates: VecDeque<Candidate>,
    /// Whether the scan of folders is a repeated one after a repair of totals, whose findings are not reported.
    is_repeat: bool,
    _turn: Permit,
}

enum At {
    Rows {
        scan: Scan,
        round: usize,
        recounted: bool,
    },
    /// The index of the next sum.
    Sums(usize),
    Parts(i64),
    Objects {
        list: BoxStream<'static, Result<ObjectInfo, Unlisted>>,
        now: i64,
    },
    Done,
    Over,
}

impl std::fmt::Debug for Checking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checking").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins a check, which [`Checking::next`] advances.
    ///
    /// The call shows that the caller is authorized.
    ///
    /// # Errors
    /// `Busy` if another check runs.
    pub fn check(&self, request: CheckRequest, _call: &Call) -> Result<Checking> {
        // One check runs at a time, whoever asks for it.
        let turn = self.0.budgets.checks.try_acquire(Peer::default(), 1);
        let turn = turn
            .map_err(|_| Error::new(Kind::Busy, "another check runs; try again when it is over"))?;
        Ok(Checking {
            store: self.clone(),
            request,
            report: CheckReport::default(),
            at: At::Rows { scan: Scan::default(), round: 0, recounted: false },
            candidates: VecDeque::new(),
            is_repeat: false,
            _turn: turn,
        })
    }
}

impl Checking {
    /// Advances the check for about [`PROGRESS_EVERY`], or until it has [`CHECK_FINDINGS_MAX`] findings to report.
    /// `None` after the last report.
    ///
    /// # Errors
    /// Those of the engine; the check is over then. A failure of the blob store is a finding.
    ///
    /// # Cancel safety
    /// Not cancel safe: after this future is dropped, the check must not be continued.
    pub async fn next(&mut self) -> Result<Option<CheckReport>> {
        if matches!(self.at, At::Over) {
            return Ok(None);
        }
        let until = Instant::now() + PROGRESS_EVERY;
        while self.report.findings.len() < CHECK_FINDINGS_MAX && Instant::now() < until {
            if let Some(candidate) = self.candidates.pop_front() {
                self.judge(candidate).await?;
                continue;
            }
            self.at = match std::mem::replace(&mut self.at, At::Over) {
                At::Rows { scan, round, recounted } => self.rows(scan, round, recounted).await?,
                At::Sums(next) => self.sums(next).await?,
                At::Parts(after) => self.parts(after).await?,
                At::Objects { list, now } => self.objects(list, now).await?,
                At::Done | At::Over => {
                    self.report.done = true;
                    break;
                }
            };
        }
        let findings = std::mem::take(&mut self.report.findings);
        Ok(Some(CheckReport { findings, ..self.report.clone() }))
    }

    fn add_finding(&mut self, finding: Finding) {
        self.report.total += 1;
        self.report.repaired += u64::from(finding.repaired);
        self.report.findings.push(finding);
    }

    /// Judges a candidate in one snapshot, and repairs what can be repaired, if requested.
    async fn judge(&mut self, candidate: Candidate) -> Result<()> {
        let judge = move |tx: &mut Tx<'_>| check::judge(tx, &candidate);
        for Verdict { mut finding, repair } in self.store.0.engine.read(None, judge).await? {
            if let Some(repair) = repair.filter(|_| self.request.repair) {
                finding.repaired = self.store.repair(repair).await?;
            }
            if let At::Rows { recounted, .. } = &mut self.at {
                *recounted |= is_recounted(&finding);
            }
            if !self.is_repeat {
                self.add_finding(finding);
            }
        }
        Ok(())
    }

    /// Scans a page of rows. After a repair of totals those of the parent folders are wrong, so the scan of folders
    /// is repeated. Each round repairs one level, so as many rounds as a path is deep are enough.
    async fn rows(&mut self, mut scan: Scan, round: usize, recounted: bool) -> Result<At> {
        if recounted && scan.is_past_folders() && round < PATH_DEPTH_MAX {
            return Ok(At::Rows { scan: Scan::default(), round: round + 1, recounted: false });
        }
        self.is_repeat = round > 0 && !scan.is_past_folders();
        let step = move |tx: &mut Tx<'_>| scan.step(tx).map(|looked| (scan, looked));
        let (scan, looked) = self.store.0.engine.read(None, step).await?;
        let Some(looked) = looked else { return Ok(At::Sums(0)) };
        self.report.rows += looked.rows;
        self.candidates.extend(looked.candidates);
        Ok(At::Rows { scan, round, recounted })
    }

    /// Compares a sum with a recount.
    async fn sums(&mut self, next: usize) -> Result<At> {
        let Some(what) = Counted::ALL.get(next).copied() else { return Ok(At::Parts(0)) };
        let judge = move |tx: &mut Tx<'_>| check::judge_sum(tx, what);
        if let Some((mut finding, drift)) = self.store.0.engine.read(None, judge).await? {
            if self.request.repair {
                let repair = move |tx: &mut Tx<'_>| {
                    tx.count(what, drift.count, drift.bytes);
                    Ok(())
                };
                self.store.0.engine.write(None, repair).await?;
                finding.repaired = true;
            }
            self.add_finding(finding);
        }
        Ok(At::Sums(next + 1))
    }

    /// Checks the bytes of a page of parts.
    async fn parts(&mut self, after: i64) -> Result<At> {
        let request = self.request;
        let page = move |tx: &mut Tx<'_>| check::stored_parts(tx, after, &request);
        let Some((last, parts)) = self.store.0.engine.read(None, page).await? else {
            let now = self.store.0.engine.read(None, |tx: &mut Tx<'_>| tx.now()).await?;
            return Ok(At::Objects { list: self.store.0.blobs.list(), now });
        };
        let store = self.store.clone();
        let looked = stream::iter(parts)
            .map(|part| store.look_at(part, request))
            .buffered(CHECK_IN_FLIGHT)
            .collect::<Vec<_>>()
            .await;
        for (part, error) in looked {
            self.report.objects += u64::from(part.object.is_some());
            if request.deep {
                self.report.bytes += part.size as u64;
            }
            let Some(error) = error else { continue };
            let (id, lost) = (part.id, lost(&error));
            let verdict =
                move |tx: &mut Tx<'_>| check::judge_lost(tx, id, part.object.as_deref(), lost);
            // A part that was reclaimed meanwhile is neither reported nor logged.
            if let Some(finding) = self.store.0.engine.read(None, verdict).await? {
                let error = chain(&error);
                tracing::warn!(error, part = id, "the bytes of a part are not well");
                self.add_finding(finding);
            }
        }
        Ok(At::Parts(last))
    }

    /// Checks a page of the listing of objects. An error of the listing hides the rest of a folder of the blob store;
    /// if the blob store does not answer, the listing ends.
    async fn objects(
        &mut self,
        mut list: BoxStream<'static, Result<ObjectInfo, Unlisted>>,
        now: i64,
    ) -> Result<At> {
        // A young object without a row may be left by a crash, which is no damage; the sweep deletes it.
        let before = now.saturating_sub(micros(SWEEP_AGE));
        let mut old = Vec::with_capacity(CHECK_FINDINGS_MAX);
        let mut is_last = false;
        while !is_last
            && old.len() < CHECK_FINDINGS_MAX
            && self.report.findings.len() < CHECK_FINDINGS_MAX
        {
            match list.next().await {
                None => is_last = true,
                Some(Ok(object)) => {
                    if object.modified_micros <= before && !self.store.can_be_named(&object, now) {
                        old.push(object);
                    }
                }
                Some(Err(unlisted)) => {
                    is_last = matches!(unlisted.error, blob::Error::Stalled { .. });
                    self.add_finding(not_listed(&unlisted));
                }
            }
        }
        let store = self.store.clone();
        let unknown = move |tx: &mut Tx<'_>| {
            let mut unknown = Vec::new();
            for object in old {
                if let Some(other) = store.other_putter(&object.key)
                    && server::is_alive(tx, &other)?
                {
                    continue;
                }
                if !garbage::is_known_object(tx, &object.key)? {
                    unknown.push(object);
                }
            }
            Ok(unknown)
        };
        for object in self.store.0.engine.read(None, unknown).await? {
            self.unknown(object).await?;
        }
        Ok(if is_last { At::Done } else { At::Objects { list, now } })
    }

    async fn unknown(&mut self, object: ObjectInfo) -> Result<()> {
        // A tombstone is removed only after its object is deleted, so an object that still exists had none.
        let looked = self.store.0.blobs.head(&object.key, object.size).await;
        if matches!(looked, Err(blob::Error::Missing { .. })) {
            return Ok(());
        }
        let (repair, key) = (self.request.repair, object.key.clone());
        let verdict =
            move |tx: &mut Tx<'_>| check::judge_object(tx, &object.key, object.size, repair);
        let engine = &self.store.0.engine;
        let finding = if repair {
            engine.write(None, verdict).await?
        } else {
            engine.read(None, verdict).await?
        };
        let Some(finding) = finding else { return Ok(()) };
        tracing::warn!(object = key, repaired = finding.repaired, "an object belongs to nothing");
        // An object that waits for its deletion is left to reclamation.
        if finding.repaired && self.store.0.config.object_hold.is_zero() {
            // If the delete fails, reclamation tries it again.
            self.store.delete_objects(vec![key]).await?;
        }
        self.add_finding(finding);
        Ok(())
    }
}

/// The finding that objects cannot be listed. Logs the error.
fn not_listed(Unlisted { folder, error }: &Unlisted) -> Finding {
    let error = chain(error);
    tracing::warn!(folder, error, "a folder of the blob store cannot be listed");
    let message = format!(
        "objects in the folder {folder} of the blob store cannot be listed, so that some which belong \
         to nothing may not be told; the server's log says why"
    );
    Finding {
        kind: FindingKind::ObjectsUnlisted,
        message,
        paths: Vec::new(),
        more_paths: false,
        repaired: false,
    }
}

fn is_recounted(finding: &Finding) -> bool {
    finding.kind == FindingKind::FolderTotals && finding.repaired
}

impl Store {
    /// Runs a repair in steps. Returns whether the inconsistency is repaired.
    async fn repair(&self, repair: Repair) -> Result<bool> {
        loop {
            let again = repair.clone();
            let step = move |tx: &mut Tx<'_>| check::repair(tx, &again);
            match self.0.engine.write(None, step).await? {
                RepairResult::More => {}
                RepairResult::Yes => return Ok(true),
                RepairResult::No => return Ok(false),
            }
        }
    }

    /// Checks that the bytes of a part exist, and in a deep check that they have its digest.
    async fn look_at(
        &self,
        part: PartRow,
        request: CheckRequest,
    ) -> (PartRow, Option<blob::Error>) {
        let result = match (&part.bytes, &part.object) {
            (None, Some(object)) if !request.deep => {
                self.0.blobs.head(object, part.size as u64).await
            }
            // A part without bytes is a finding of the scan of rows.
            (None, None) => Ok(()),
            (Some(_), _) | (None, Some(_)) => self.fetch(&part, Keep::Nothing).await.map(drop),
        };
        (part, result.err())
    }
}

/// Translates an error of the blob store into the state of the bytes of a part.
fn lost(error: &blob::Error) -> Lost {
    match error {
        blob::Error::Missing { .. } => Lost::Missing,
        blob::Error::Corrupt { .. } => Lost::Damaged,
        blob::Error::Io(_) | blob::Error::NoSpace(_) | blob::Error::Stalled { .. } => {
            Lost::Unreadable
        }
    }
}
