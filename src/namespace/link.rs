//! The key that signs links. It is in the table `meta`, which a backup does not contain, so a restored store has a key
//! of its own.

use crate::{
    error::Result,
    namespace::{
        schema,
        sql::{Tx, params},
    },
};

/// The names of the numbers of the key.
const NAMES: [&str; 4] = ["link_key_0", "link_key_1", "link_key_2", "link_key_3"];

/// The key of the store; `None` if it has none yet.
///
/// # Errors
/// Those of the engine.
pub fn key(tx: &mut Tx<'_>) -> Result<Option<[i64; 4]>> {
    let mut numbers = [0; 4];
    for (number, name) in numbers.iter_mut().zip(NAMES) {
        let found = tx.first("SELECT value FROM meta WHERE name = $1", params![name])?;
        let Some(row) = found else { return Ok(None) };
        *number = row.int(0)?;
    }
    Ok(Some(numbers))
}

/// Sets the key of the store.
///
/// # Errors
/// Those of the engine.
pub fn set_key(tx: &mut Tx<'_>, numbers: [i64; 4]) -> Result<()> {
    schema::next_access(tx)?;
    for (name, number) in NAMES.into_iter().zip(numbers) {
        tx.execute(
            "INSERT INTO meta (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            params![name, number],
        )?;
    }
    Ok(())
}
