//! The namespace: which path is which content, in an SQL database.
//!
//! The logic is written once, as plain synchronous functions over [`sql::Tx`]. They run on the database
//! threads of [`Engine`], to which async code sends jobs.
//!
//! **Deliberately absent:** the bytes of objects. The namespace knows their keys and never reads one.

pub mod assembly;
pub mod backup;
pub mod check;
pub mod condition;
pub mod content;
pub mod copy;
pub mod counted;
pub mod entries;
pub mod expelled;
pub mod files;
pub mod filter;
pub mod garbage;
pub mod group;
pub mod link;
pub mod list;
pub mod migration;
pub mod operation;
pub mod package;
pub mod pin;
pub mod restore;
pub mod schema;
pub mod server;
pub mod session;
pub mod sql;
pub mod sums;
pub mod suspect;
pub mod token;
pub mod tree;
pub mod unpack;
pub mod upgrade;
pub mod walk;

mod database;
mod engine;
#[cfg(test)]
mod metered;
mod postgres;
mod sqlite;

pub use database::Database;
pub use engine::Engine;
pub use migration::Purpose;
pub use postgres::PostgresUrl;
pub use tree::reach;

use crate::{
    crash::{self, Point},
    error::{Error, Kind, Result},
    limits::READERS,
    model::{BlobOwner, OperationError},
    namespace::{
        server::Joining,
        sql::{Connection, Mode, Tx},
    },
};

/// What a start found of earlier runs of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pins of earlier runs; background work drops them in steps.
    pub pins: u64,
    /// Operations that an earlier run left running; the start has marked them as failed.
    pub operations: u64,
}

/// An open namespace.
#[derive(Debug)]
pub struct Opened {
    /// Its database threads.
    pub engine: Engine,
    /// What the start found of earlier runs.
    pub recovered: Recovered,
    /// The id of the store, which its objects are marked with.
    pub store: i64,
    /// The number of the last change of any operation, see [`operation`].
    pub last_change: i64,
}

/// Opens the namespace in a database. Makes its tables if they are missing, and brings the tables of an older
/// format up to date. `owner` is the id of the store that has marked the objects. Blocks, and must not be called on a
/// thread of an async runtime. No other process may use an SQLite file.
///
/// # Errors
/// `InvalidArgument` for a store of a newer format, a database that cannot hold a store, objects of another store (a
/// sweep would delete them), or a blob store without the objects of this one; `Busy` if another server has the database or it cannot be
/// reached; `Internal` if it cannot be opened.
pub fn open(database: &Database, joining: &Joining, owner: BlobOwner) -> Result<Opened> {
    let mut writer = match joining.lease {
        Some(_) => database.join()?,
        None => database.connect(Mode::Write)?,
    };
    let connect = || (0..READERS).map(|_| database.connect(Mode::Read)).collect::<Result<Vec<_>>>();
    // Beside others a row of a start that fails would look like a server.
    let early = joining.lease.map(|_| connect()).transpose()?;
    if joining.lease.is_some() {
        upgrade::wait_for_old(writer.as_mut(), joining.previous)?;
    }
    let (recovered, store, last_change) = initialize_or_recover(writer.as_mut(), joining, owner)?;
    writer.register(joining.id);
    crash::reach(Point::Settle);
    writer.settle()?;
    crash::reach(Point::Settled);
    let readers = early.map_or_else(connect, Ok)?;
    let engine = Engine::start(writer, readers, joining.lease)?;
    Ok(Opened { engine, recovered, store, last_change })
}

/// Makes a new store, or brings an existing one up to date and recovers it, in one transaction. Returns what
/// was recovered, the id of the store, and the number of the last change of an operation.
fn initialize_or_recover(
    writer: &mut dyn Connection,
    joining: &Joining,
    owner: BlobOwner,
) -> Result<(Recovered, i64, i64)> {
    writer.begin(Mode::Write)?;
    let is_new = !writer.has_tables()?;
    if is_new {
        writer.make_tables(schema::TABLES)?;
    }
    let mut tx = Tx::new(writer);
    if is_new {
        schema::initialize(&mut tx)?;
    }
    if joining.lease.is_some() {
        upgrade::check(&mut tx, joining.previous)?;
    }
    schema::migrate(&mut tx)?;
    let store = schema::meta(&mut tx, "store")?;
    check_owner(&mut tx, owner, is_new)?;
    migration::admit(&mut tx, joining.purpose)?;
    if server::register(&mut tx, joining)? && !is_new {
        schema::raise_epoch(&mut tx)?;
    }
    let recovered = recover(&mut tx)?;
    let last_change = schema::meta(&mut tx, "change")?;
    let counted = tx.counted();
    sums::keep(&mut tx, &counted)?;
    crash::reach(Point::Recover);
    writer.commit()?;
    crash::reach(Point::Recovered);
    Ok((recovered, store, last_change))
}

/// Refuses objects of another store, and a blob store without the objects that this store has.
fn check_owner(tx: &mut Tx<'_>, owner: BlobOwner, is_new: bool) -> Result<()> {
    let sql = "SELECT 1 FROM part WHERE object IS NOT NULL LIMIT 1";
    let what = match owner {
        BlobOwner::Store(id) if id == schema::meta(tx, "store")? => return Ok(()),
        BlobOwner::Store(_) if is_new => {
            "the parts of files in the blob store belong to a store, and there is no store yet in the database"
        }
        BlobOwner::Store(_) => {
            "the parts of files in the blob store belong to a store, and another store is in the database"
        }
        BlobOwner::Nobody if tx.exists(sql, &[])? => {
            "the blob store belongs to no store, and the store in the database has parts of files elsewhere"
        }
        BlobOwner::Nobody | BlobOwner::Unknown => return Ok(()),
    };
    let message = format!("{what}; name the database and the blob store of one store");
    Err(Error::new(Kind::InvalidArgument, message))
}

/// Fails the operations of dead servers, and drops the first pins of each; background work drops the rest.
fn recover(tx: &mut Tx<'_>) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    for id in server::dead_owners(tx)? {
        recovered.pins += pin::of(tx, &id)?;
        recovered.operations += server::clear(tx, &id, &lost_server())?.0;
    }
    Ok(recovered)
}

/// The error of an operation whose server is dead.
pub fn lost_server() -> OperationError {
    OperationError {
        kind: Kind::ServerLost,
        message: "the server that ran the operation was lost; start the operation again".to_owned(),
    }
}
