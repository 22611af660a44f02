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
    /// What the address begins with, if it is not the server's own, such as that of a proxy with its path prefix
    #[arg(long, value_name = "URL", value_parser = base)]
    pub base: Option<String>,
    /// End all links of the store, for which an admin of / is needed
    #[arg(long, conflicts_with_all = ["path", "life", "format", "compress", "base"])]
    pub rotate_key: bool,
}

/// Parses an address with which others can begin.
fn base(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is no address; write https://HOST or https://HOST/PREFIX");
    let (_, rest) = text.split_once("://").ok_or_else(wrong)?;
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = !rest.contains(['?', '#', '@']);
    if is_http && is_plain { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// What the name of an archive ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `.sfpkg`
    Sfpkg,
    /// `.zip`
    Zip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_address_to_which_a_path_can_be_added() {
        for good in ["http://there", "https://there:8443/", "https://[::1]/store/a"] {
            assert_eq!(base(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "there",
            "there/store",
            "ftp://there",
            "http://",
            "https:///a",
            "https://there/?a",
            "https://there/#a",
            "https://me@there",
            "https://the re",
        ] {
            let said = base(bad).expect_err(bad);
            assert!(said.contains(&format!("'{bad}' is no address")), "{said}");
        }
    }
}
