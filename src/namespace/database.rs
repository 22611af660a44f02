//! The choice of the database that holds a namespace.

use std::path::PathBuf;

use crate::{
    error::Result,
    namespace::{
        postgres::{PostgresConnection, PostgresUrl},
        sql::{Connection, Mode},
        sqlite::SqliteConnection,
    },
};

/// A database and how to reach it. `Debug` hides passwords.
#[derive(Clone, Debug)]
pub enum Database {
    /// An SQLite file, made if it is missing.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which must exist; its tables are made if they are missing.
    Postgres(Box<PostgresUrl>),
}

impl Database {
    /// Whether the SQLite file exists. A PostgreSQL database is assumed to exist; [`Database::connect`] fails
    /// if it does not.
    pub fn exists(&self) -> bool {
        match self {
            Self::Sqlite(file) => file.exists(),
            Self::Postgres(_) => true,
        }
    }

    /// Connects, for writing or only for reading. Blocks, and must not be called on a thread of an async
    /// runtime.
    ///
    /// # Errors
    /// `Busy` if the database cannot be reached or another server has it; `InvalidArgument` if it cannot hold
    /// a store; `Internal` for other failures.
    pub fn connect(&self, mode: Mode) -> Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Sqlite(file) => Box::new(SqliteConnection::open(file, mode)?),
            Self::Postgres(url) => Box::new(PostgresConnection::open(url, mode)?),
        })
    }
}
