//! The repair of what is wrong, where that is safe.
//!
//! What a verdict has found in a snapshot is looked at again only as far as the repair needs it, so that
//! none holds up writers for longer than a few rows take. Counts are mended by the difference that was
//! found, because whoever writes meanwhile changes them and what they count alike.
//!
//! **Invariants:** a repair never touches what has a path. Totals are recounted only on folders that
//! the root leads to, because a copy on its way builds folders whose totals are ahead of their
//! entries. What nothing refers to is handed to [`enqueue_garbage`], whose reclamation proves it again before
//! it takes anything apart.

use crate::{
    error::Result,
    limits::{CHECK_REPAIR_ROWS, TOTAL_MAX},
    model::{Totals, folded},
    namespace::{
        check::folders,
        counted::Counted,
        entries,
        garbage::{Ref, enqueue_garbage, is_garbage, is_referenced},
        reach::Reach,
        sql::{Tx, params},
        tree,
    },
};

/// How something can be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Nothing refers to it: it is released.
    Release(Ref),
    /// An entry is filed under another name: its folder, that name and its own.
    Rekey(i64, String, String),
    /// A folder says one thing, and holds another.
    Recount(i64, (Totals, Reach), (Totals, Reach)),
    /// A session says that it has received one number of bytes, and has another.
    Received(String, i64, i64),
    /// The session of chunks is gone: they go, too.
    Chunks(String),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// It is well.
    Yes,
    /// There is more to do.
    More,
    /// It cannot be mended, or is no longer what it was.
    No,
}

impl Mended {
    fn when(is_mended: bool) -> Self {
        if is_mended { Self::Yes } else { Self::No }
    }
}

/// Mends something, in a few rows.
///
/// # Errors
/// Those of the engine; nothing is mended then.
pub fn mend(tx: &mut Tx<'_>, mend: &Mend) -> Result<Mended> {
    match mend {
        Mend::Release(target) => {
            if is_referenced(tx, *target)? || is_garbage(tx, *target)? {
                return Ok(Mended::No);
            }
            enqueue_garbage(tx, *target)?;
            Ok(Mended::Yes)
        }
        Mend::Rekey(folder, filed, name) => rekey(tx, (*folder, filed, name)),
        Mend::Recount(folder, said, is) => recount(tx, *folder, *said, *is),
        Mend::Received(session, said, is) => received(tx, session, (*said, *is)),
        Mend::Chunks(session) => chunks(tx, session),
    }
}

/// Files an entry under the folded form of its name, unless that name is there already.
fn rekey(tx: &mut Tx<'_>, (folder, filed, name): (i64, &str, &str)) -> Result<Mended> {
    let is_filed = entries::rekey(tx, folder, (filed, name), &folded(name))?;
    if is_filed {
        tree::count_change(tx, folder)?;
    }
    Ok(Mended::when(is_filed))
}

/// Sets what a folder says to what it holds.
fn recount(
    tx: &mut Tx<'_>,
    folder: i64,
    said: (Totals, Reach),
    is: (Totals, Reach),
) -> Result<Mended> {
    let Some((totals, reach)) = folders::sums(tx, folder)? else { return Ok(Mended::No) };
    let totals = Totals {
        files: moved(totals.files, said.0.files, is.0.files),
        bytes: moved(totals.bytes, said.0.bytes, is.0.bytes),
    };
    // A folder may say that paths below it are longer than they are, so it takes the longer ones.
    let is_untouched = reach == said.1 || !folders::is_possible(reach);
    let reach = if is_untouched { is.1 } else { reach.or(is.1) };
    tree::set_sums(tx, folder, totals, reach)?;
    tree::count_change(tx, folder)?;
    Ok(Mended::Yes)
}

/// What a count is to be that was `said` when it had to be `is`, and has moved on since.
fn moved(now: i64, said: i64, is: i64) -> i64 {
    let since = now.saturating_sub(said);
    is.saturating_add(since).clamp(0, TOTAL_MAX)
}

fn received(tx: &mut Tx<'_>, session: &str, (said, is): (i64, i64)) -> Result<Mended> {
    let sql = "SELECT received FROM upload_session WHERE id = $1 AND committed = 0";
    let Some(row) = tx.first(sql, params![session])? else { return Ok(Mended::No) };
    let right = moved(row.int(0)?, said, is);
    tx.count(Counted::Staging, 0, right - row.count(0)?);
    let sql = "UPDATE upload_session SET received = $1 WHERE id = $2";
    tx.execute(sql, params![right, session])?;
    Ok(Mended::Yes)
}

/// Removes some chunks of a session that is gone.
fn chunks(tx: &mut Tx<'_>, session: &str) -> Result<Mended> {
    if tx.exists("SELECT 1 FROM upload_session WHERE id = $1", params![session])? {
        return Ok(Mended::No);
    }
    let rows = tx.all(
        "DELETE FROM upload_chunk WHERE session = $1 AND start IN (
           SELECT start FROM upload_chunk WHERE session = $1 ORDER BY start LIMIT $2)
         RETURNING part",
        params![session, CHECK_REPAIR_ROWS],
    )?;
    for row in &rows {
        enqueue_garbage(tx, Ref::part(row.int(0)?))?;
    }
    let is_over = (rows.len() as i64) < CHECK_REPAIR_ROWS;
    Ok(if is_over { Mended::Yes } else { Mended::More })
}
