//! The expulsion of a server from its store.

use crate::error::{Error, Kind};

/// Why a server must start over under a new id: it never writes again under this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expelled {
    /// Another server has declared it dead.
    Dead,
    /// The database has lost commits, by a failover or a restore.
    CommitsLost,
    /// Another process writes with the same id: a copy of this machine.
    Cloned,
}

impl Expelled {
    /// The error of calls from then on.
    pub fn error(self) -> Error {
        let message = match self {
            Self::Dead => {
                "this server was declared dead, because the database did not hear from it; it starts over; try again"
            }
            Self::CommitsLost => {
                "the database has lost commits; this server starts over; try again"
            }
            Self::Cloned => {
                "another process writes with the id of this server; it starts over; try again"
            }
        };
        Error::new(Kind::Busy, message)
    }
}
