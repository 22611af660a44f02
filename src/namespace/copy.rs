//! The transactions of a copy.
//!
//! Without skips and without `verify` there is one: [`start`] resolves, checks and replaces the entry.
//! Otherwise [`start`] pins the source and writes the row as running; what the copy builds beside the
//! tree is in [`super::filter`]; [`finish`] makes it visible.

use crate::{
    error::{Error, Kind, Result},
    model::{
        CopyRequest, IfExists, Operation, OperationKind, OperationState, Progress, StorePath,
        Totals, reserved,
    },
    namespace::{
        condition, operation,
        pin::{self, Owner},
        reach,
        sql::Tx,
        tree::{self, Target},
    },
};

/// What became of the request of a copy.
#[derive(Clone, Debug)]
pub enum Started {
    /// It is done.
    Done(Operation),
    /// An earlier request of the same id has succeeded, or runs on another server.
    Earlier(Operation),
    /// The source is pinned, and the work begins: this run of it.
    Begun(Operation, Target, i64),
}

/// The pins that [`start`] makes.
pub const START_PINS: usize = 1;

/// Begins a copy, and ends it where one transaction is enough.
///
/// # Errors
/// `FileNotFound` for a missing source or mark, `Reserved`, `AlreadyExists` below a file, `WriteConflict`,
/// `PathTooLong`, `TooLarge`, `PreconditionFailed`; nothing has changed then.
pub fn start(tx: &mut Tx<'_>, request: &CopyRequest, server: &str) -> Result<Started> {
    let fingerprint = request.fingerprint();
    if let Some(operation) = operation::earlier(tx, request.id, &fingerprint, server)? {
        return Ok(Started::Earlier(operation));
    }
    request.check()?;
    let target = source(tx, request)?;
    let totals = tree::totals(tx, &target)?;
    let mut operation = running(tx, request, totals)?;
    if matches!(target, Target::File(_)) {
        // The list is not looked at.
        operation.progress.skip_files_unmatched = request.skip_files.unmatched(|_| false);
    }
    let is_filtered = matches!(target, Target::Folder(_)) && !request.skip_files.is_empty();
    let is_same = request.source == request.destination;
    condition::check(tx, &request.destination, &request.conditions)?;
    let is_kept = !is_same && is_kept(tx, request)?;
    let is_noop = is_same || is_kept;
    if is_noop || !(is_filtered || request.verify) {
        let files_replaced = if is_noop { 0 } else { put(tx, request, &target)? };
        operation.state = OperationState::Succeeded;
        operation.finished = Some(operation.started);
        operation.progress = Progress {
            files_replaced,
            skip_files_unmatched: operation.progress.skip_files_unmatched,
            ..if is_kept { all_skipped(totals) } else { all_done(totals) }
        };
        operation::insert(tx, &mut operation, &fingerprint, server)?;
        return Ok(Started::Done(operation));
    }
    if request.if_exists == IfExists::ReplaceSameKind {
        tree::check_same_kind(tx, &request.destination, &target, "destination")?;
    } else {
        tree::look(tx, &request.destination, "destination")?;
    }
    if !is_filtered {
        reach::check(tx, &request.destination, &target, "destination")?;
    }
    let run = operation::insert(tx, &mut operation, &fingerprint, server)?;
    pin::pin(tx, &operation::owner(run, server), target.as_ref())?;
    Ok(Started::Begun(operation, target, run))
}

/// Puts what is copied at the destination. Returns how many files it replaces.
///
/// # Errors
/// Those of [`tree::put`]; `AlreadyExists` where only what is of the same kind may be replaced.
fn put(tx: &mut Tx<'_>, request: &CopyRequest, target: &Target) -> Result<i64> {
    if request.if_exists == IfExists::ReplaceSameKind {
        tree::check_same_kind(tx, &request.destination, target, "destination")?;
    }
    Ok(tree::put(tx, &request.destination, target, "destination")?.files)
}

fn source(tx: &mut Tx<'_>, request: &CopyRequest) -> Result<Target> {
    let missing = |what: &str, path: &StorePath| {
        Error::new(Kind::FileNotFound, format!("{what} \"{path}\" does not exist"))
            .field("source")
            .with("path", path.as_str())
    };
    let target =
        tree::resolve(tx, &request.source)?.ok_or_else(|| missing("source", &request.source))?;
    if request.check_mark_file
        && let Target::Folder(folder) = target
        && !tree::has_mark(tx, folder)?
    {
        return Err(missing("mark file", &request.source.child(crate::model::MARK_FILE)));
    }
    if request.destination.is_reserved() && request.source != request.destination {
        return Err(reserved(&request.destination, "destination"));
    }
    Ok(target)
}

/// Whether the destination is there and to be kept.
fn is_kept(tx: &mut Tx<'_>, request: &CopyRequest) -> Result<bool> {
    if request.if_exists != IfExists::Keep {
        return Ok(false);
    }
    Ok(match tree::resolve(tx, &request.destination)? {
        None => false,
        Some(Target::File(_)) => true,
        Some(Target::Folder(folder)) => !request.check_mark_file || tree::has_mark(tx, folder)?,
    })
}

fn running(tx: &mut Tx<'_>, request: &CopyRequest, totals: Totals) -> Result<Operation> {
    let now = tx.now()?;
    Ok(Operation {
        id: request.id,
        kind: OperationKind::Copy,
        state: OperationState::Running,
        source: request.source.clone(),
        destination: request.destination.clone(),
        progress: Progress {
            files_total: totals.files,
            bytes_total: totals.bytes,
            ..Progress::default()
        },
        started: now,
        updated: now,
        finished: None,
        error: None,
        change: 0,
    })
}

/// The progress of work that left nothing out.
pub fn all_done(totals: Totals) -> Progress {
    Progress {
        files_done: totals.files,
        files_total: totals.files,
        bytes_done: totals.bytes,
        bytes_total: totals.bytes,
        ..Progress::default()
    }
}

/// The progress of a copy whose destination is kept.
fn all_skipped(totals: Totals) -> Progress {
    Progress {
        files_total: totals.files,
        files_skipped: totals.files,
        bytes_total: totals.bytes,
        bytes_skipped: totals.bytes,
        ..Progress::default()
    }
}

/// Makes a copy visible: the only moment at which anything becomes visible.
///
/// `target` is what was built or verified, `pins` how many pins hold it.
///
/// # Errors
/// `Cancelled` if the operation no longer runs or lost a pin; `PreconditionFailed`; those of [`tree::put`];
/// `AlreadyExists` where only what is of the same kind may be replaced. Nothing has changed then.
pub fn finish(
    tx: &mut Tx<'_>,
    request: &CopyRequest,
    (run, owner): (i64, &Owner),
    (target, pins): (&Target, usize),
    progress: &Progress,
) -> Result<Operation> {
    pin::check(tx, &owner.id, pins)?;
    condition::check(tx, &request.destination, &request.conditions)?;
    let progress = if is_kept(tx, request)? {
        let totals = Totals { files: progress.files_total, bytes: progress.bytes_total };
        let skip_files_unmatched = progress.skip_files_unmatched.clone();
        Progress { skip_files_unmatched, ..all_skipped(totals) }
    } else {
        Progress { files_replaced: put(tx, request, target)?, ..progress.clone() }
    };
    if !operation::finish(tx, run, OperationState::Succeeded, &progress, None)? {
        return Err(Error::new(Kind::Cancelled, format!("the copy {} was cancelled", request.id)));
    }
    pin::unpin(tx, &owner.id)?;
    operation::get(tx, request.id)
}

/// Ends a copy that did not succeed, and drops its pins. `false`: it had ended already.
pub fn give_up(
    tx: &mut Tx<'_>,
    (run, owner): (i64, &Owner),
    (state, error): (OperationState, &Error),
    progress: &Progress,
) -> Result<bool> {
    pin::unpin(tx, &owner.id)?;
    operation::finish(tx, run, state, progress, Some(&error.into()))
}

/// Ends the run of a copy that `server` began and that no task works on. Returns what it is then; `None`:
/// it is another server's.
pub fn abandon(
    tx: &mut Tx<'_>,
    found: &operation::Found,
    server: &str,
    error: &Error,
) -> Result<Option<Operation>> {
    if found.owner != server {
        return Ok(None);
    }
    let owner = operation::owner(found.run, server);
    let progress = &found.operation.progress;
    give_up(tx, (found.run, &owner), (OperationState::Failed, error), progress)?;
    operation::get(tx, found.operation.id).map(Some)
}
