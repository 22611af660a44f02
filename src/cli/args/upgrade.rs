//! The arguments of `upgrade`.

use std::path::PathBuf;

use clap::Args;

use crate::secret::Secret;

/// Arguments of `upgrade`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct Upgrade {
    /// Data folder of the stopped server
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Database of the store, as `serve --database` takes it
    #[arg(long, value_name = "URL", env = "IMAGESTORE_DATABASE", hide_env_values = true)]
    pub database: Option<Secret>,
}
