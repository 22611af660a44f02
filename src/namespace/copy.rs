//! The transactions of a copy.
//!
//! A copy without skipped files and without `verify` is one transaction: [`start`] resolves the source,
//! checks the request and replaces the entry of the destination. Any other copy begins with [`start`], which
//! pins the source and writes the row of a running operation; a filtered folder is built beside the tree by
//! [`super::filter`]; [`finish`] makes the result visible.

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

/// The result of [`start`].
#[derive(Clone, Debug)]
pub enum Started {
    /// The copy has succeeded.
    Done(Operation),
    /// An earlier request with the same id has succeeded, or runs on another server.
    Earlier(Operation),
    /// The work begins: the operation, its source, which is pinned, and the number of the run.
    Begun(Operation, Target, i64),
}

/// The number of pins that a run holds after [`start`].
pub const START_PINS: usize = 1;

/// Begins a copy, and finishes it if one transaction is enough.
///
/// # Errors
/// `FileNotFound` for a missing source or mark file, `Reserved`, `InvalidArgument` for paths that overlap,
/// `AlreadyExists` below a file or for a target of the other kind, `WriteConflict`, `PathTooLong`,
/// `TooLarge`, `PreconditionFailed`. Nothing has changed then.
pub fn start(
    tx: &mut Tx<'_>,
    request: &CopyRequest,
    server: &str,
    (caller, credential): (&str, &str),
) -> Result<Started> {
    let fingerprint = request.fingerprint();
    if let Some(operation) = operation::earlier(tx, request.id, &fingerprint, server)? {
        return Ok(Started::Earlier(operation));
    }
    request.check()?;
    let target = source(tx, request)?;
    let totals = tree::totals(tx, &target)?;
    let mut operation = running(tx, request, totals, (caller, credential))?;
    if matches!(target, Target::File(_)) {
        // A copy of one file ignores the skip list, so no name of it matches.
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
        tree::resolve_for_write(tx, &request.destination, "destination")?;
    }
    if !is_filtered {
        reach::check(tx, &request.destination, &target, "destination")?;
    }
    let run = operation::insert(tx, &mut operation, &fingerprint, server)?;
    pin::pin(tx, &operation::owner(run, server), target.as_ref())?;
    Ok(Started::Begun(operation, target, run))
}

/// Puts the copy at the destination. Returns how many files it replaces.
///
/// # Errors
/// Those of [`tree::put`]; `AlreadyExists` if only a target of the same kind may be replaced.
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

/// Whether the destination exists and the request is to keep it.
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

fn running(
    tx: &mut Tx<'_>,
    request: &CopyRequest,
    totals: Totals,
    (caller, credential): (&str, &str),
) -> Result<Operation> {
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
        caller: caller.to_owned(),
        credential: credential.to_owned(),
        change: 0,
    })
}

/// The progress of an operation that processed everything.
pub fn all_done(totals: Totals) -> Progress {
    Progress {
        files_done: totals.files,
        files_total: totals.files,
        bytes_done: totals.bytes,
        bytes_total: totals.bytes,
        ..Progress::default()
    }
}

/// The progress of a copy that kept its destination.
fn all_skipped(totals: Totals) -> Progress {
    Progress {
        files_total: totals.files,
        files_skipped: totals.files,
        bytes_total: totals.bytes,
        bytes_skipped: totals.bytes,
        ..Progress::default()
    }
}

/// Makes a copy visible. Nothing of the copy is visible before.
///
/// `target` is the folder that was built, or the source that was verified; `pins` is the number of pins that
/// the run must hold.
///
/// # Errors
/// `Cancelled` if the operation no longer runs; `Busy` if it has lost a pin; `PreconditionFailed`; those of
/// [`tree::put`]; `AlreadyExists` if only a target of the same kind may be replaced. Nothing has changed
/// then.
pub fn finish(
    tx: &mut Tx<'_>,
    request: &CopyRequest,
    (run, owner): (i64, &Owner),
    (target, pins): (&Target, usize),
    progress: &Progress,
) -> Result<Operation> {
    operation::check_pins(tx, run, pins)?;
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

/// Ends a copy that did not succeed, and drops its pins. `false`: the operation had ended already.
pub fn give_up(
    tx: &mut Tx<'_>,
    (run, owner): (i64, &Owner),
    (state, error): (OperationState, &Error),
    progress: &Progress,
) -> Result<bool> {
    pin::unpin(tx, &owner.id)?;
    operation::finish(tx, run, state, progress, Some(&error.into()))
}

/// Fails a run of a copy that `server` began and on which no task works any more. Returns the ended
/// operation; `None` if the run belongs to another server.
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
