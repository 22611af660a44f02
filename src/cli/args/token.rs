//! The arguments of `token` and `whoami`.

use clap::{Args, Subcommand, ValueEnum};

use super::Stopped;
use crate::{
    cli::time::{Time, some_time, time},
    limits, wire,
};

/// The commands below `token`.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print its secret, which cannot be read again
    Create(CreateToken),
    /// List the tokens, also those that have ended
    List(ListTokens),
    /// Replace the secret of a token and print the new one, which cannot be read again
    Rotate(RotateToken),
    /// End a token at once
    Revoke(RevokeToken),
}

/// Arguments of `token create`.
#[derive(Args, Clone, Debug)]
pub struct CreateToken {
    /// Name of the token, of letters, digits, ., _ and -
    pub name: String,
    /// What the token allows; each role includes the ones before it
    #[arg(long, value_enum)]
    pub role: Role,
    /// File or folder where the token allows it, and all below; / is the root, and a * at the end of the last name
    /// stands for any characters; may be repeated
    #[arg(long = "path", value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// How long the token lives, in seconds or with ms, s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    #[arg(default_value_t = Time(limits::TOKEN_LIFE_DEFAULT))]
    pub life: Time,
    /// Make a token that never ends
    #[arg(long, conflicts_with = "life")]
    pub never_expires: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `token list`.
#[derive(Args, Clone, Debug)]
pub struct ListTokens {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `token rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateToken {
    /// Name of the token
    pub name: String,
    /// How long the old secret is still taken, in seconds or with ms, s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = time)]
    #[arg(default_value_t = Time(limits::TOKEN_OVERLAP_DEFAULT))]
    pub overlap: Time,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `token revoke`.
#[derive(Args, Clone, Debug)]
pub struct RevokeToken {
    /// Name of the token
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub stopped: Stopped,
}

/// Arguments of `whoami`.
#[derive(Args, Clone, Debug)]
pub struct Whoami {
    /// Ask whether the caller has this role at PATH: prints yes or no, and the exit code is 0 or 1
    #[arg(long, value_enum, value_name = "ROLE")]
    pub may: Option<Role>,
    /// File or folder that --may asks about; the root if left out
    #[arg(requires = "may")]
    pub path: Option<String>,
}

/// A role. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// See the figures of the store
    Monitor,
    /// Read files and folders
    Reader,
    /// Write and delete files and folders
    Writer,
    /// Do everything, and create tokens
    Admin,
}

impl From<Role> for wire::v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Monitor => Self::Monitor,
            Role::Reader => Self::Reader,
            Role::Writer => Self::Writer,
            Role::Admin => Self::Admin,
        }
    }
}

impl TokenCommand {
    /// The location of the store of a stopped server.
    pub(super) fn stopped(&self) -> &Stopped {
        match self {
            Self::Create(create) => &create.stopped,
            Self::List(list) => &list.stopped,
            Self::Rotate(rotate) => &rotate.stopped,
            Self::Revoke(revoke) => &revoke.stopped,
        }
    }
}
