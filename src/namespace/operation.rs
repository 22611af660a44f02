//! The rows of operations, for copies and other long work; they are also the audit trail.
//!
//! **Invariant:** an operation leaves the state *running* once. A cancel, a failure and the final transaction
//! change the row only while its state is *running*, so exactly one of them succeeds. An operation that
//! failed or was cancelled can run again under the same id, in a new row. A run is identified by the `seq` of
//! its row, so an earlier run that has not noticed its end cannot change a later one.
//!
//! Each change of a state takes the next number of the store, in the same transaction. So the numbers rise by
//! one in the order of commits. A client that knows a number can ask for the later changes, and sees from a
//! gap that one is missing.

mod pages;
mod servers;

pub use pages::{changed_since, list};
pub use servers::{fail_of, keep_progress, owners, running};

use crate::{
    error::{Error, Kind, Result},
    limits::EXPIRE_ROWS,
    model::{
        Digest, Operation, OperationError, OperationId, OperationKind, OperationState, Progress,
        StorePath,
    },
    namespace::{
        pin::{self, Owner},
        schema,
        sql::{Row, Tx, params},
    },
};

/// A statement that selects the columns which [`from_row`] reads, and others after them.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, state, source, destination, files_done, files_total, bytes_done,
               bytes_total, files_skipped, bytes_skipped, current_path, started, updated,
               finished, error_reason, error_message, files_replaced, skip_files_unmatched,
               change, caller, credential, ",
            $rest
        )
    };
}

use select;

/// The number of columns that [`from_row`] reads.
const COLUMNS: usize = 22;

/// The bytes of an operation on a page beside its texts: the other fields of its message.
const OPERATION_OVERHEAD_BYTES: usize = 512;
/// The bytes of a name of its skip list beside the text of the name.
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

/// Reads the columns of a row of `operation`, except `seq`, `owner` and `fingerprint`.
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
        change: row.int(19)?,
        caller: row.text(20)?,
        credential: row.text(21)?,
    })
}

/// Encodes names as one column: each name is followed by a newline, as no name has a control character.
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
    /// The digest of the request.
    pub fingerprint: Digest,
    /// The number of the run: the `seq` of the row.
    pub run: i64,
    /// The run of the server that runs or ran the operation.
    pub owner: String,
}

/// Returns the latest run of an operation.
pub fn find(tx: &mut Tx<'_>, id: OperationId) -> Result<Option<Found>> {
    let sql = select!("fingerprint, seq, owner FROM operation WHERE id = $1");
    tx.first(sql, params![&id.to_string()])?
        .map(|row| {
            Ok(Found {
                operation: from_row(&row)?,
                fingerprint: row.digest(COLUMNS)?,
                run: row.int(COLUMNS + 1)?,
                owner: row.text(COLUMNS + 2)?,
            })
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

/// The error for an id that no operation has, or has any longer.
pub fn unknown(id: OperationId) -> Error {
    let message = format!("no operation has the id {id}; it may have expired");
    Error::new(Kind::OperationNotFound, message).field("id").with("id", id.to_string())
}

/// Compares a request with the row of its id. Returns an operation of the same request that has succeeded, or
/// that runs on another server. The row of an operation that failed or was cancelled is deleted, so that it
/// runs again. The caller must be the only task of `server` with this id. So a row that is running on
/// `server` is left from a commit whose outcome was unknown; that row and its pins are deleted as well.
///
/// # Errors
/// `WriteConflict` if the id was used with other arguments.
pub fn earlier(
    tx: &mut Tx<'_>,
    id: OperationId,
    fingerprint: &Digest,
    server: &str,
) -> Result<Option<Operation>> {
    let Some(Found { operation, fingerprint: other, run, owner }) = find(tx, id)? else {
        return Ok(None);
    };
    if other != *fingerprint {
        return Err(conflict(id));
    }
    match operation.state {
        OperationState::Running if owner == server => {
            pin::unpin(tx, &owner_id(run))?;
            tx.execute("DELETE FROM operation WHERE id = $1", params![&id.to_string()])?;
            Ok(None)
        }
        OperationState::Running | OperationState::Succeeded => Ok(Some(operation)),
        OperationState::Failed | OperationState::Cancelled => {
            tx.execute("DELETE FROM operation WHERE id = $1", params![&id.to_string()])?;
            Ok(None)
        }
    }
}

/// The error for an id that was used with other arguments.
pub fn conflict(id: OperationId) -> Error {
    let message = format!("the operation id {id} was used with other arguments; use a new id");
    Error::new(Kind::WriteConflict, message)
        .field("operation_id")
        .with("operation_id", id.to_string())
}

/// The owner of the pins of a run.
pub fn owner(run: i64, server: &str) -> Owner {
    Owner { id: owner_id(run), server: server.to_owned() }
}

fn owner_id(run: i64) -> String {
    format!("operation {run}")
}

/// Inserts the row of an operation, and sets the number of this change. Returns the number of the run.
pub fn insert(
    tx: &mut Tx<'_>,
    operation: &mut Operation,
    fingerprint: &Digest,
    server: &str,
) -> Result<i64> {
    operation.change = schema::next_change(tx)?;
    let progress = &operation.progress;
    let (reason, message) = error_columns(operation.error.as_ref());
    let row = tx.one(
        "INSERT INTO operation (id, owner, kind, fingerprint, state, source, destination,
           files_done, files_total, bytes_done, bytes_total, files_skipped, bytes_skipped,
           current_path, started, updated, finished, error_reason, error_message, files_replaced,
           skip_files_unmatched, change, caller, credential)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
           $20, $21, $22, $23, $24)
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
            operation.change,
            &operation.caller,
            &operation.credential,
        ],
    )?;
    row.int(0)
}

fn error_columns(error: Option<&OperationError>) -> (Option<&str>, Option<&str>) {
    (error.map(|error| error.kind.reason()), error.map(|error| error.message.as_str()))
}

/// Ends a run of an operation. `false`: it had ended already, and nothing is changed.
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
           error_message = $8, files_replaced = $9, skip_files_unmatched = $10,
           change = (SELECT value + 1 FROM meta WHERE name = 'change')
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
    // A number is taken only if the row has changed, so that there are no gaps.
    if changed == 1 {
        schema::next_change(tx)?;
    }
    Ok(changed == 1)
}

/// Fails unless a run still runs and holds exactly `expected` pins.
///
/// # Errors
/// `Cancelled` if the run has ended, as by a cancel on another server, which drops its pins; `Busy` if it has lost
/// pins while it ran.
pub fn check_pins(tx: &mut Tx<'_>, run: i64, expected: usize) -> Result<()> {
    let Err(lost) = pin::check(tx, &owner_id(run), expected) else { return Ok(()) };
    if tx.exists("SELECT 1 FROM operation WHERE seq = $1 AND state = 1", params![run])? {
        return Err(lost);
    }
    Err(Error::new(Kind::Cancelled, "the operation has ended elsewhere"))
}

/// Cancels an operation that no task of this server runs, and drops its pins. Returns the cancelled
/// operation.
///
/// # Errors
/// `Finished` if the operation has ended already, `OperationNotFound`.
pub fn cancel(tx: &mut Tx<'_>, id: OperationId, error: &OperationError) -> Result<Operation> {
    let Found { operation, run, .. } = find(tx, id)?.ok_or_else(|| unknown(id))?;
    if !finish(tx, run, OperationState::Cancelled, &operation.progress, Some(error))? {
        return Err(finished(id));
    }
    pin::unpin(tx, &owner_id(run))?;
    get(tx, id)
}

/// The error for the cancel of an operation that has ended.
pub fn finished(id: OperationId) -> Error {
    let message = format!("the operation {id} has ended, so it cannot be cancelled");
    Error::new(Kind::Finished, message).field("id").with("id", id.to_string())
}

/// Deletes one step of rows of operations that ended at least `life` microseconds ago. Returns whether there
/// may be more.
pub fn expire(tx: &mut Tx<'_>, life: i64) -> Result<bool> {
    let before = tx.now()?.saturating_sub(life);
    let dropped = tx.all(
        "DELETE FROM operation WHERE seq IN (
           SELECT seq FROM operation WHERE finished <= $1 ORDER BY finished LIMIT $2)
         RETURNING change",
        params![before, EXPIRE_ROWS as i64],
    )?;
    let mut last = 0;
    for row in &dropped {
        last = last.max(row.int(0)?);
    }
    tx.execute(
        "UPDATE meta SET value = $1 WHERE name = 'change_forgotten' AND value < $1",
        params![last],
    )?;
    Ok(dropped.len() == EXPIRE_ROWS)
}
