//! Which database holds a namespace.

use std::path::PathBuf;

use crate::{
    error::Result,
    namespace::{
        postgres::{PostgresConnection, PostgresUrl},
        sql::{Connection, Mode},
        sqlite::SqliteConnection,
    },
};

/// A database: the choice of the engine. `Debug` hides passwords.
#[derive(Clone, Debug)]
pub enum Database {
    /// An SQLite file, made if it is missing.
    Sqlite(PathBuf),
    /// A PostgreSQL database, which exists; its tables are made if they are missing.
    Postgres(Box<PostgresUrl>),
}

impl Database {
    /// Whether its file is there. The database of a server is taken to be; connecting tells.
    pub fn exists(&self) -> bool {
        match self {
            Self::Sqlite(file) => file.exists(),
            Self::Postgres(_) => true,
        }
    }

    /// Connects, to write or only to read. Blocks, and must not be called on a thread of an async
    /// runtime.
    ///
    /// # Errors
    /// `Busy` if the database cannot be reached, or another server writes it; `InvalidArgument` if it
    /// cannot hold a store; `Internal`.
    pub fn connect(&self, mode: Mode) -> Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Sqlite(file) => Box::new(SqliteConnection::open(file, mode)?),
            Self::Postgres(url) => Box::new(PostgresConnection::open(url, mode)?),
        })
    }
}
