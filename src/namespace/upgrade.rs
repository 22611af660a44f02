//! Servers of older programs on a store that is to be brought up to date.
//!
//! The format is raised only when no server is there that does not know it. A server that was killed leaves a living row;
//! it is declared dead once its count of commits has stood still for its lease.

use std::{thread::sleep, time::Duration};

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    model::Formats,
    namespace::{
        Database, schema,
        server::{self, Server},
        sql::{Connection, Mode, Tx},
        sums,
    },
};

/// Brings the tables of a store up to date without serving it. Blocks, for a lease at most while servers of an older
/// program have not ended, and must not be called on a thread of an async runtime. No other process may use an SQLite
/// file.
///
/// # Errors
/// `InvalidArgument` if no store is in the database, a newer program wrote it, or a server is too old for the format of
/// this program; `Busy` if a server has the database for itself or it cannot be reached; `Internal` for other failures.
pub fn run(database: &Database) -> Result<Formats> {
    let mut writer = database.join()?;
    wait_for_old(writer.as_mut(), None)?;
    let formats = in_transaction(writer.as_mut(), |tx| {
        check(tx, None)?;
        let before = schema::meta(tx, "format")?;
        schema::migrate(tx)?;
        let counted = tx.counted();
        sums::keep(tx, &counted)?;
        Ok(Some(Formats { before, after: schema::meta(tx, "format")? }))
    })?;
    writer.settle()?;
    formats.ok_or_else(|| {
        let why = "no store is in the database; the first start of a server makes it";
        Error::new(Kind::InvalidArgument, why)
    })
}

/// The other living servers that do not know the format of this program, if the store has an older one. The run
/// `previous` has certainly ended.
fn old(tx: &mut Tx<'_>, previous: Option<Uuid>) -> Result<Vec<Server>> {
    let format = schema::meta(tx, "format")?;
    if !(schema::FORMAT_OF_SERVERS..schema::FORMAT).contains(&format) {
        return Ok(Vec::new());
    }
    let previous = previous.map(|id| id.to_string());
    let mut old = server::living(tx)?;
    old.retain(|row| {
        row.lease > 0 && row.speaks < schema::FORMAT && Some(&row.id) != previous.as_ref()
    });
    Ok(old)
}

/// Checks that no other living server is too old for the format of this program.
///
/// # Errors
/// `InvalidArgument`, with the id of that server.
pub(super) fn check(tx: &mut Tx<'_>, previous: Option<Uuid>) -> Result<()> {
    let Some(old) = old(tx, previous)?.into_iter().next() else { return Ok(()) };
    let message = format!(
        "the server {} on this store knows formats up to {} only, and this program writes {}; stop it, and try \
         again",
        old.id,
        old.speaks,
        schema::FORMAT
    );
    Err(Error::new(Kind::InvalidArgument, message))
}

/// Waits for the lease of servers that are too old for the format of this program, and declares those dead that have not
/// committed meanwhile. Blocks for a lease at most.
///
/// # Errors
/// Those of the engine.
pub(super) fn wait_for_old(writer: &mut dyn Connection, previous: Option<Uuid>) -> Result<()> {
    let before = in_transaction(writer, |tx| old(tx, previous))?;
    let Some(lease) = before.iter().map(|row| row.lease).max() else { return Ok(()) };
    let lease = Duration::from_micros(u64::try_from(lease).unwrap_or_default());
    tracing::info!(
        servers = before.len(),
        seconds = lease.as_secs_f64(),
        "servers of an older program have not ended; waiting whether they still commit"
    );
    sleep(lease);
    in_transaction(writer, |tx| {
        for row in old(tx, previous)? {
            if before.contains(&row) {
                server::end(tx, &row.id)?;
            }
        }
        Ok(())
    })
}

/// Runs a job in a write transaction, if there is a store.
fn in_transaction<T: Default>(
    writer: &mut dyn Connection,
    job: impl FnOnce(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    writer.begin(Mode::Write)?;
    if !writer.has_tables()? {
        writer.rollback();
        return Ok(T::default());
    }
    let done = job(&mut Tx::new(writer));
    if done.is_ok() {
        writer.commit()?;
    } else {
        writer.rollback();
    }
    done
}
