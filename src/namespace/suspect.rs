//! Suspects: objects that a sweep has found without a row, of a server that lives and may still name them.

use crate::{
    error::Result,
    namespace::sql::{Row, Tx, params},
};

/// An object without a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its key.
    pub object: String,
    /// Its size in bytes.
    pub size: i64,
    /// The server that has put it.
    pub server: String,
}

/// Notes a suspect, for its server to judge.
pub fn add(tx: &mut Tx<'_>, suspect: &Suspect) -> Result<()> {
    let sql = "INSERT INTO suspect (object, size, server) VALUES ($1, $2, $3)
               ON CONFLICT (object) DO NOTHING";
    tx.execute(sql, params![&suspect.object, suspect.size, &suspect.server]).map(drop)
}

/// At most `limit` suspects of a server.
pub fn of(tx: &mut Tx<'_>, server: &str, limit: usize) -> Result<Vec<Suspect>> {
    let sql = "SELECT object, size FROM suspect WHERE server = $1 LIMIT $2";
    let rows = tx.all(sql, params![server, limit as i64])?;
    let suspect = |row: &Row| {
        Ok(Suspect { object: row.text(0)?, size: row.int(1)?, server: server.to_owned() })
    };
    rows.iter().map(suspect).collect()
}

/// Removes a suspect that is judged.
pub fn remove(tx: &mut Tx<'_>, object: &str) -> Result<()> {
    tx.execute("DELETE FROM suspect WHERE object = $1", params![object]).map(drop)
}

/// Removes one step of the suspects of dead servers; a later sweep finds the objects again. Returns whether there may be
/// more.
pub fn expire(tx: &mut Tx<'_>, limit: usize) -> Result<bool> {
    let sql = "DELETE FROM suspect WHERE object IN (
                 SELECT object FROM suspect s
                 WHERE NOT EXISTS (SELECT 1 FROM server WHERE id = s.server AND ended IS NULL)
                 LIMIT $1)";
    Ok(tx.execute(sql, params![limit as i64])? == limit as u64)
}
