//! The steps that bring a store of an older format up to date, one from each format to the next.
//!
//! A step runs once in each store of an older format, and is never changed. Its statements use the tables as
//! they were in that format: no table or column of a later step, and no statement of another module on a
//! table that a later format changes.

use crate::{
    error::Result,
    limits::PATH_DEPTH_MAX,
    namespace::{
        counted::Counted,
        schema::new_id,
        sql::{Tx, params},
        sums,
    },
};

/// A step from one format to the next.
pub(super) type Step = fn(&mut Tx<'_>) -> Result<()>;

/// The steps in order: the first one leads from format 1 to format 2.
pub(super) const STEPS: [Step; 6] =
    [to_format_2, to_format_3, to_format_4, to_format_5, to_format_6, to_format_7];

/// The table `sums`, as in format 4.
const SUMS_TABLE: &str = "
CREATE TABLE sums (kind BIGINT PRIMARY KEY, number BIGINT NOT NULL, bytes BIGINT NOT NULL){clustered};";

/// Adds to format 1: the reach of folders, the number of pieces of sessions, the id of the store.
fn to_format_2(tx: &mut Tx<'_>) -> Result<()> {
    add_reach(tx)?;
    add_pieces(tx)?;
    tx.execute("INSERT INTO meta (name, value) VALUES ('store', $1)", params![new_id()]).map(drop)
}

/// Adds to format 2: the changes of operations and folders, the claims of dead objects.
fn to_format_3(tx: &mut Tx<'_>) -> Result<()> {
    for sql in [
        "ALTER TABLE folder ADD COLUMN changes BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE operation ADD COLUMN change BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE operation ADD COLUMN files_replaced BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE operation ADD COLUMN skip_files_unmatched TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE dead_object ADD COLUMN claimed BIGINT NOT NULL DEFAULT 0",
        "UPDATE operation SET change = seq",
        "CREATE INDEX operation_change ON operation (change)",
        "INSERT INTO meta (name, value)
           SELECT 'change', COALESCE(MAX(change), 0) FROM operation",
        "INSERT INTO meta (name, value) VALUES ('change_forgotten', 0)",
    ] {
        tx.execute(sql, &[])?;
    }
    Ok(())
}

/// Adds to format 3: the sums of the store, and the bytes that each row of garbage frees. Removes the expiry
/// of pins: a start drops the pins of earlier runs of the server.
fn to_format_4(tx: &mut Tx<'_>) -> Result<()> {
    tx.make_tables(SUMS_TABLE)?;
    for sql in [
        "DROP INDEX part_inline_size",
        "DROP INDEX part_object_size",
        "DROP INDEX pin_expires",
        "ALTER TABLE pin DROP COLUMN expires",
        "CREATE INDEX pin_server ON pin (server)",
        "ALTER TABLE garbage ADD COLUMN bytes BIGINT",
        "UPDATE garbage SET bytes = (SELECT p.size FROM part p WHERE p.id = garbage.id)
         WHERE kind = 3",
        "UPDATE garbage SET bytes = (SELECT c.size FROM content c WHERE c.id = garbage.id)
         WHERE kind = 2 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.content = garbage.id)",
        "UPDATE garbage SET bytes = (SELECT f.bytes FROM folder f WHERE f.id = garbage.id)
         WHERE kind = 1 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.child = garbage.id)",
    ] {
        tx.execute(sql, &[])?;
    }
    for &what in Counted::ALL {
        let now = sums::recount(tx, what)?;
        tx.count(what, now.count, now.bytes);
    }
    Ok(())
}

/// The table `token`, as in format 5.
const TOKEN_TABLE: &str = "
CREATE TABLE token (
  id {text} PRIMARY KEY, name {text} NOT NULL, grants {text} NOT NULL, created_by {text} NOT NULL,
  created BIGINT NOT NULL, life BIGINT, expires BIGINT, used BIGINT, revoked BIGINT,
  secret {bytes} NOT NULL, old_secret {bytes}, old_until BIGINT){clustered};
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked IS NULL;
CREATE INDEX token_order ON token (name, id);";

/// Adds to format 4: tokens, and the caller of an operation.
fn to_format_5(tx: &mut Tx<'_>) -> Result<()> {
    tx.make_tables(TOKEN_TABLE)?;
    for sql in [
        "ALTER TABLE operation ADD COLUMN caller TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE operation ADD COLUMN credential TEXT NOT NULL DEFAULT ''",
    ] {
        tx.execute(sql, &[])?;
    }
    Ok(())
}

/// The tables of servers, as in format 6.
const SERVER_TABLES: &str = "
CREATE TABLE server (
  id {text} PRIMARY KEY, batch BIGINT NOT NULL, state BIGINT NOT NULL, lease BIGINT NOT NULL,
  speaks BIGINT NOT NULL, ended BIGINT){clustered};
CREATE TABLE suspect (object {text} PRIMARY KEY, size BIGINT NOT NULL, server {text} NOT NULL){clustered};
CREATE INDEX suspect_server ON suspect (server);";

/// Adds to format 5: the rows of servers, and the suspects of sweeps. The bytes of small parts stay in their rows.
fn to_format_6(tx: &mut Tx<'_>) -> Result<()> {
    tx.make_tables(SERVER_TABLES)?;
    tx.keep_in_rows("part")
}

/// Adds to format 6: the number of changes of tokens, and when objects were marked for deletion.
fn to_format_7(tx: &mut Tx<'_>) -> Result<()> {
    for sql in [
        "INSERT INTO meta (name, value) VALUES ('access', 0)",
        "ALTER TABLE dead_object ADD COLUMN since BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX dead_object_since ON dead_object (since, object)",
    ] {
        tx.execute(sql, &[])?;
    }
    let now = tx.now()?;
    tx.execute("UPDATE dead_object SET since = $1", params![now]).map(drop)
}

/// Adds the reach of folders. Each pass over all entries extends the known paths by one name; the passes end
/// at one name more than a path may have, which is enough to find folders that are too deep.
fn add_reach(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute("ALTER TABLE folder ADD COLUMN depth BIGINT NOT NULL DEFAULT 0", &[])?;
    tx.execute("ALTER TABLE folder ADD COLUMN length BIGINT NOT NULL DEFAULT 0", &[])?;
    for _ in 0..=PATH_DEPTH_MAX {
        let raised = tx.execute(
            "UPDATE folder SET depth = below.depth, length = below.length
             FROM (SELECT e.folder, MAX(1 + COALESCE(f.depth, 0)) AS depth,
                     MAX(OCTET_LENGTH(e.name) + COALESCE(1 + f.length, 0)) AS length
                   FROM entry e LEFT JOIN folder f ON f.id = e.child GROUP BY e.folder) AS below
             WHERE below.folder = folder.id
               AND (folder.depth <> below.depth OR folder.length <> below.length)",
            &[],
        )?;
        if raised == 0 {
            break;
        }
    }
    Ok(())
}

/// Adds the number of pieces of upload sessions.
fn add_pieces(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute("ALTER TABLE upload_session ADD COLUMN pieces BIGINT NOT NULL DEFAULT 0", &[])?;
    let sql = "UPDATE upload_session SET pieces =
                 (SELECT COUNT(*) FROM upload_chunk WHERE session = upload_session.id)";
    tx.execute(sql, &[]).map(drop)
}
