//! Pins: references that a running operation, upload or download holds.
//!
//! A target is referenced as long as a row of the table `pin` names it. A pin belongs to one run of a server and does
//! not expire; it goes with that run ([`server`](super::server)). A pin is dropped through
//! [`enqueue_if_unreferenced`], which queues its target for reclamation if no other reference is left.

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    limits::UNPIN_ROWS,
    namespace::{
        garbage::{Ref, enqueue_if_unreferenced},
        sql::{Row, Tx, params},
    },
};

/// The holder of pins: an operation, upload or download, and the run of the server that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The id of the operation, upload or download.
    pub id: String,
    /// The id of the run of the server.
    pub server: String,
}

impl Owner {
    /// Makes the owner of a new upload or download.
    pub fn new(server: &str) -> Self {
        Self { id: Uuid::now_v7().to_string(), server: server.to_owned() }
    }
}

/// Pins a target.
pub fn pin(tx: &mut Tx<'_>, owner: &Owner, target: Ref) -> Result<()> {
    tx.execute(
        "INSERT INTO pin (kind, target, owner, server) VALUES ($1, $2, $3, $4)",
        params![target.kind_number(), target.id, &owner.id, &owner.server],
    )?;
    Ok(())
}

/// Fails unless the owner holds exactly `expected` pins: without one of them, a target that the owner relies
/// on may be gone. The error is `Busy`.
pub fn check(tx: &mut Tx<'_>, owner: &str, expected: usize) -> Result<()> {
    let found = tx.one("SELECT COUNT(*) FROM pin WHERE owner = $1", params![owner])?.int(0)?;
    if found == expected as i64 {
        return Ok(());
    }
    Err(lost(format!("{owner} has {found} of {expected} pins")))
}

/// Fails unless the owner holds a pin on the target.
///
/// # Errors
/// `Busy`: without the pin, the target may be gone.
pub fn check_one(tx: &mut Tx<'_>, owner: &Owner, target: Ref) -> Result<()> {
    let sql = "SELECT 1 FROM pin WHERE kind = $1 AND target = $2 AND owner = $3";
    if tx.exists(sql, params![target.kind_number(), target.id, &owner.id])? {
        return Ok(());
    }
    Err(lost(format!("{} lost {target:?}", owner.id)))
}

/// The error of work whose pins are gone: its server was declared dead, or the database has lost commits.
fn lost(why: String) -> Error {
    let message = "a reference of this operation was lost; try again";
    Error::new(Kind::Busy, message).because(why)
}

/// Drops the only pin of an owner on a target that another reference holds by now, without queueing the
/// target.
///
/// # Errors
/// `Busy` unless the owner holds exactly one pin on the target: the target may be gone.
pub fn transfer(tx: &mut Tx<'_>, owner: &Owner, target: Ref) -> Result<()> {
    let sql = "DELETE FROM pin WHERE kind = $1 AND target = $2 AND owner = $3";
    let dropped = tx.execute(sql, params![target.kind_number(), target.id, &owner.id])?;
    if dropped == 1 { Ok(()) } else { Err(lost(format!("{} lost {target:?}", owner.id))) }
}

/// Drops one step of the pins of an owner that may have many. Returns whether there may be more.
pub fn unpin_some(tx: &mut Tx<'_>, owner: &str) -> Result<bool> {
    let rows = tx.all(
        "DELETE FROM pin WHERE id IN (SELECT id FROM pin WHERE owner = $1 LIMIT $2)
         RETURNING kind, target",
        params![owner, UNPIN_ROWS as i64],
    )?;
    release(tx, &rows)?;
    Ok(rows.len() == UNPIN_ROWS)
}

/// Drops all pins of an owner.
pub fn unpin(tx: &mut Tx<'_>, owner: &str) -> Result<()> {
    let rows = tx.all("DELETE FROM pin WHERE owner = $1 RETURNING kind, target", params![owner])?;
    release(tx, &rows)
}

/// The servers that have pins, in order. Reads one row for each.
pub fn servers(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let mut servers = Vec::new();
    let mut after = String::new();
    let sql = "SELECT server FROM pin WHERE server > $1 ORDER BY server LIMIT 1";
    while let Some(row) = tx.first(sql, params![&after])? {
        after = row.text(0)?;
        servers.push(after.clone());
    }
    Ok(servers)
}

/// The number of pins of a server.
pub fn of(tx: &mut Tx<'_>, server: &str) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM pin WHERE server = $1";
    tx.one(sql, params![server])?.count(0).map(|pins| pins as u64)
}

/// Drops one step of the pins of a server that is dead. Returns whether there may be more.
pub fn unpin_of(tx: &mut Tx<'_>, server: &str) -> Result<bool> {
    let rows = tx.all(
        "DELETE FROM pin WHERE id IN (SELECT id FROM pin WHERE server = $1 LIMIT $2)
         RETURNING kind, target",
        params![server, UNPIN_ROWS as i64],
    )?;
    release(tx, &rows)?;
    Ok(rows.len() == UNPIN_ROWS)
}

fn release(tx: &mut Tx<'_>, rows: &[Row]) -> Result<()> {
    for row in rows {
        let id = row.int(1)?;
        let target = match row.int(0)? {
            1 => Ref::folder(id),
            2 => Ref::content(id),
            _ => Ref::part(id),
        };
        enqueue_if_unreferenced(tx, target)?;
    }
    Ok(())
}
