//! Where the objects are, by URL: a folder of this machine, its memory, or a bucket of a cloud.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use percent_encoding::percent_decode_str;

/// The schemes and what follows each of them.
const EXPECTED: &str = "expected file:///PATH with an absolute path, memory://, or s3://BUCKET, az://CONTAINER or \
                        gs://BUCKET, each with a prefix of keys after a slash where it is wanted";

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The memory of this process, which a stop loses.
    Memory,
    /// A bucket, which is reached with the credentials of the environment.
    Bucket(Bucket),
}

/// A bucket of a cloud, which Azure calls a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The cloud.
    pub cloud: Cloud,
    /// The name of the bucket.
    pub name: String,
    /// What all keys begin with, without a slash at its ends; often empty.
    pub prefix: String,
}

/// A protocol of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Google,
}

impl Cloud {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
            Self::Google => "gs",
        }
    }
}

impl Location {
    /// Parses a URL.
    ///
    /// # Errors
    /// The reason, for a URL with another scheme, without a name or with more than a name and a prefix. The URL is not
    /// part of it, since it may have a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let cloud = match scheme {
            "file" => {
                return absolute_path(rest).map(Self::Folder).ok_or_else(|| EXPECTED.to_owned());
            }
            "memory" if rest.is_empty() => return Ok(Self::Memory),
            "memory" => return Err(format!("nothing follows memory://; {EXPECTED}")),
            "s3" => Cloud::S3,
            "az" => Cloud::Azure,
            "gs" => Cloud::Google,
            other => return Err(format!("{other}:// is not supported; {EXPECTED}")),
        };
        if rest.contains('@') {
            return Err(format!(
                "a URL with '@' would hold a credential; give it by the environment; {EXPECTED}"
            ));
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_name = |text: &str| {
            let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && text.chars().all(is_good) && !matches!(text, "." | "..")
        };
        if !is_name(name) || !(prefix.is_empty() || prefix.split('/').all(is_name)) {
            return Err(format!("names have letters, digits, '-', '_' and '.' only; {EXPECTED}"));
        }
        Ok(Self::Bucket(Bucket { cloud, name: name.to_owned(), prefix: prefix.to_owned() }))
    }

    /// The folder of this machine, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Memory | Self::Bucket(_) => None,
        }
    }
}

/// The absolute path in a URL, from what follows its scheme and `://`; `None` if it is none, or the root.
pub fn absolute_path(rest: &str) -> Option<PathBuf> {
    let path = percent_decode_str(rest).decode_utf8().ok()?;
    let is_path =
        path.starts_with('/') && !path.trim_matches('/').is_empty() && !path.contains('\0');
    is_path.then(|| PathBuf::from(path.as_ref()))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Memory => f.write_str("memory://"),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cloud, name, prefix } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{}://{name}{slash}{prefix}", cloud.scheme())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_folder_or_a_bucket() {
        for (url, shown) in [
            ("file:///a/b%20c", "/a/b c"),
            ("memory://", "memory://"),
            ("s3://packages", "s3://packages"),
            ("s3://packages/", "s3://packages"),
            ("az://packages/a/b_1/", "az://packages/a/b_1"),
            ("gs://my.packages-1/x", "gs://my.packages-1/x"),
        ] {
            assert_eq!(Location::parse(url).expect(url).to_string(), shown);
        }
        for url in [
            "",
            "/a",
            "file://relative",
            "file:///",
            "file:///a%ffb",
            "file:///a%00b",
            "memory://a",
            "http://host/bucket",
            "s3://",
            "s3:///a",
            "s3://key:secret@bucket",
            "s3://bucket//a",
            "s3://bucket/../a",
            "s3://bucket?region=x",
            "s3://b%20c",
        ] {
            let why = Location::parse(url).expect_err(url);
            assert!(why.contains("expected file:///PATH"), "{why}");
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
