//! The arguments of `link`.

use clap::{Args, ValueEnum};

use crate::{
    cli::time::{Time, some_time},
    limits,
};

/// Arguments of `link`.
#[derive(Args, Clone, Debug)]
pub struct Link {
    /// File, or folder, which is downloaded as an archive
    #[arg(required_unless_present = "rotate_key")]
    pub path: Option<String>,
    /// How long the link lives, at most 7 days, in seconds or with s, m, h or d
    #[arg(long = "for", value_name = "TIME", value_parser = some_time)]
    #[arg(default_value_t = Time(limits::LINK_LIFE_DEFAULT))]
    pub life: Time,
    /// What the name of an archive ends in
    #[arg(long, value_enum, default_value_t = Format::Sfpkg)]
    pub format: Format,
    /// Compress the files of the archive
    #[arg(long)]
    pub compress: bool,
    /// End all links of the store, for which an admin of / is needed
    #[arg(long, conflicts_with_all = ["path", "life", "format", "compress"])]
    pub rotate_key: bool,
}

/// What the name of an archive ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `.sfpkg`
    Sfpkg,
    /// `.zip`
    Zip,
}
