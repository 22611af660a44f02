//! The client commands of the command line.
//!
//! Results go to standard output, progress and errors to standard error; an error is one line. The exit code is 0
//! or 1. If standard output is a closed pipe, a command that only shows something ends with exit code 0 and no
//! message, and a command that changes something continues; one whose result is a new secret fails.

mod args;
mod backup;
mod check;
mod config_file;
mod copy;
mod download;
mod escape;
mod global;
mod interrupt;
mod json;
mod link;
mod local_file;
mod many;
mod migrate;
mod named;
mod operations;
mod output;
mod place;
mod progress;
mod show;
mod skip;
mod store;
mod store_name;
mod text;
pub mod time;
mod token;
mod transfer;
mod upgrade;
mod upload;

use std::{io, process::ExitCode};

pub use args::{Command, migrate::Migrate, rules::wrong, upgrade::Upgrade};
pub use global::Global;
pub use migrate::migrate;
pub use named::settle;
pub use upgrade::upgrade;

use crate::{
    cli::{
        output::{Output, Style},
        time::Time,
    },
    client::{self, backup::Place},
    limits,
};

/// Runs a client command to its end. Returns 0 for success, else 1 after printing the failure.
pub fn run(global: &Global, command: Command) -> ExitCode {
    run_to_end(global, async |output: &mut Output| Box::pin(execute(global, command, output)).await)
}

/// Runs the work of a command on a runtime of its own, and prints the failure if there is one.
fn run_to_end(
    global: &Global,
    work: impl AsyncFnOnce(&mut Output) -> Result<(), Failure>,
) -> ExitCode {
    let style = if global.json { Style::Json } else { Style::Lines };
    let mut output = Output::standard(style);
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let result = runtime.block_on(work(&mut output));
            // Does not wait for blocking threads, such as one that still walks through a local folder.
            runtime.shutdown_background();
            result
        })
        .and_then(|()| output.flush().map_err(Failure::from));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Stream(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::No) => ExitCode::FAILURE,
        Err(failure) => fail(&failure, &mut output),
    }
}

/// Checks that a command can begin, before a store is created for it: a restore needs a readable backup.
///
/// # Errors
/// The exit code, after the failure is printed.
pub fn prepare(global: &Global, command: &Command) -> Result<(), ExitCode> {
    let Command::Restore(restore) = command else { return Ok(()) };
    let place = Place::of(&restore.place);
    client::backup::probe(&place, restore.snapshot.as_deref()).map_err(|error| {
        let style = if global.json { Style::Json } else { Style::Lines };
        fail(&error.into(), &mut Output::standard(style))
    })
}

/// Prints why a command failed.
fn fail(failure: &Failure, output: &mut Output) -> ExitCode {
    output.note(format_args!("imagestore: {failure}"));
    ExitCode::FAILURE
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// An error of the client.
    #[error("{0}")]
    Client(client::error::Error),
    /// An I/O error of a standard stream, or of the system.
    #[error("{0}")]
    Stream(io::Error),
    /// A failure that the command itself found; it ends a command with several arguments.
    #[error("{0}")]
    Said(String),
    /// A failure that the command itself found and that concerns one argument; work on the others continues.
    #[error("{0}")]
    Refused(String),
    /// The answer to a question is no; the command has printed it.
    #[error("no")]
    No,
}

impl From<client::error::Error> for Failure {
    fn from(error: client::error::Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

#[cfg(test)]
mod tests;

/// Runs a command within its `--timeout`, if it has one. Waits for the server end at that deadline by themselves. This
/// function ends all other waits, such as one for a local pipe that nobody writes, [`limits::COMMAND_GRACE`] later.
async fn execute(global: &Global, command: Command, output: &mut Output) -> Result<(), Failure> {
    within(global, Box::pin(carry_out(global, command, output))).await
}

async fn within<T>(
    global: &Global,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(Time(time)) = global.timeout else {
        let ended = work.await;
        if let Err(Failure::Client(error)) = &ended
            && error.is_late()
        {
            let hint = "--timeout TIME says how long it may take";
            return Err(Failure::Said(format!("{error}; {hint}")));
        }
        return ended;
    };
    let end = time.saturating_add(limits::COMMAND_GRACE);
    match tokio::time::timeout(end, work).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Said(format!("the command did not end within {time:?}"))),
    }
}

async fn carry_out(global: &Global, command: Command, output: &mut Output) -> Result<(), Failure> {
    if let Command::Store(command) = &command {
        return store::run(global, command, output);
    }
    let client = connected(global, output).await?;
    match command {
        Command::Copy(args) => copy::copy(&client, args, output).await,
        Command::Upload(args) => upload::upload(&client, args, output).await,
        Command::Download(args) => download::download(&client, args, output).await,
        Command::List(args) => show::list(&client, &args, output).await,
        Command::Stat(args) => show::stat(&client, &args.path, output).await,
        Command::Delete(args) => show::delete(&client, &args, output).await,
        Command::Check(args) => check::check(&client, &args, output).await,
        Command::Backup(args) => backup::backup(&client, &args, output).await,
        Command::Restore(args) => backup::restore(&client, &args, output).await,
        Command::Token(command) => token::run(&client, command, output).await,
        Command::Link(args) => link::link(&client, args, output).await,
        Command::Whoami(args) => token::whoami(&client, &args, output).await,
        // Has ended above, or is carried out by `migrate` or `upgrade`.
        Command::Store(_) | Command::Migrate(_) | Command::Upgrade(_) => Ok(()),
        Command::Info => show::info(&client, output).await,
        Command::Watch(args) => operations::watch(&client, args.id.as_deref(), output).await,
        Command::Operations(args) => operations::list(&client, args.state, output).await,
        Command::Cancel(args) => operations::cancel(&client, &args.id, output).await,
    }
}

/// The client of a command, which notes what it has to say.
async fn connected(global: &Global, output: &mut Output) -> Result<client::Client, Failure> {
    let notes = output.notes();
    let mut client = global.connect().await?.on_token_expiry(move |time| {
        let hint = "an admin of its paths renews it by 'imagestore token rotate NAME'";
        notes.say(format_args!("the token expires at {time}; {hint}"));
    });
    if !output.is_json() {
        let notes = output.notes();
        client = client.on_retry(move |error| notes.say(format_args!("{error}; trying again")));
    }
    Ok(client)
}
