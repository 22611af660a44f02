//! Pins: what a running operation, upload or download holds.
//!
//! A pin counts as a reference until its row is gone, expired or not. It is dropped through
//! [`let_go_if_last`], so that what it held last is reclaimed.

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    limits::{EXPIRE_ROWS, PIN_LIFE, UNPIN_ROWS, micros},
    namespace::{
        garbage::{Ref, let_go_if_last},
        sql::{Row, Tx, params},
    },
};

/// Who holds pins: the id of an operation, upload or download, and the server it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The operation, upload or download.
    pub id: String,
    /// The instance of the server.
    pub server: String,
}

impl Owner {
    /// Makes the owner of an upload or download that begins on a server.
    pub fn new(server: &str) -> Self {
        Self { id: Uuid::now_v7().to_string(), server: server.to_owned() }
    }
}

/// Pins something.
pub fn pin(tx: &mut Tx<'_>, owner: &Owner, target: Ref) -> Result<()> {
    let expires = tx.now()?.saturating_add(micros(PIN_LIFE));
    tx.execute(
        "INSERT INTO pin (kind, target, owner, server, expires) VALUES ($1, $2, $3, $4, $5)",
        params![target.kind_number(), target.id, &owner.id, &owner.server, expires],
    )?;
    Ok(())
}

/// Fails unless the owner still has all its pins: without one, what it built on may be gone.
pub fn check(tx: &mut Tx<'_>, owner: &str, expected: usize) -> Result<()> {
    let found = tx.one("SELECT COUNT(*) FROM pin WHERE owner = $1", params![owner])?.int(0)?;
    if found == expected as i64 {
        return Ok(());
    }
    Err(lost(format!("{owner} has {found} of {expected} pins")))
}

fn lost(why: String) -> Error {
    let message = "the work stood still for too long and was given up; try again";
    Error::new(Kind::Cancelled, message).because(why)
}

/// Drops the one pin of an owner on something that is referred to by now.
///
/// # Errors
/// `Cancelled` unless there is one: what it held may be gone.
pub fn hand_over(tx: &mut Tx<'_>, owner: &Owner, target: Ref) -> Result<()> {
    let sql = "DELETE FROM pin WHERE kind = $1 AND target = $2 AND owner = $3";
    let dropped = tx.execute(sql, params![target.kind_number(), target.id, &owner.id])?;
    if dropped == 1 { Ok(()) } else { Err(lost(format!("{} lost {target:?}", owner.id))) }
}

/// Drops some pins of an owner that may have many. Returns whether there are more.
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

/// Drops pins of other servers' instances. Called at start, when this server alone has the store.
pub fn unpin_others(tx: &mut Tx<'_>, server: &str) -> Result<u64> {
    let sql = "DELETE FROM pin WHERE server <> $1 RETURNING kind, target";
    let rows = tx.all(sql, params![server])?;
    release(tx, &rows)?;
    Ok(rows.len() as u64)
}

/// Renews the pins of a server that lives, and drops some that have expired.
pub fn renew(tx: &mut Tx<'_>, server: &str) -> Result<()> {
    let now = tx.now()?;
    let expires = now.saturating_add(micros(PIN_LIFE));
    tx.execute("UPDATE pin SET expires = $1 WHERE server = $2", params![expires, server])?;
    let rows = tx.all(
        "DELETE FROM pin WHERE id IN (SELECT id FROM pin WHERE expires <= $1 ORDER BY expires LIMIT $2)
         RETURNING kind, target",
        params![now, EXPIRE_ROWS as i64],
    )?;
    release(tx, &rows)
}

fn release(tx: &mut Tx<'_>, rows: &[Row]) -> Result<()> {
    for row in rows {
        let id = row.int(1)?;
        let target = match row.int(0)? {
            1 => Ref::folder(id),
            2 => Ref::content(id),
            _ => Ref::part(id),
        };
        let_go_if_last(tx, target)?;
    }
    Ok(())
}
