//! The arguments of the client commands.
//!
//! What is said of all commands has an environment variable: the server, its time, how many files move
//! at once, and the form of the output. What changes the meaning of one command has none, so that a
//! variable that somebody forgot does not change what is typed.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, Args, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
    error::ErrorKind,
    parser::ValueSource,
};

use crate::{cli::skip, limits, wire::v1::OperationState};

/// The client commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Copy a file or a folder within the store
    #[command(visible_alias = "cp")]
    Copy(Copy),
    /// Upload a file or a whole folder
    #[command(visible_alias = "put")]
    Upload(Upload),
    /// Download a file or a whole folder
    #[command(visible_alias = "get")]
    Download(Download),
    /// List a folder
    #[command(visible_alias = "ls")]
    List(List),
    /// Describe a file or a folder
    Stat(Stat),
    /// Delete a file or a folder with all it holds
    #[command(visible_alias = "rm")]
    Delete(Delete),
    /// Follow one operation until it ends, or all
    Watch(Watch),
    /// List operations, the newest first
    Operations(Operations),
    /// Cancel a running operation
    Cancel(Cancel),
    /// Show the space that the store uses
    Info,
    /// Look for damage; the exit code is 0 where nothing is found
    Check(Check),
    /// Take a backup of the whole store, while it serves
    Backup(Backup),
    /// Restore a backup into an empty store
    Restore(Restore),
}

/// Arguments of `copy`.
#[derive(Args, Clone, Debug)]
pub struct Copy {
    /// Path to copy; several go into a folder
    #[arg(value_name = "SRC", required = true)]
    pub sources: Vec<String>,
    /// Path to copy to; a file or folder there is replaced as a whole by one of its kind. Into what ends
    /// in /, a copy goes under its own name
    #[arg(value_name = "DST")]
    pub destination: String,
    /// Name of files to leave out, at every depth, in any case; may be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Take * and ? in the names of --skip for themselves
    #[arg(long)]
    pub literal: bool,
    /// Replace also a folder by a file, or a file by a folder
    #[arg(long, conflicts_with = "keep")]
    pub replace: bool,
    /// Changes nothing: a folder is always copied with all it holds
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub switches: CopySwitches,
    /// UUID that makes the copy safe to repeat
    #[arg(long, value_name = "UUID")]
    pub operation_id: Option<String>,
}

/// What can be switched on for a copy.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct CopySwitches {
    /// Refuse a source folder without its mark file _.dir
    #[arg(long)]
    pub check_mark: bool,
    /// If the destination exists, keep it and copy nothing; with --check-mark, a folder there
    /// without its mark file is replaced
    #[arg(long)]
    pub keep: bool,
    /// Read and check every byte before the copy is visible
    #[arg(long)]
    pub verify: bool,
    /// Run the copy in the background: return when it has begun
    #[arg(long)]
    pub detach: bool,
}

/// Arguments of `upload`.
#[derive(Args, Clone, Debug)]
pub struct Upload {
    /// File or folder on this machine; several go into a folder. A folder may hold no symbolic links.
    /// - is the standard input
    #[arg(value_name = "LOCAL", required = true)]
    pub locals: Vec<PathBuf>,
    /// Path of that file or folder in the store; "" is the root. Into what ends in /, it goes under its
    /// own name, and so does a file into the root
    pub path: String,
    /// Changes nothing: a folder is always uploaded with all it holds
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    /// Write the mark file _.dir of every folder, after all files, the root's last
    #[arg(long)]
    pub mark: bool,
    /// Replace also a folder by a file, or a file by a folder
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub jobs: Jobs,
}

/// Arguments of `download`.
#[derive(Args, Clone, Debug)]
pub struct Download {
    /// File or folder in the store ("" or / is the root), then its target on this machine. If the
    /// target ends in / or is left out (the current folder), the download goes into it under its own
    /// name, and so does a file if the target is an existing folder; - is the standard output. With
    /// several paths, the last one is the local folder for all of them
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Changes nothing: a folder is always downloaded with all it holds
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    /// Overwrite files that exist and differ
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub jobs: Jobs,
}

/// How many files move at once.
#[derive(Args, Clone, Copy, Debug)]
pub struct Jobs {
    /// Files of a folder that move at once
    #[arg(
        long,
        value_name = "N",
        env = "IMAGESTORE_JOBS",
        default_value_t = limits::TRANSFER_JOBS_DEFAULT,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(limits::TRANSFER_JOBS_MAX))
    )]
    pub jobs: u8,
}

/// Arguments of `list`.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// Folder, or file; the root if it is left out
    #[arg(default_value = "")]
    pub path: String,
    /// Show sizes, numbers of files, and times
    #[arg(short, long)]
    pub long: bool,
    /// Changes nothing: names that begin with a dot are always shown
    #[arg(short, long)]
    pub all: bool,
}

/// Arguments of `stat`.
#[derive(Args, Clone, Debug)]
pub struct Stat {
    /// File or folder; "" or / is the root
    pub path: String,
}

/// Arguments of `delete`.
#[derive(Args, Clone, Debug)]
pub struct Delete {
    /// File or folder; may be repeated
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Succeed where there is nothing
    #[arg(short, long)]
    pub force: bool,
    /// Changes nothing: a folder is always deleted with all it holds
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
}

/// Arguments of `watch`.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Operation to follow; all of them if it is left out
    pub id: Option<String>,
}

/// Arguments of `operations`.
#[derive(Args, Clone, Debug)]
pub struct Operations {
    /// Only those in this state
    #[arg(long, value_enum)]
    pub state: Option<State>,
}

/// Arguments of `cancel`.
#[derive(Args, Clone, Debug)]
pub struct Cancel {
    /// Operation to cancel
    pub id: String,
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Read every part and compare its digest
    #[arg(long)]
    pub deep: bool,
    /// Repair what can be repaired without losing anything that has a path
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// A folder (one that exists, or a path that ends with /), which many backups share: only new parts
    /// are fetched. Any other path: a file that holds this one backup
    #[arg(value_name = "DIR/|FILE", value_parser = PathBufValueParser::new().try_map(no_stream))]
    pub place: PathBuf,
    /// Overwrite a file that exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `restore`.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// The folder or the file of a backup
    #[arg(value_name = "DIR|FILE")]
    pub place: PathBuf,
    /// Which snapshot of a folder; the newest one if it is left out
    #[arg(long, value_name = "NAME")]
    pub snapshot: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Where a server that is stopped keeps its store.
#[derive(Args, Clone)]
pub struct Stopped {
    /// Work on the data folder of a server that is stopped, instead of asking a server
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Its database, where it was started with one
    #[arg(long, value_name = "URL", env = "IMAGESTORE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Its blob store, where it was started with one
    #[arg(long, value_name = "URL", env = "IMAGESTORE_BLOBS")]
    pub blobs: Option<String>,
}

/// Refuses the name that other programs take for the standard output, where a file would be made.
fn no_stream(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str() == "-" {
        return Err(
            "nothing is written to the standard output; name a file, or write ./- for this one",
        );
    }
    Ok(path)
}

/// Says what is wrong with a command line that clap takes.
pub fn wrong(line: &ArgMatches) -> Option<(ErrorKind, String)> {
    if let Some(flag) = needs_data(line) {
        let why = format!("--{flag} is for a server that is stopped, and needs --data DIR");
        return Some((ErrorKind::MissingRequiredArgument, why));
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

/// Finds `--database` or `--blobs` without `--data`. In the environment they may be: there they are
/// the settings of a server, and a command that asks a server does not look at them.
fn needs_data(line: &ArgMatches) -> Option<&'static str> {
    let (_, line) = line.subcommand()?;
    let given = |id| line.try_contains_id(id).unwrap_or(false);
    let typed = |id| given(id) && line.value_source(id) == Some(ValueSource::CommandLine);
    ["database", "blobs"].into_iter().find(|id| typed(id) && !given("data"))
}

impl fmt::Debug for Stopped {
    /// Leaves out the URLs, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("data", &self.data).finish_non_exhaustive()
    }
}

impl Command {
    /// The store of a stopped server that the command works on, and its data folder.
    pub fn stopped(&self) -> Option<(&Path, &Stopped)> {
        let stopped = if let Self::Check(check) = self {
            &check.stopped
        } else if let Self::Backup(backup) = self {
            &backup.stopped
        } else if let Self::Restore(restore) = self {
            &restore.stopped
        } else {
            return None;
        };
        stopped.data.as_deref().map(|data| (data, stopped))
    }

    /// Whether that store is made where it is missing.
    pub fn makes_store(&self) -> bool {
        matches!(self, Self::Restore(_))
    }
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it, and clap would show it as help")]
pub enum State {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<State> for OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}
