//! The arguments of `migrate`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, error::ErrorKind, parser::ValueSource};

use crate::secret::Secret;

/// Arguments of `migrate`.
///
/// The databases have environment variables, because other users see the flags of a process, and a URL may have a
/// password.
#[derive(Args, Clone, Debug)]
pub struct Migrate {
    /// Copy from the data folder of a stopped server, instead of from the server
    #[arg(long, value_name = "DIR")]
    pub from_data: Option<PathBuf>,
    /// Database of the stopped server, if it was started with --database
    #[arg(long, value_name = "URL", env = "IMAGESTORE_FROM_DATABASE", hide_env_values = true)]
    pub from_database: Option<Secret>,
    /// Blob store of the stopped server, if it was started with --blobs
    #[arg(long, value_name = "URL")]
    pub from_blobs: Option<String>,
    /// Copy into this data folder, which is created if it is missing
    #[arg(long, value_name = "DIR")]
    pub to_data: Option<PathBuf>,
    /// Copy into this database, as `serve --database` takes it
    #[arg(long, value_name = "URL", env = "IMAGESTORE_TO_DATABASE", hide_env_values = true)]
    pub to_database: Option<Secret>,
    /// Copy into this blob store, as `serve --blobs` takes it
    #[arg(long, value_name = "URL")]
    pub to_blobs: Option<String>,
}

impl Migrate {
    /// Whether the source is the store of a stopped server.
    pub fn is_stopped(&self) -> bool {
        self.from_data.is_some() || self.from_database.is_some() || self.from_blobs.is_some()
    }
}

/// Returns the first error in a command line that clap has accepted.
pub(super) fn wrong(line: &ArgMatches) -> Option<(ErrorKind, String)> {
    let typed = |id| line.value_source(id) == Some(ValueSource::CommandLine);
    let from = ["from_data", "from_database", "from_blobs"];
    if typed("server") && from.iter().any(|id| line.value_source(id).is_some()) {
        let why = "--server copies from a server, and --from-… from the store of a stopped one; give one of them";
        return Some((ErrorKind::ArgumentConflict, why.to_owned()));
    }
    if ["to_data", "to_database", "to_blobs"].iter().all(|id| line.value_source(id).is_none()) {
        let why = "--to-data DIR, or --to-database URL and --to-blobs URL, say where to copy to";
        return Some((ErrorKind::MissingRequiredArgument, why.to_owned()));
    }
    None
}
