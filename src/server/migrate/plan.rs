//! The two ends of a migration, from the command line.

use std::{
    path::{Path, PathBuf},
    process,
};

use super::{Config, Error};
use crate::{
    blob::Location, cli::Migrate, limits::MIGRATE_GRACE, namespace::Database, secret::Secret,
};

/// What is copied, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The store of a stopped server; `None`: a server.
    pub(super) source: Option<End>,
    pub(super) target: End,
}

/// The source or the target.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) config: Config,
    /// `source` or `target`.
    pub(super) side: &'static str,
    /// Whether the data folder belongs to the store, and not only to the migration.
    pub(super) is_data_own: bool,
}

/// The flags of one end.
struct Flags<'a> {
    side: &'static str,
    /// What the names of the flags begin with.
    flag: &'static str,
    data: Option<&'a Path>,
    database: Option<&'a Secret>,
    blobs: Option<&'a str>,
}

impl Plan {
    /// Checks the arguments of the command.
    ///
    /// # Errors
    ///
    /// A URL that is malformed or has an unsupported scheme; an end without a database or a blob store; `memory://`; a
    /// source that does not exist; a source and a target with the same database or blob store.
    pub fn new(arguments: &Migrate) -> Result<Self, Error> {
        let from = Flags {
            side: "source",
            flag: "--from-",
            data: arguments.from_data.as_deref(),
            database: arguments.from_database.as_ref(),
            blobs: arguments.from_blobs.as_deref(),
        };
        let to = Flags {
            side: "target",
            flag: "--to-",
            data: arguments.to_data.as_deref(),
            database: arguments.to_database.as_ref(),
            blobs: arguments.to_blobs.as_deref(),
        };
        let source = if arguments.is_stopped() { Some(from.end()?) } else { None };
        let target = to.end()?;
        if let Some(source) = &source {
            source.check_exists()?;
            source.check_other(&target)?;
        }
        Ok(Self { source, target })
    }

    /// Whether the source is a server.
    pub fn is_running(&self) -> bool {
        self.source.is_none()
    }
}

impl Flags<'_> {
    fn end(&self) -> Result<End, Error> {
        let Self { side, flag, data, database, blobs } = self;
        if data.is_none() && (database.is_none() || blobs.is_none()) {
            return Err(Error::new(format!(
                "where is the {side}? {flag}data DIR names its data folder, or {flag}database URL and {flag}blobs URL \
                 both of its parts"
            )));
        }
        let url = database.map(Secret::expose);
        let parse = |data: &Path| {
            // The source is frozen and the target nobody else's: no other server may have either.
            Config::private(data, url, *blobs)
                .map(|config| Config { lease: None, ..config })
                .map_err(|error| Error::new(error.explain().replacen("--", flag, 1)))
        };
        let (mut config, is_data_own) = if let Some(data) = data {
            (parse(data)?, true)
        } else {
            let found = own_folder(&parse(Path::new(""))?);
            let temporary = || {
                let name = format!("imagestore-migrate-{side}-{}", process::id());
                std::env::temp_dir().join(name)
            };
            (parse(&found.clone().unwrap_or_else(temporary))?, found.is_some())
        };
        if config.blobs == Location::Memory {
            return Err(Error::new(format!(
                "{flag}blobs memory:// is the memory of this command; name a place that stays"
            )));
        }
        config.reclaim_grace = MIGRATE_GRACE;
        Ok(End { config, side, is_data_own })
    }
}

/// The folder of a store without a data folder: that of its parts, else that of its database; `None` if both are elsewhere.
fn own_folder(config: &Config) -> Option<PathBuf> {
    let blobs = config.blobs.folder().map(Path::to_owned);
    blobs.or_else(|| match &config.database {
        Database::Sqlite(file) => file.parent().map(Path::to_owned),
        Database::Postgres(_) => None,
    })
}

impl End {
    /// Refuses a source that does not exist. A bucket and a server of databases say so when they are opened.
    fn check_exists(&self) -> Result<(), Error> {
        let Config { database, blobs, data, .. } = &self.config;
        if database.exists() && blobs.folder().is_none_or(Path::exists) {
            return Ok(());
        }
        let data = data.display();
        Err(Error::new(format!("no store is in {data}, to copy from; name its data folder")))
    }

    /// Refuses a target that is the source.
    fn check_other(&self, target: &Self) -> Result<(), Error> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (from, to) = (&self.config, &target.config);
        let is_database_same = match (&from.database, &to.database) {
            (Database::Sqlite(from), Database::Sqlite(to)) => real(from) == real(to),
            (Database::Postgres(from), Database::Postgres(to)) => from == to,
            _ => false,
        };
        let is_blobs_same = match (from.blobs.folder(), to.blobs.folder()) {
            (Some(from), Some(to)) => real(from) == real(to),
            _ => from.blobs == to.blobs,
        };
        let what = match (is_database_same, is_blobs_same) {
            (true, _) => "database".to_owned(),
            (false, true) => format!("blob store {}", to.blobs),
            (false, false) => return Ok(()),
        };
        Err(Error::new(format!(
            "the source and the target have the same {what}; name another target"
        )))
    }
}
