//! The rows of operations: copies and other long work, and the audit trail.
//!
//! **Invariant:** an operation leaves the state *running* once. Cancel, failure and the final
//! transaction all change the row only where it is still running, so exactly one wins. What failed or
//! was cancelled can run again under its id, in a row of its own: a run is known by the row's `seq`, and
//! an earlier run that has not noticed its end cannot touch a later one.

use crate::{
    error::{Error, Kind, Result},
    limits::{EXPIRE_ROWS, LIST_PAGE_BYTES, RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX},
    model::{
        Digest, Operation, OperationError, OperationId, OperationKind, OperationState, Page,
        Progress, StorePath,
    },
    namespace::{
        pin::{self, Owner},
        sql::{Param, Row, Tx, params},
    },
};

/// A statement that reads the columns which [`from_row`] takes, and then others.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, state, source, destination, files_done, files_total, bytes_done,
               bytes_total, files_skipped, bytes_skipped, current_path, started, updated,
               finished, error_reason, error_message, files_replaced, skip_files_unmatched, ",
            $rest
        )
    };
}

/// How many columns [`from_row`] takes.
const COLUMNS: usize = 19;

/// What an operation of a page costs beside its texts: the other fields of its message.
const OPERATION_OVERHEAD_BYTES: usize = 512;
/// What a name of its skip list costs beside its text.
const NAME_OVERHEAD_BYTES: usize = 4;

fn kind_number(kind: OperationKind) -> i64 {
    match kind {
        OperationKind::Copy => 1,
        OperationKind::Delete => 2,
        OperationKind::CommitUploadSession => 3,
    }
}

fn state_number(state: OperationState) -> i64 {
    match state {
        OperationState::Running => 1,
        OperationState::Succeeded => 2,
        OperationState::Failed => 3,
        OperationState::Cancelled => 4,
    }
}

/// Reads the columns of a row of `operation`, but for `seq`, `owner` and `fingerprint`.
fn from_row(row: &Row) -> Result<Operation> {
    let path = |column| -> Result<StorePath> {
        let mut path = StorePath::root();
        for name in row.text(column)?.split('/').filter(|name| !name.is_empty()) {
            path = path.child(name);
        }
        Ok(path)
    };
    let error = row.opt_text(15)?.map(|reason| -> Result<_> {
        let kind = Kind::from_reason(&reason).unwrap_or(Kind::Internal);
        Ok(OperationError { kind, message: row.text(16)? })
    });
    Ok(Operation {
        id: OperationId::parse(&row.text(0)?, "id").map_err(Error::internal)?,
        kind: match row.int(1)? {
            2 => OperationKind::Delete,
            3 => OperationKind::CommitUploadSession,
            _ => OperationKind::Copy,
        },
        state: match row.int(2)? {
            1 => OperationState::Running,
            2 => OperationState::Succeeded,
            3 => OperationState::Failed,
            _ => OperationState::Cancelled,
        },
        source: path(3)?,
        destination: path(4)?,
        progress: Progress {
            files_done: row.int(5)?,
            files_total: row.int(6)?,
            bytes_done: row.int(7)?,
            bytes_total: row.int(8)?,
            files_skipped: row.int(9)?,
            bytes_skipped: row.int(10)?,
            current_path: row.text(11)?,
            files_replaced: row.int(17)?,
            skip_files_unmatched: names(&row.text(18)?),
        },
        started: row.int(12)?,
        updated: row.int(13)?,
        finished: row.opt_int(14)?,
        error: error.transpose()?,
    })
}

/// The column of a list of names, none of which has a control character: each with the end of a line.
fn names_column(names: &[String]) -> String {
    names.iter().flat_map(|name| [name, "\n"]).collect()
}

fn names(column: &str) -> Vec<String> {
    column.split_terminator('\n').map(str::to_owned).collect()
}

/// A row of `operation`.
#[derive(Debug)]
pub struct Found {
    /// The operation.
    pub operation: Operation,
    /// The digest of its request.
    pub fingerprint: Digest,
    /// Which run it is.
    pub run: i64,
}

/// Returns the latest run of an operation.
pub fn find(tx: &mut Tx<'_>, id: OperationId) -> Result<Option<Found>> {
    let sql = select!("fingerprint, seq FROM operation WHERE id = $1");
    tx.first(sql, params![&id.to_string()])?
        .map(|row| {
            let operation = from_row(&row)?;
            Ok(Found { operation, fingerprint: row.digest(COLUMNS)?, run: row.int(COLUMNS + 1)? })
        })
        .transpose()
}

/// Returns an operation.
///
/// # Errors
/// `OperationNotFound`.
pub fn get(tx: &mut Tx<'_>, id: OperationId) -> Result<Operation> {
    find(tx, id)?.map(|found| found.operation).ok_or_else(|| unknown(id))
}

/// The error for an id that no operation has, or no longer.
pub fn unknown(id: OperationId) -> Error {
    let message = format!("no operation has the id {id}; it may have expired");
    Error::new(Kind::OperationNotFound, message).field("id").with("id", id.to_string())
}

/// Judges a request by the row of its id. Returns the operation of the same request that runs or has
/// succeeded; one that failed or was cancelled runs again.
///
/// # Errors
/// `WriteConflict` if the id was used with other arguments.
pub fn earlier(
    tx: &mut Tx<'_>,
    id: OperationId,
    fingerprint: &Digest,
) -> Result<Option<Operation>> {
    let Some(Found { operation, fingerprint: other, .. }) = find(tx, id)? else {
        return Ok(None);
    };
    if other != *fingerprint {
        let message = format!("the operation id {id} was used with other arguments; use a new id");
        return Err(Error::new(Kind::WriteConflict, message)
            .field("operation_id")
            .with("operation_id", id.to_string()));
    }
    match operation.state {
        OperationState::Running | OperationState::Succeeded => Ok(Some(operation)),
        OperationState::Failed | OperationState::Cancelled => {
            tx.execute("DELETE FROM operation WHERE id = $1", params![&id.to_string()])?;
            Ok(None)
        }
    }
}

/// Who holds the pins of a run.
pub fn owner(run: i64, server: &str) -> Owner {
    Owner { id: owner_id(run), server: server.to_owned() }
}

fn owner_id(run: i64) -> String {
    format!("operation {run}")
}

/// Writes the row of an operation. Returns which run it is.
pub fn insert(
    tx: &mut Tx<'_>,
    operation: &Operation,
    fingerprint: &Digest,
    server: &str,
) -> Result<i64> {
    let progress = &operation.progress;
    let (reason, message) = error_columns(operation.error.as_ref());
    let row = tx.one(
        "INSERT INTO operation (id, owner, kind, fingerprint, state, source, destination,
           files_done, files_total, bytes_done, bytes_total, files_skipped, bytes_skipped,
           current_path, started, updated, finished, error_reason, error_message, files_replaced,
           skip_files_unmatched)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
           $20, $21)
         RETURNING seq",
        params![
            &operation.id.to_string(),
            server,
            kind_number(operation.kind),
            fingerprint,
            state_number(operation.state),
            operation.source.as_str(),
            operation.destination.as_str(),
            progress.files_done,
            progress.files_total,
            progress.bytes_done,
            progress.bytes_total,
            progress.files_skipped,
            progress.bytes_skipped,
            &progress.current_path,
            operation.started,
            operation.updated,
            operation.finished,
            reason,
            message,
            progress.files_replaced,
            &names_column(&progress.skip_files_unmatched),
        ],
    )?;
    row.int(0)
}

fn error_columns(error: Option<&OperationError>) -> (Option<&str>, Option<&str>) {
    (error.map(|error| error.kind.reason()), error.map(|error| error.message.as_str()))
}

/// Ends a run of an operation. `false`: it had ended, and nothing is changed.
pub fn finish(
    tx: &mut Tx<'_>,
    run: i64,
    state: OperationState,
    progress: &Progress,
    error: Option<&OperationError>,
) -> Result<bool> {
    let now = tx.now()?;
    let (reason, message) = error_columns(error);
    let changed = tx.execute(
        "UPDATE operation SET state = $1, files_done = $2, bytes_done = $3, files_skipped = $4,
           bytes_skipped = $5, current_path = '', updated = $6, finished = $6, error_reason = $7,
           error_message = $8, files_replaced = $9, skip_files_unmatched = $10
         WHERE seq = $11 AND state = 1",
        params![
            state_number(state),
            progress.files_done,
            progress.bytes_done,
            progress.files_skipped,
            progress.bytes_skipped,
            now,
            reason,
            message,
            progress.files_replaced,
            &names_column(&progress.skip_files_unmatched),
            run,
        ],
    )?;
    Ok(changed == 1)
}

/// Cancels an operation, or only a certain run of it, and drops its pins. `progress` is how far it is,
/// if that is known better than by its row. Returns what became of it and which run it was.
///
/// # Errors
/// `Finished` if it has ended, `OperationNotFound`.
pub fn cancel(
    tx: &mut Tx<'_>,
    id: OperationId,
    only: Option<i64>,
    progress: Option<&Progress>,
    error: &OperationError,
) -> Result<(Operation, i64)> {
    let Found { operation, run, .. } = find(tx, id)?.ok_or_else(|| unknown(id))?;
    let progress = progress.unwrap_or(&operation.progress);
    if only.is_some_and(|only| only != run)
        || !finish(tx, run, OperationState::Cancelled, progress, Some(error))?
    {
        let message = format!("the operation {id} has ended, so it cannot be cancelled");
        return Err(Error::new(Kind::Finished, message).field("id").with("id", id.to_string()));
    }
    pin::unpin(tx, &owner_id(run))?;
    Ok((get(tx, id)?, run))
}

/// Lists operations, the newest first. `token` is where the page begins. A page ends at `size`
/// operations (0: the default) or at [`LIST_PAGE_BYTES`].
///
/// # Errors
/// `InvalidArgument` for a token that no page gave.
pub fn list(
    tx: &mut Tx<'_>,
    state: Option<OperationState>,
    size: usize,
    token: &str,
) -> Result<Page<Operation>> {
    let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
    let from = if token.is_empty() {
        i64::MAX
    } else {
        token.parse().ok().filter(|_| !token.starts_with('+')).ok_or_else(|| {
            Error::invalid("page_token", format!("page_token \"{token}\" is not one of a page"))
        })?
    };
    let limit = Param::from(size as i64 + 1);
    // Two statements, so that each is served by its index.
    let rows = match state {
        None => tx.all(
            select!("seq FROM operation WHERE seq <= $1 ORDER BY seq DESC LIMIT $2"),
            &[from.into(), limit],
        )?,
        Some(state) => tx.all(
            select!("seq FROM operation WHERE seq <= $1 AND state = $3 ORDER BY seq DESC LIMIT $2"),
            &[from.into(), limit, state_number(state).into()],
        )?,
    };
    let mut items = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        let operation = from_row(row)?;
        bytes += message_bytes(&operation);
        if items.len() == size || (bytes > LIST_PAGE_BYTES && !items.is_empty()) {
            return Ok(Page { items, next: Some(row.int(COLUMNS)?.to_string()) });
        }
        items.push(operation);
    }
    Ok(Page { items, next: None })
}

/// What an operation costs on a page, at most: the message of its error is in the details, too.
fn message_bytes(operation: &Operation) -> usize {
    let error = operation.error.as_ref().map_or(0, |error| error.message.len());
    let texts = [operation.source.as_str(), operation.destination.as_str()];
    let paths: usize = texts.iter().map(|text| text.len()).sum();
    let names = &operation.progress.skip_files_unmatched;
    let names: usize = names.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum();
    names + paths + operation.progress.current_path.len() + 2 * error + OPERATION_OVERHEAD_BYTES
}

/// The operations that a server says it runs since `age` or longer, and their runs.
pub fn long_running(tx: &mut Tx<'_>, server: &str, age: i64) -> Result<Vec<(OperationId, i64)>> {
    let before = tx.now()?.saturating_sub(age);
    let sql = "SELECT id, seq FROM operation WHERE state = 1 AND owner = $1 AND started <= $2";
    let rows = tx.all(sql, params![server, before])?;
    rows.iter().map(|row| Ok((OperationId::parse(&row.text(0)?, "id")?, row.int(1)?))).collect()
}

/// Fails a run that nobody works on any more, and drops its pins. `None`: it has ended meanwhile.
pub fn fail_forgotten(tx: &mut Tx<'_>, id: OperationId, run: i64) -> Result<Option<Operation>> {
    let error = OperationError {
        kind: Kind::Cancelled,
        message: "the database failed while the operation ran; start it again".to_owned(),
    };
    pin::unpin(tx, &owner_id(run))?;
    let progress = get(tx, id)?.progress;
    let is_new = finish(tx, run, OperationState::Failed, &progress, Some(&error))?;
    if is_new { get(tx, id).map(Some) } else { Ok(None) }
}

/// Fails the operations that other instances left running. Called at start.
pub fn fail_others(tx: &mut Tx<'_>, server: &str, error: &OperationError) -> Result<u64> {
    let now = tx.now()?;
    let (reason, message) = error_columns(Some(error));
    tx.execute(
        "UPDATE operation SET state = 3, current_path = '', updated = $1, finished = $1,
           error_reason = $2, error_message = $3
         WHERE state = 1 AND owner <> $4",
        params![now, reason, message, server],
    )
}

/// Drops some rows of operations that ended before `before`. Returns whether more are due.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let dropped = tx.execute(
        "DELETE FROM operation WHERE seq IN (
           SELECT seq FROM operation WHERE finished <= $1 ORDER BY finished LIMIT $2)",
        params![before, EXPIRE_ROWS as i64],
    )?;
    Ok(dropped == EXPIRE_ROWS as u64)
}
