//! The namespace: which path is which content, in an SQL database.
//!
//! The logic is written once, as plain synchronous functions over [`sql::Tx`]; it runs on the
//! database threads of [`Engine`], which async code sends jobs to.
//!
//! **Deliberately absent:** the bytes of objects. The namespace knows their keys and never reads one.

pub mod check;
pub mod content;
pub mod copy;
pub mod filter;
pub mod garbage;
pub mod list;
pub mod operation;
pub mod pin;
pub mod schema;
pub mod session;
pub mod sql;
pub mod tree;
pub mod walk;

mod engine;
mod sqlite;

use std::path::Path;

pub use engine::Engine;

use crate::{
    error::{Error, Kind, Result},
    limits::READERS,
    model::OperationError,
    namespace::{
        sql::{Connection, Mode, Tx},
        sqlite::SqliteConnection,
    },
};

/// What a start found of an earlier instance and cleared away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pins dropped.
    pub pins: u64,
    /// Operations that were running and are failed now.
    pub operations: u64,
}

/// Opens the namespace in an SQLite file, and makes it if it is missing. `server` is the id of this
/// instance. Blocks; the caller alone has the file.
///
/// # Errors
/// `InvalidArgument` for a store of a newer format, `Internal` if the file cannot be opened.
pub fn open_sqlite(file: &Path, server: &str) -> Result<(Engine, Recovered)> {
    let is_new = !file.exists();
    let mut writer = SqliteConnection::open(file)?;
    let recovered = in_transaction(&mut writer, |writer| {
        let mut tables = Tx::new(writer);
        let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'";
        if tables.exists(sql, &[])? {
            schema::check_format(&mut tables)?;
            return recover(&mut tables, server);
        }
        writer.execute_schema(schema::TABLES)?;
        schema::found(&mut Tx::new(writer))?;
        Ok(Recovered::default())
    })?;
    if is_new {
        sync_folder_of(file)?;
    }
    writer.checkpoint()?;
    let readers = (0..READERS)
        .map(|_| Ok(Box::new(SqliteConnection::open(file)?) as Box<dyn Connection>))
        .collect::<Result<_>>()?;
    Ok((Engine::start(Box::new(writer), readers)?, recovered))
}

fn in_transaction<T>(
    connection: &mut SqliteConnection,
    run: impl FnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    connection.begin(Mode::Write)?;
    match run(connection) {
        Ok(value) => connection.commit().map(|()| value),
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}

fn recover(tx: &mut Tx<'_>, server: &str) -> Result<Recovered> {
    let error = OperationError {
        kind: Kind::Cancelled,
        message: "the server stopped while the operation ran; start it again".to_owned(),
    };
    Ok(Recovered {
        pins: pin::unpin_others(tx, server)?,
        operations: operation::fail_others(tx, server, &error)?,
    })
}

/// The name of a new file is durable when its folder is.
fn sync_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::internal)
}
