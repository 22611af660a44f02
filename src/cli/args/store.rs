//! The arguments of `store`.

use clap::{Args, Subcommand};

use crate::cli::store_name;

/// The commands below `store`.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Add a store to the configuration file, so that commands can name it, as in NAME:PATH
    ///
    /// The values of --ca, --cert, --key and --token-file become part of it; the token itself does not, only the path
    /// of its file.
    Add(AddStore),
    /// List the stores of the configuration file
    List,
    /// Remove a store from the configuration file; the store itself stays as it is
    Remove(RemoveStore),
}

/// Arguments of `store add`.
#[derive(Args, Clone, Debug)]
pub struct AddStore {
    /// Name of the store, of letters, digits, ., _ and -, which begins with a letter or digit
    #[arg(value_parser = store_name::name)]
    pub name: String,
    /// Address of its server, such as https://HOST:PORT
    pub address: String,
    /// Replace the store that has this name
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `store remove`.
#[derive(Args, Clone, Debug)]
pub struct RemoveStore {
    /// Name of the store
    #[arg(value_parser = store_name::name)]
    pub name: String,
}
