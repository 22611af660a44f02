//! The command `upgrade`: brings the tables of a store up to date without serving it.

use std::path::Path;

use tokio::task::spawn_blocking;

use super::{Error, config::Config, locks::Locks};
use crate::{
    cli::Upgrade,
    model::Formats,
    namespace::{Database, upgrade},
    secret::Secret,
};

/// Brings the store that the arguments name up to date. Returns where it is, too.
///
/// # Errors
///
/// A URL that is malformed; no store; a store that a server has open for itself, or that a newer program wrote; a server
/// that is too old for the format of this program.
///
/// # Cancel safety
///
/// The upgrade is one transaction, which goes on when the future is dropped.
pub(super) async fn run(arguments: Upgrade) -> Result<(String, Formats), Error> {
    let url = arguments.database.as_ref().map(Secret::expose);
    let data = arguments.data.as_deref().unwrap_or(Path::new(""));
    let database = Config::private(data, url, None)?.database;
    let place = match &database {
        Database::Sqlite(file) => file.display().to_string(),
        Database::Postgres(_) => "PostgreSQL".to_owned(),
    };
    if !database.exists() {
        return Err(Error::new(format!("no store is in {place}; name its data folder")));
    }
    let work = move || {
        // Servers of an SQLite file lock it; the claim of a connection keeps those of a PostgreSQL database out.
        let _locks = match &database {
            Database::Sqlite(file) => Some(Locks::of_database(file)?),
            Database::Postgres(_) => None,
        };
        let done = upgrade::run(&database);
        done.map_err(|error| Error::new("cannot bring the store up to date").because(error))
    };
    let panicked = |error| Error::new("the upgrade panicked").because(error);
    Ok((place, spawn_blocking(work).await.map_err(panicked)??))
}
