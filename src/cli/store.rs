//! The commands `store`, which connect to no server.

use std::path::{self, Path, PathBuf};

use serde::Serialize;

use crate::{
    cli::{
        Failure, Global,
        args::store::{AddStore, StoreCommand},
        config_file::{self, Store},
        output::Output,
    },
    client::{Client, error::Error},
};

/// A named store as JSON.
#[derive(Serialize)]
struct StoreJson<'a> {
    name: &'a str,
    address: &'a str,
    ca: Option<&'a Path>,
    cert: Option<&'a Path>,
    key: Option<&'a Path>,
    token_file: Option<&'a Path>,
}

impl<'a> StoreJson<'a> {
    fn new(name: &'a str, store: &'a Store) -> Self {
        let [ca, cert, key, token_file] = store.files().map(|(_, file)| file);
        Self { name, address: &store.address, ca, cert, key, token_file }
    }
}

/// Runs a command below `store`. Blocks on the local disk.
pub(super) fn run(
    global: &Global,
    command: &StoreCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let file = global.config_file()?;
    match command {
        StoreCommand::Add(args) => {
            let store = store_of(global, args)?;
            config_file::add(file, &args.name, &store, args.replace)?;
            let line = format!("added {} to {}", args.name, file.display());
            Ok(output.print_and_flush(&StoreJson::new(&args.name, &store), line)?)
        }
        StoreCommand::List => {
            for (name, store) in &config_file::read(file)? {
                output.print(&StoreJson::new(name, store), line(name, store))?;
            }
            Ok(output.flush()?)
        }
        StoreCommand::Remove(args) => {
            let stores = config_file::read(file)?;
            let store =
                stores.get(&args.name).ok_or_else(|| config_file::unknown(file, &args.name))?;
            config_file::remove(file, &args.name)?;
            let line = format!("removed {} from {}", args.name, file.display());
            Ok(output.print_and_flush(&StoreJson::new(&args.name, store), line)?)
        }
    }
}

/// The store of `store add`. Its files are read, so that a mistake is found now.
fn store_of(global: &Global, args: &AddStore) -> Result<Store, Failure> {
    let address = Client::check_address(&args.address, &global.options()?)?;
    let absolute = |file: &Option<PathBuf>| {
        let file = file.as_ref().map(|file| {
            path::absolute(file).map_err(|why| Error::Local {
                action: "read",
                path: file.clone(),
                why,
            })
        });
        file.transpose()
    };
    Ok(Store {
        address,
        ca: absolute(&global.ca)?,
        cert: absolute(&global.cert)?,
        key: absolute(&global.key)?,
        token_file: absolute(&global.token_file)?,
    })
}

/// A store as a line: its name, its address, and its files by their flags.
fn line(name: &str, store: &Store) -> String {
    let mut line = format!("{name}  {}", store.address);
    for (flag, file) in store.files() {
        if let Some(file) = file {
            line.push_str(&format!("  --{flag} {}", file.display()));
        }
    }
    line
}
