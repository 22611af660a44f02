//! The arguments of the client commands.
//!
//! A setting that has the same meaning for every command has an environment variable: the server, the token file, the
//! timeout, the number of parallel transfers, the output format, and the URLs of a stopped store. An option that
//! changes what one command does has none, so that a forgotten variable cannot change the meaning of a typed command.

pub(super) mod link;
pub(super) mod migrate;
pub(super) mod rules;
pub(super) mod store;
pub(super) mod token;
pub(super) mod upgrade;

use std::path::{Path, PathBuf};

use clap::{
    Args, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
};

use self::{
    link::Link,
    migrate::Migrate,
    store::StoreCommand,
    token::{TokenCommand, Whoami},
    upgrade::Upgrade,
};
use crate::{limits, secret::Secret, wire::v1::OperationState};

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
    /// Show the properties of a file or a folder
    Stat(Stat),
    /// Delete a file, or a folder with everything in it
    #[command(visible_alias = "rm")]
    Delete(Delete),
    /// Follow one operation until it ends, or all operations
    Watch(Watch),
    /// List operations, the newest first
    Operations(Operations),
    /// Cancel a running operation
    Cancel(Cancel),
    /// Show the space that the store uses
    Info,
    /// Check the store for damage; the exit code is 0 if none is found
    Check(Check),
    /// Back up the whole store while it serves requests
    Backup(Backup),
    /// Restore a backup into an empty store
    Restore(Restore),
    /// Copy a store into another one, between all databases and blob stores
    ///
    /// The first run copies everything, each later one only what has changed. With --server, the source serves its clients
    /// meanwhile; after the last run, from the store of the stopped server, the target replaces it.
    Migrate(Box<Migrate>),
    /// Bring the tables of a store up to date for this program, without serving it
    ///
    /// The start of a server does it, too, if no server of an older program runs.
    Upgrade(Box<Upgrade>),
    /// Create, list, rotate and revoke tokens, by which the server knows its callers
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make a link with which whoever has it downloads a file or a folder for some time
    Link(Link),
    /// Show who the caller is, and what it may do
    Whoami(Whoami),
    /// Add, list and remove named stores, whose paths are written NAME:PATH
    #[command(subcommand)]
    Store(StoreCommand),
}

/// Arguments of `copy`.
#[derive(Args, Clone, Debug)]
pub struct Copy {
    /// File or folder in the store; several are copied into the folder DST
    #[arg(value_name = "SRC", required = true)]
    pub sources: Vec<String>,
    /// Path of the copy; a file replaces a file there, and a folder replaces a folder as a whole. If DST ends
    /// in /, the copy goes into that folder under its own name
    #[arg(value_name = "DST")]
    pub destination: String,
    /// Name of files to leave out, at every depth, ignoring case; may be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Allow * and ? in the names of --skip, as plain characters; a name is never a pattern
    #[arg(long)]
    pub literal: bool,
    /// Allow a file to replace a folder, and a folder to replace a file
    #[arg(long, conflicts_with = "keep")]
    pub replace: bool,
    /// No effect: a folder is always copied with everything in it
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub switches: CopySwitches,
    /// UUID of the operation; a command repeated with the same UUID does not copy twice
    #[arg(long, value_name = "UUID")]
    pub operation_id: Option<String>,
}

/// The flags of `copy` that change one field of the request each.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct CopySwitches {
    /// Refuse a source folder without the mark file _.dir, which says that the folder is complete
    #[arg(long)]
    pub check_mark: bool,
    /// If the destination exists, keep it and copy nothing; with --check-mark, a destination folder
    /// without its mark file is replaced
    #[arg(long)]
    pub keep: bool,
    /// Read and check every byte before the copy becomes visible
    #[arg(long)]
    pub verify: bool,
    /// Return when the copy has begun; it continues on the server
    #[arg(long)]
    pub detach: bool,
}

/// Arguments of `upload`.
#[derive(Args, Clone, Debug)]
pub struct Upload {
    /// File or folder on this machine, or - for the standard input; several are uploaded into the folder
    /// PATH. A folder that contains a symbolic link is refused
    #[arg(value_name = "LOCAL", required = true)]
    pub locals: Vec<PathBuf>,
    /// Path of the file or folder in the store; "" is the root. If PATH ends in /, the upload goes into that
    /// folder under its own name, as a file always does in the root
    pub path: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub recursive: Recursive,
    /// Write a mark file _.dir into every folder after all files are stored, that of the top folder last
    #[arg(long)]
    pub mark: bool,
    /// LOCAL is a ZIP archive, also with the name .sfpkg, and PATH becomes a folder with its files, in one step.
    /// Its own name is that of LOCAL without the extension
    #[arg(long)]
    pub unpack: bool,
    /// Allow a file to replace a folder, and a folder to replace a file
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub jobs: Jobs,
}

/// The flag that other tools need for folders.
#[derive(Args, Clone, Copy, Debug)]
pub struct Recursive {
    /// No effect: a folder is always uploaded with everything in it
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
}

/// Arguments of `download`.
#[derive(Args, Clone, Debug)]
pub struct Download {
    /// File or folder in the store ("" or / is the root), then the target on this machine, or - for the
    /// standard output. Without a target, the download goes into the current folder under its own name.
    /// If the target ends in /, it goes into that folder under its own name, as a file also does if the
    /// target is an existing folder. A folder whose target ends in .zip or .sfpkg becomes one archive.
    /// With more than two paths, the last is the local folder for all others
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// No effect: a folder is always downloaded with everything in it
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    /// Overwrite local files that exist and differ
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub jobs: Jobs,
}

/// The number of files that are transferred in parallel.
#[derive(Args, Clone, Copy, Debug)]
pub struct Jobs {
    /// Number of files of a folder that are transferred in parallel
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
    /// Folder or file to list; the root if left out
    #[arg(default_value = "")]
    pub path: String,
    /// Show the size, the number of files and the time of each entry
    #[arg(short, long)]
    pub long: bool,
    /// No effect: names that begin with a dot are always shown
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
    /// File or folder to delete; may be repeated
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Succeed if the path does not exist
    #[arg(short, long)]
    pub force: bool,
    /// No effect: a folder is always deleted with everything in it
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
}

/// Arguments of `watch`.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Id of the operation to follow; all operations if left out
    pub id: Option<String>,
}

/// Arguments of `operations`.
#[derive(Args, Clone, Debug)]
pub struct Operations {
    /// List only operations in this state
    #[arg(long, value_enum)]
    pub state: Option<State>,
}

/// Arguments of `cancel`.
#[derive(Args, Clone, Debug)]
pub struct Cancel {
    /// Id of the operation to cancel
    pub id: String,
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Read the bytes of every part and compare their digest, not only their size
    #[arg(long)]
    pub deep: bool,
    /// Repair the damage that can be repaired without losing a file or a folder
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// Folder of backups (one that exists, or a path that ends in /), whose backups share their parts, so that
    /// only new parts are fetched. Any other path: a file that contains this one backup
    #[arg(value_name = "DIR/|FILE", value_parser = PathBufValueParser::new().try_map(no_stream))]
    pub place: PathBuf,
    /// Overwrite the backup file if it exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `restore`.
#[derive(Args, Clone, Debug)]
pub struct Restore {
    /// Folder of backups, or backup file
    #[arg(value_name = "DIR|FILE")]
    pub place: PathBuf,
    /// Name of the snapshot in a folder of backups; the newest one if left out
    #[arg(long, value_name = "NAME")]
    pub snapshot: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// The location of the store of a stopped server.
#[derive(Args, Clone, Debug)]
pub struct Stopped {
    /// Open the data folder of a stopped server, instead of connecting to a server
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Database of the stopped server, if it was started with --database
    #[arg(long, value_name = "URL", env = "IMAGESTORE_DATABASE", hide_env_values = true)]
    pub database: Option<Secret>,
    /// Blob store of the stopped server, if it was started with --blobs
    #[arg(long, value_name = "URL", env = "IMAGESTORE_BLOBS")]
    pub blobs: Option<String>,
}

/// Refuses `-`, which means the standard output to other programs; here it would name a file.
fn no_stream(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str() == "-" {
        return Err(
            "nothing is written to the standard output; name a file, or write ./- for this one",
        );
    }
    Ok(path)
}

impl Command {
    /// The data folder and the other arguments of the stopped server on whose store the command works; `None`
    /// without `--data`.
    pub fn stopped(&self) -> Option<(&Path, &Stopped)> {
        let stopped = if let Self::Check(check) = self {
            &check.stopped
        } else if let Self::Backup(backup) = self {
            &backup.stopped
        } else if let Self::Restore(restore) = self {
            &restore.stopped
        } else if let Self::Token(token) = self {
            token.stopped()
        } else {
            return None;
        };
        stopped.data.as_deref().map(|data| (data, stopped))
    }

    /// Whether the command creates the store of a stopped server if it is missing. The first token of a store can be
    /// created before the first start of its server.
    pub fn makes_store(&self) -> bool {
        matches!(self, Self::Restore(_) | Self::Token(TokenCommand::Create(_)))
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
