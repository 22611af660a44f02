//! The binary: parses the command line, then runs the server or a client command.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use imagestore::{
    cli,
    secret::Secret,
    server::{
        config::{Config, Serve},
        gateway,
        process::{migrate, serve, serve_gateway, upgrade, with_stopped},
    },
};
use tikv_jemallocator::Jemalloc;

/// jemalloc, because it returns memory to the system after a load peak; glibc keeps the memory in per-thread arenas.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A store for application packages
#[derive(Debug, Parser)]
#[command(name = "imagestore", version, about)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the store over gRPC and REST on one port
    Serve(Box<Serve>),
    /// Serve REST and the web page before remote servers, without a store
    Gateway(Box<gateway::Arguments>),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A failed write means that the stream is closed: there is no way to report it.
            error.print().ok();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match arguments.command {
        Some(Command::Serve(arguments)) => serve(*arguments),
        Some(Command::Gateway(arguments)) => serve_gateway(*arguments),
        Some(Command::Client(cli::Command::Migrate(command))) => {
            migrate(&arguments.global, &command)
        }
        Some(Command::Client(cli::Command::Upgrade(command))) => {
            upgrade(&arguments.global, *command)
        }
        Some(Command::Client(command)) => run(&arguments.global, command),
        None => {
            Arguments::command().print_help().ok();
            ExitCode::SUCCESS
        }
    }
}

/// Parses the command line, and checks the rules that clap cannot express.
fn parse() -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    let line = command.try_get_matches_from_mut(std::env::args_os()).map_err(without_variables)?;
    if let Some((kind, why)) = cli::wrong(&line) {
        return Err(command.error(kind, why));
    }
    let mut arguments = Arguments::from_arg_matches(&line)?;
    arguments.global.token = token();
    arguments.global.config_default = config_file();
    if let Some(Command::Client(client)) = &mut arguments.command {
        cli::settle(&mut arguments.global, client, &line)
            .map_err(|(kind, why)| command.error(kind, why))?;
    }
    Ok(arguments)
}

/// The error of a command line, with a usage line that does not name flags set by environment variables: clap shows
/// each of those flags as if it were required.
fn without_variables(error: clap::Error) -> clap::Error {
    fn deaf(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.env(None::<&str>)).mut_subcommands(deaf)
    }
    if !error.use_stderr() {
        return error;
    }
    match deaf(Arguments::command()).try_get_matches_from(std::env::args_os()) {
        Err(again) if again.kind() == error.kind() => again,
        // The value of an environment variable is the error.
        Ok(_) | Err(_) => error,
    }
}

/// Runs a client command against its server, or with `--data` against a private server over the store of a stopped
/// one.
fn run(global: &cli::Global, command: cli::Command) -> ExitCode {
    let config = command.stopped().map(|(data, stopped)| {
        let database = stopped.database.as_ref().map(Secret::expose);
        Config::private(data, database, stopped.blobs.as_deref())
    });
    match config {
        None => cli::run(global, command),
        Some(config) => match cli::prepare(global, &command) {
            Err(code) => code,
            Ok(()) => with_stopped(config, command.makes_store(), |connector| {
                cli::run(&cli::Global { in_process: Some(connector), ..global.clone() }, command)
            }),
        },
    }
}

/// The configuration file of the user, by the rules of freedesktop.org; `None` if the user has no home.
fn config_file() -> Option<PathBuf> {
    let folder = |name| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    let folder = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(folder.join("imagestore").join("config.toml"))
}

/// The token in the environment, which other users cannot see as they see flags. An empty one is none.
fn token() -> Option<Secret> {
    let token = std::env::var_os("IMAGESTORE_TOKEN").filter(|token| !token.is_empty())?;
    // A replaced character is none that a token has, so the token is refused.
    Some(Secret::from(token.to_string_lossy().into_owned()))
}
