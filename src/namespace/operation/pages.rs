//! Pages of operations: all of them, and those that changed since a number.

use super::{
    COLUMNS, NAME_OVERHEAD_BYTES, OPERATION_OVERHEAD_BYTES, from_row, select, state_number,
};
use crate::{
    error::{Error, Kind, Result},
    limits::{LIST_PAGE_BYTES, RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX},
    model::{Operation, OperationState, Page},
    namespace::{
        schema,
        sql::{Param, Tx, params},
    },
};

/// Lists operations, the newest first, and returns the number of the last change of any operation. `token` is
/// the `seq` of the first operation of the page. A page ends at `size` operations (0: the default) or at
/// [`LIST_PAGE_BYTES`].
///
/// # Errors
/// `InvalidArgument` for a token that no page has.
pub fn list(
    tx: &mut Tx<'_>,
    state: Option<OperationState>,
    size: usize,
    token: &str,
) -> Result<(Page<Operation>, i64)> {
    let change = schema::meta(tx, "change")?;
    let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
    let from = if token.is_empty() {
        i64::MAX
    } else {
        token.parse().ok().filter(|_| !token.starts_with('+')).ok_or_else(|| {
            Error::invalid("page_token", format!("page_token \"{token}\" is not one of a page"))
        })?
    };
    let limit = Param::from(size as i64 + 1);
    // Two statements, so that each can use its index.
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
            return Ok((Page { items, next: Some(row.int(COLUMNS)?.to_string()) }, change));
        }
        items.push(operation);
    }
    Ok((Page { items, next: None }, change))
}

/// The bytes of an operation on a page, at most. The message of its error counts twice, as the error details
/// repeat it.
fn message_bytes(operation: &Operation) -> usize {
    let error = operation.error.as_ref().map_or(0, |error| error.message.len());
    let texts = [operation.source.as_str(), operation.destination.as_str()];
    let paths: usize = texts.iter().map(|text| text.len()).sum();
    let names = &operation.progress.skip_files_unmatched;
    let names: usize = names.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum();
    names + paths + operation.progress.current_path.len() + 2 * error + OPERATION_OVERHEAD_BYTES
}

/// The operations that changed after the change `since`, in the order of their last changes, at most `limit`.
///
/// # Errors
/// `ChangesForgotten` if rows of later changes were deleted already, or if the store has not reached the
/// number yet.
pub fn changed_since(tx: &mut Tx<'_>, since: i64, limit: usize) -> Result<Vec<Operation>> {
    if since < schema::meta(tx, "change_forgotten")? || since > schema::meta(tx, "change")? {
        let message = format!(
            "the changes of operations since {since} are not known any more; list the operations anew"
        );
        return Err(Error::new(Kind::ChangesForgotten, message)
            .field("since")
            .with("since", since.to_string()));
    }
    let sql = select!("seq FROM operation WHERE change > $1 ORDER BY change LIMIT $2");
    tx.all(sql, params![since, limit as i64])?.iter().map(from_row).collect()
}
