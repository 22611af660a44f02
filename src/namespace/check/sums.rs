//! The verdict on the sums that the store keeps of itself.

use crate::{
    error::Result,
    model::{Finding, FindingKind, Usage},
    namespace::{check::judge::finding_aside, counted::Counted, sql::Tx, sums},
};

/// Compares a sum with a recount, and returns a finding with the difference. The difference stays the same
/// while others write, so the caller can add it to the sum later.
///
/// # Errors
/// Those of the engine.
pub fn judge_sum(tx: &mut Tx<'_>, what: Counted) -> Result<Option<(Finding, Usage)>> {
    let kept = sums::kept(tx)?.of(what);
    let is = sums::recount(tx, what)?;
    if is == kept {
        return Ok(None);
    }
    let name = match what {
        Counted::Folders => "folders",
        Counted::Contents => "contents",
        Counted::Inline => "parts in the database",
        Counted::Objects => "parts in objects",
        Counted::Dead => "objects to delete",
        Counted::Waiting => "things that wait to be freed",
        Counted::Staging => "upload sessions",
    };
    let has_bytes = !matches!(what, Counted::Folders | Counted::Contents);
    let bytes = |bytes| if has_bytes { format!(" of {bytes} bytes") } else { String::new() };
    let (counted, has) = (bytes(kept.bytes), bytes(is.bytes));
    let message =
        format!("the store counts {} {name}{counted} and has {}{has}", kept.count, is.count);
    let drift = Usage { count: is.count - kept.count, bytes: is.bytes - kept.bytes };
    Ok(Some((finding_aside(FindingKind::StoreSums, message), drift)))
}
