//! The tables, and the format of the store.

mod steps;

use uuid::Uuid;

use crate::{
    error::{Error, Kind, Result},
    model::FileVersion,
    namespace::{
        counted::Counted,
        entries,
        schema::steps::STEPS,
        sql::{Param, Row, Rows, Set, Tx, params, set},
    },
};

/// The format that this program writes. A store of a newer format is refused; a store of an older one is
/// brought up to this format in steps.
pub const FORMAT: i64 = 1 + STEPS.len() as i64;

/// The first format with the rows of servers.
pub const FORMAT_OF_SERVERS: i64 = 6;

/// The id of the root folder.
pub const ROOT: i64 = 1;

/// The tables of a new store, with the placeholders of [`make_tables`](super::sql::Connection::make_tables).
///
/// `garbage.bytes` is an upper bound of the bytes that the target frees; NULL where an entry still referred
/// to the target when it was queued. `pin.server` is the run of the server that holds the pin.
/// `operation.change` is the number of the last change of an operation's state; it rises in the order of
/// commits, `operation.caller` and `operation.credential` name who started it. `folder.changes` counts the writes to a folder and below it. `dead_object.claimed` is 1 as soon
/// as the object may be deleted. The index `upload_session_path` holds only the beginning of a path, because
/// PostgreSQL cannot index values of more than some 2,700 bytes.
pub const TABLES: &str = concat!(
    "
CREATE TABLE sums (kind BIGINT PRIMARY KEY, number BIGINT NOT NULL, bytes BIGINT NOT NULL){clustered};
CREATE TABLE meta (name {text} PRIMARY KEY, value BIGINT NOT NULL){clustered};
CREATE TABLE folder (
  id {id}, files BIGINT NOT NULL, bytes BIGINT NOT NULL,
  depth BIGINT NOT NULL, length BIGINT NOT NULL, changes BIGINT NOT NULL DEFAULT 0);",
    entries::table!(),
    "
CREATE TABLE content (id {id}, size BIGINT NOT NULL, etag {bytes} UNIQUE, digest {bytes});
CREATE INDEX content_no_digest ON content (id) WHERE digest IS NULL;
CREATE TABLE content_part (
  content BIGINT NOT NULL, start BIGINT NOT NULL, part BIGINT NOT NULL,
  PRIMARY KEY (content, start)){clustered};
CREATE INDEX content_part_part ON content_part (part);
CREATE TABLE part (
  id {id}, digest {bytes} NOT NULL UNIQUE, size BIGINT NOT NULL, bytes {bytes}, object {text});
CREATE UNIQUE INDEX part_object ON part (object) WHERE object IS NOT NULL;
CREATE TABLE dead_object (
  object {text} PRIMARY KEY, size BIGINT NOT NULL, claimed BIGINT NOT NULL DEFAULT 0,
  since BIGINT NOT NULL DEFAULT 0){clustered};
CREATE INDEX dead_object_since ON dead_object (since, object);
CREATE TABLE upload_session (
  id {text} PRIMARY KEY, path {text} NOT NULL, total BIGINT NOT NULL, received BIGINT NOT NULL,
  pieces BIGINT NOT NULL, modified BIGINT NOT NULL, committed BIGINT NOT NULL){clustered};
CREATE INDEX upload_session_path ON upload_session (substr(path, 1, 256), id);
CREATE INDEX upload_session_modified ON upload_session (modified);
CREATE TABLE upload_chunk (
  session {text} NOT NULL, start BIGINT NOT NULL, size BIGINT NOT NULL, part BIGINT NOT NULL,
  PRIMARY KEY (session, start)){clustered};
CREATE INDEX upload_chunk_part ON upload_chunk (part);
CREATE TABLE operation (
  seq {id}, id {text} NOT NULL UNIQUE, owner {text} NOT NULL, kind BIGINT NOT NULL,
  fingerprint {bytes} NOT NULL, state BIGINT NOT NULL,
  source {text} NOT NULL, destination {text} NOT NULL,
  files_done BIGINT NOT NULL, files_total BIGINT NOT NULL,
  bytes_done BIGINT NOT NULL, bytes_total BIGINT NOT NULL,
  files_skipped BIGINT NOT NULL, bytes_skipped BIGINT NOT NULL, current_path {text} NOT NULL,
  started BIGINT NOT NULL, updated BIGINT NOT NULL, finished BIGINT,
  error_reason {text}, error_message {text},
  change BIGINT NOT NULL DEFAULT 0, files_replaced BIGINT NOT NULL DEFAULT 0,
  skip_files_unmatched {text} NOT NULL DEFAULT '', caller {text} NOT NULL DEFAULT '',
  credential {text} NOT NULL DEFAULT '');
CREATE INDEX operation_change ON operation (change);
CREATE INDEX operation_state ON operation (state, seq);
CREATE INDEX operation_finished ON operation (finished) WHERE finished IS NOT NULL;
CREATE TABLE pin (
  id {id}, kind BIGINT NOT NULL, target BIGINT NOT NULL, owner {text} NOT NULL,
  server {text} NOT NULL);
CREATE INDEX pin_target ON pin (kind, target);
CREATE INDEX pin_owner ON pin (owner);
CREATE INDEX pin_server ON pin (server);
CREATE TABLE garbage (
  kind BIGINT NOT NULL, id BIGINT NOT NULL, since BIGINT NOT NULL, bytes BIGINT,
  PRIMARY KEY (kind, id)){clustered};
CREATE INDEX garbage_since ON garbage (since, kind DESC);
CREATE TABLE token (
  id {text} PRIMARY KEY, name {text} NOT NULL, grants {text} NOT NULL, created_by {text} NOT NULL,
  created BIGINT NOT NULL, life BIGINT, expires BIGINT, used BIGINT, revoked BIGINT,
  secret {bytes} NOT NULL, old_secret {bytes}, old_until BIGINT){clustered};
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked IS NULL;
CREATE INDEX token_order ON token (name, id);
CREATE TABLE server (
  id {text} PRIMARY KEY, batch BIGINT NOT NULL, state BIGINT NOT NULL, lease BIGINT NOT NULL,
  speaks BIGINT NOT NULL, ended BIGINT){clustered};
CREATE TABLE suspect (object {text} PRIMARY KEY, size BIGINT NOT NULL, server {text} NOT NULL){clustered};
CREATE INDEX suspect_server ON suspect (server);
"
);

/// Reads a number from the table `meta`.
pub fn meta(tx: &mut Tx<'_>, name: &str) -> Result<i64> {
    tx.one("SELECT value FROM meta WHERE name = $1", params![name])?.int(0)
}

/// Fills the tables of a new store: its format, id, epoch and root folder.
pub fn initialize(tx: &mut Tx<'_>) -> Result<()> {
    let now = tx.now()?;
    for (name, value) in [
        ("format", FORMAT),
        ("store", new_id()),
        // The epoch changes only when a backup is restored. Upstream's epoch numbers are times, too.
        ("epoch_data_loss", now),
        ("epoch_configuration", 1),
        ("version", 0),
        ("change", 0),
        ("change_forgotten", 0),
        ("access", 0),
    ] {
        tx.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", params![name, value])?;
    }
    tx.keep_in_rows("part")?;
    tx.execute("INSERT INTO folder (files, bytes, depth, length) VALUES (0, 0, 0, 0)", &[])?;
    tx.count(Counted::Folders, 1, 0);
    Ok(())
}

/// Makes the id of a new store, which its objects are marked with.
fn new_id() -> i64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    i64::try_from(high >> 1).unwrap_or(i64::MAX)
}

/// Refuses a store that a newer program wrote, and brings an older one up to date.
pub fn migrate(tx: &mut Tx<'_>) -> Result<()> {
    let format = meta(tx, "format")?;
    if format > FORMAT {
        let message = format!(
            "the store has format {format} and this program knows {FORMAT}; use a newer imagestore"
        );
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    for (from, step) in (1..FORMAT).zip(STEPS).filter(|(from, _)| *from >= format) {
        tracing::info!(format = from + 1, "the store is brought up to the next format");
        step(tx)?;
        tx.execute("UPDATE meta SET value = $1 WHERE name = 'format'", params![from + 1])?;
    }
    Ok(())
}

/// Takes over the epoch and the file versions of a restored store: the next version is above all that either
/// store has used.
pub fn adopt(tx: &mut Tx<'_>, version: &FileVersion) -> Result<()> {
    let number = version.number.max(meta(tx, "version")?);
    for (name, value) in [
        ("epoch_data_loss", version.epoch_data_loss),
        ("epoch_configuration", version.epoch_configuration),
        ("version", number),
    ] {
        tx.execute("UPDATE meta SET value = $1 WHERE name = $2", params![value, name])?;
    }
    Ok(())
}

/// Begins a new epoch, because the database has lost commits: the versions of files that are written again are above
/// those that were lost.
pub fn raise_epoch(tx: &mut Tx<'_>) -> Result<()> {
    let now = tx.now()?;
    let sql = "UPDATE meta SET value = CASE WHEN value < $1 THEN $1 ELSE value + 1 END
               WHERE name = 'epoch_data_loss'";
    tx.execute(sql, params![now]).map(drop)
}

/// Takes the next file version.
pub fn next_version(tx: &mut Tx<'_>) -> Result<i64> {
    next(tx, "version")
}

const NEXT_VERSIONS: Set = set!(
    "UPDATE meta SET value = value + r.files FROM",
    ["$1" "files" "BIGINT"],
    "WHERE name = 'version' RETURNING value,
       (SELECT m.value FROM meta m WHERE m.name = 'epoch_data_loss'),
       (SELECT m.value FROM meta m WHERE m.name = 'epoch_configuration')"
);

/// Takes the next `files` file versions. The result is the last one, for [`last_version`].
pub fn next_versions<'a>(files: usize) -> Rows<'a> {
    Rows::new(NEXT_VERSIONS, [[Param::from(files as i64)]])
}

/// Reads the result of [`next_versions`].
pub fn last_version(rows: &[Row]) -> Result<FileVersion> {
    let row = rows.first().ok_or_else(|| Error::internal("the store has no version"))?;
    let (number, epoch_data_loss, epoch_configuration) = (row.int(0)?, row.int(1)?, row.int(2)?);
    Ok(FileVersion { epoch_data_loss, epoch_configuration, number })
}

/// Takes the next number of a change of an operation's state.
pub fn next_change(tx: &mut Tx<'_>) -> Result<i64> {
    next(tx, "change")
}

/// Takes the next number of a change of tokens or of the key of links, so that other servers look at them again.
pub fn next_access(tx: &mut Tx<'_>) -> Result<()> {
    next(tx, "access").map(drop)
}

fn next(tx: &mut Tx<'_>, name: &str) -> Result<i64> {
    let sql = "UPDATE meta SET value = value + 1 WHERE name = $1 RETURNING value";
    tx.one(sql, params![name])?.int(0)
}
