//! The rules of a command line that clap cannot express.

use clap::{ArgMatches, error::ErrorKind, parser::ValueSource};

use super::migrate;
use crate::cli::skip;

/// Returns the first error in a command line that clap has accepted.
pub fn wrong(line: &ArgMatches) -> Option<(ErrorKind, String)> {
    if let Some(flag) = needs_data(line) {
        let why = format!("--{flag} is for a server that is stopped, and needs --data DIR");
        return Some((ErrorKind::MissingRequiredArgument, why));
    }
    if let ("migrate", migrate) = line.subcommand()? {
        return migrate::wrong(migrate);
    }
    let ("copy", copy) = line.subcommand()? else { return None };
    let several = copy.get_many::<String>("sources").is_some_and(|sources| sources.len() > 1);
    if several && copy.contains_id("operation_id") {
        let why = "--operation-id is the id of one copy; give one SRC".to_owned();
        return Some((ErrorKind::ArgumentConflict, why));
    }
    let mut names = copy.get_many::<String>("skip").into_iter().flatten();
    let why = names.find_map(|name| skip::unfit(name, copy.get_flag("literal")))?;
    Some((ErrorKind::InvalidValue, why))
}

/// Finds a typed `--database` or `--blobs` without `--data`. The environment variables are allowed without
/// `--data`, because a server has the same ones; a command that connects to a server ignores them.
fn needs_data(line: &ArgMatches) -> Option<&'static str> {
    let (name, mut line) = line.subcommand()?;
    if name == "upgrade" {
        // A database is enough to name its store.
        return None;
    }
    while let Some((_, below)) = line.subcommand() {
        line = below;
    }
    let given = |id| line.try_contains_id(id).unwrap_or(false);
    let typed = |id| given(id) && line.value_source(id) == Some(ValueSource::CommandLine);
    ["database", "blobs"].into_iter().find(|id| typed(id) && !given("data"))
}
