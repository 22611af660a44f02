//! Named stores on a command line: `NAME:PATH` is a path in a store of the configuration file, and `--server NAME:` is
//! its server.
//!
//! The text before the first colon of a path is the name of a store if it could be one. It is never taken for a part of
//! the path, so that neither a typing error nor a new store changes what a command does without a word; `/a:b` is the
//! path `a:b`. A command works in one store.
//!
//! The environment variables of a connection are those of its server. If the command line names a store, they are
//! ignored, so that no credential goes to another server than its own.

use std::{ffi::OsStr, path::PathBuf};

use clap::{ArgMatches, error::ErrorKind, parser::ValueSource};

use crate::cli::{
    Command, Global,
    args::{Copy, Download, token::TokenCommand},
    store_name::split,
};

/// The kind and the message of the error of a command line.
type Wrong = (ErrorKind, String);

/// Takes the name of a store off the paths of a command, or off `--server`, into [`Global::store`].
///
/// # Errors
/// Paths in several stores; a store beside `--server` or `--data`; an address where a path is to be.
pub fn settle(global: &mut Global, command: &mut Command, line: &ArgMatches) -> Result<(), Wrong> {
    let is_typed = |id| line.value_source(id) == Some(ValueSource::CommandLine);
    let conflict = |why| Err((ErrorKind::ArgumentConflict, why));
    if let Command::Store(_) = command {
        if is_typed("server") {
            return conflict("ADDRESS is the server of a store; leave --server out".to_owned());
        }
        global.forget_variables(is_typed);
        return Ok(());
    }
    let mut names = Names::default();
    names.take(command)?;
    if let Some((name, path)) = names.named {
        if command.stopped().is_some() {
            return conflict(format!(
                "--data opens the store of a stopped server, and {path} names another; {}",
                plain(&path)
            ));
        }
        if is_typed("server") {
            return conflict(format!(
                "{path} names a store; leave --server out, or {}",
                plain(&path)
            ));
        }
        global.forget_variables(is_typed);
        global.store = Some(name);
    } else if let Some((name, "")) = split(&global.server) {
        global.store = Some(name.to_owned());
        if is_typed("server") {
            global.forget_variables(is_typed);
        }
    }
    Ok(())
}

/// How a path is written that only looks as if it named a store.
fn plain(path: &str) -> String {
    format!("write /{path} for the path with a colon")
}

/// What the paths of a command name.
#[derive(Debug, Default)]
struct Names {
    /// The store, and the first path that names it, as it was typed.
    named: Option<(String, String)>,
    /// The first path that names none.
    bare: Option<String>,
}

impl Names {
    /// Takes the name of a store off each path of a command.
    fn take(&mut self, command: &mut Command) -> Result<(), Wrong> {
        match command {
            Command::Copy(Copy { sources, destination, .. }) => {
                self.all(sources.iter_mut().chain([destination]))
            }
            Command::Upload(args) => self.one(&mut args.path),
            Command::Download(args) => self.downloads(args),
            Command::List(args) => self.one(&mut args.path),
            Command::Stat(args) => self.one(&mut args.path),
            Command::Delete(args) => self.all(&mut args.paths),
            Command::Link(args) => self.all(&mut args.path),
            Command::Whoami(args) => self.all(&mut args.path),
            Command::Token(TokenCommand::Create(args)) => self.all(&mut args.paths),
            Command::Token(
                TokenCommand::List(_) | TokenCommand::Rotate(_) | TokenCommand::Revoke(_),
            )
            | Command::Store(_)
            | Command::Watch(_)
            | Command::Operations(_)
            | Command::Cancel(_)
            | Command::Info
            | Command::Check(_)
            | Command::Backup(_)
            | Command::Migrate(_)
            | Command::Upgrade(_)
            | Command::Restore(_) => Ok(()),
        }
    }

    fn all<'a>(&mut self, paths: impl IntoIterator<Item = &'a mut String>) -> Result<(), Wrong> {
        paths.into_iter().try_for_each(|path| self.one(path))
    }

    /// The sources of a download; the last of several paths is on this machine.
    fn downloads(&mut self, args: &mut Download) -> Result<(), Wrong> {
        let sources = args.paths.len().saturating_sub(1).max(1);
        for path in args.paths.iter_mut().take(sources) {
            // A path that is no text is refused later.
            let Some(mut text) = path.to_str().map(str::to_owned) else { continue };
            self.one(&mut text)?;
            *path = PathBuf::from(OsStr::new(&text));
        }
        Ok(())
    }

    fn one(&mut self, path: &mut String) -> Result<(), Wrong> {
        let wrong = |kind, why| Err((kind, why));
        let typed = path.clone();
        match split(&typed) {
            Some(("http" | "https", rest)) if rest.starts_with("//") => {
                let why = format!(
                    "{typed} is an address, and a path is needed; --server {typed} selects a server, and \
                     'imagestore store add NAME {typed}' names it"
                );
                return wrong(ErrorKind::InvalidValue, why);
            }
            Some((name, rest)) => {
                rest.clone_into(path);
                let (first, first_path) =
                    self.named.get_or_insert_with(|| (name.to_owned(), typed.clone()));
                if first != name {
                    let why = format!(
                        "{first_path} and {typed} are in two stores, and a command works in one; 'get' from \
                         the first to this machine, then 'put' into the second"
                    );
                    return wrong(ErrorKind::ArgumentConflict, why);
                }
            }
            None => {
                self.bare.get_or_insert_with(|| typed.clone());
            }
        }
        if let (Some((name, named)), Some(bare)) = (&self.named, &self.bare) {
            let why = format!(
                "{named} names a store and {bare} none, and a command works in one; write {name}:{bare} for \
                 the path there, or use 'get', then 'put', between two stores"
            );
            return wrong(ErrorKind::ArgumentConflict, why);
        }
        Ok(())
    }
}
