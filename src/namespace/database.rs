//! The choice of the database that holds a namespace.

use std::path::PathBuf;

use crate::{
    error::Result,
    namespace::{
        postgres::{Claim, PostgresConnection, PostgresUrl},
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

    /// Connects, for reading only or for writing, which keeps all other servers out. Blocks, and must not be called on
    /// a thread of an async runtime.
    ///
    /// # Errors
    /// `Busy` if the database cannot be reached or another server has it; `InvalidArgument` if it cannot hold
    /// a store; `Internal` for other failures.
    pub fn connect(&self, mode: Mode) -> Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Sqlite(file) => Box::new(SqliteConnection::open(file, mode)?),
            Self::Postgres(url) => {
                let claim = (mode == Mode::Write).then_some(Claim::Exclusive);
                Box::new(PostgresConnection::open(url, claim)?)
            }
        })
    }

    /// Connects for writing beside other servers. An SQLite file takes one server nevertheless.
    ///
    /// # Errors
    /// Those of [`Database::connect`]; `Busy` if a server has the database for itself.
    pub fn join(&self) -> Result<Box<dyn Connection>> {
        match self {
            Self::Sqlite(_) => self.connect(Mode::Write),
            Self::Postgres(url) => {
                Ok(Box::new(PostgresConnection::open(url, Some(Claim::Shared))?))
            }
        }
    }
}
