//! The running operations of each server.

use super::{COLUMNS, finish, from_row, select};
use crate::{
    error::Result,
    model::{Operation, OperationError, OperationState},
    namespace::sql::{Param, Rows, Set, Tx, params, set},
};

/// The servers of running operations.
pub fn owners(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT owner FROM operation WHERE state = 1";
    tx.all(sql, &[])?.iter().map(|row| row.text(0)).collect()
}

/// The running operations of all servers, each with its server.
pub fn running(tx: &mut Tx<'_>) -> Result<Vec<(Operation, String)>> {
    let sql = select!("owner FROM operation WHERE state = 1 ORDER BY seq");
    let rows = tx.all(sql, &[])?;
    rows.iter().map(|row| Ok((from_row(row)?, row.text(COLUMNS)?))).collect()
}

const KEEP_PROGRESS: Set = set!(
    "UPDATE operation SET files_done = r.f, bytes_done = r.b, files_skipped = r.fs, bytes_skipped = r.bs,
       current_path = r.at, updated = r.t FROM",
    [
        "$1" "run_id" "TEXT", "$2" "run_owner" "TEXT", "$3" "f" "BIGINT", "$4" "b" "BIGINT",
        "$5" "fs" "BIGINT", "$6" "bs" "BIGINT", "$7" "at" "TEXT", "$8" "t" "BIGINT"
    ],
    "WHERE operation.id = r.run_id AND operation.owner = r.run_owner AND operation.state = 1"
);

/// Keeps the progress of operations that run on a server. Their change numbers stay.
pub fn keep_progress(tx: &mut Tx<'_>, server: &str, running: &[Operation]) -> Result<()> {
    let ids: Vec<_> = running.iter().map(|operation| operation.id.to_string()).collect();
    let rows = ids.iter().zip(running).map(|(id, Operation { progress, updated, .. })| {
        [
            Param::from(id),
            Param::from(server),
            Param::from(progress.files_done),
            Param::from(progress.bytes_done),
            Param::from(progress.files_skipped),
            Param::from(progress.bytes_skipped),
            Param::from(&progress.current_path),
            Param::from(*updated),
        ]
    });
    tx.run(&[Rows::new(KEEP_PROGRESS, rows)]).map(drop)
}

/// Fails the running operations of a server that is dead. Returns their number.
pub fn fail_of(tx: &mut Tx<'_>, server: &str, error: &OperationError) -> Result<u64> {
    let sql = select!("seq FROM operation WHERE state = 1 AND owner = $1");
    let rows = tx.all(sql, params![server])?;
    for row in &rows {
        let (run, progress) = (row.int(COLUMNS)?, from_row(row)?.progress);
        finish(tx, run, OperationState::Failed, &progress, Some(error))?;
    }
    Ok(rows.len() as u64)
}
