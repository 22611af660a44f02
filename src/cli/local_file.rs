//! The files that flags name: certificates, keys and tokens.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    cli::Failure,
    client::error::Error,
    limits::{CREDENTIAL_BYTES_MAX, TLS_FILE_BYTES_MAX},
    secret::Secret,
};

/// The permissions of a file that others than its owner have.
const OTHERS: u32 = 0o077;

/// Reads a file of certificates; `what` names the file in an error.
///
/// # Errors
/// A file that cannot be read, or that has more than [`TLS_FILE_BYTES_MAX`].
pub(super) fn certificates(what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let (_, bytes) = contents(what, path, TLS_FILE_BYTES_MAX)?;
    Ok(bytes)
}

/// Reads the private key of a certificate.
///
/// # Errors
/// A file that cannot be read, that others may read or write, or that is no text or has more than
/// [`TLS_FILE_BYTES_MAX`].
pub(super) fn key(path: &Path) -> Result<Secret, Failure> {
    secret("key", path, TLS_FILE_BYTES_MAX)
}

/// Reads a token, without the white space around it.
///
/// # Errors
/// A file that cannot be read, that others may read or write, or that has no text or more than
/// [`CREDENTIAL_BYTES_MAX`]. No message has a part of its text.
pub(super) fn token(path: &Path) -> Result<Secret, Failure> {
    let text = secret("token file", path, CREDENTIAL_BYTES_MAX as u64)?;
    match text.expose().trim() {
        "" => Err(Failure::Said(format!("no token is in the token file {}", path.display()))),
        token => Ok(token.to_owned().into()),
    }
}

/// Reads a file that only its owner may read. One that is no text is as an empty one.
fn secret(what: &str, path: &Path, bytes_max: u64) -> Result<Secret, Failure> {
    let (mode, bytes) = contents(what, path, bytes_max)?;
    if mode & OTHERS != 0 {
        let shown = path.display();
        let why = format!("others may read the {what} {shown}; run 'chmod 600 {shown}'");
        return Err(Failure::Said(why));
    }
    Ok(String::from_utf8(bytes).unwrap_or_default().into())
}

/// The mode of a file and its bytes.
fn contents(what: &str, path: &Path, bytes_max: u64) -> Result<(u32, Vec<u8>), Failure> {
    let failed = |why| Error::Local { action: "read", path: path.to_owned(), why };
    let (mode, bytes) = read(path, bytes_max).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        let shown = path.display();
        return Err(Failure::Said(format!("the {what} {shown} has more than {bytes_max} bytes")));
    }
    Ok((mode, bytes))
}

/// The mode of a file and its first bytes, at most one more than `bytes_max`.
fn read(path: &Path, bytes_max: u64) -> io::Result<(u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    // Of the open file, so that another one cannot take its place in between.
    let mode = file.metadata()?.permissions().mode();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((mode, bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::Permissions};

    use super::*;

    /// What comes of a file with these bytes and this mode: the token or the message.
    fn outcome(bytes: &[u8], mode: u32) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, bytes).expect("written");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
        let path = file.path().to_str().expect("UTF-8");
        match token(file.path()) {
            Ok(token) => Ok(token.expose().to_owned()),
            Err(failure) => Err(failure.to_string().replace(path, "FILE")),
        }
    }

    #[test]
    fn a_token_is_read_without_the_space_around_it() {
        for bytes in ["secret", "secret\n", " \tsecret\r\n\n"] {
            assert_eq!(outcome(bytes.as_bytes(), 0o600), Ok("secret".to_owned()), "{bytes:?}");
        }
        assert_eq!(outcome(b"secret", 0o400), Ok("secret".to_owned()));
    }

    #[test]
    fn a_file_of_others_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o660] {
            let said = "others may read the token file FILE; run 'chmod 600 FILE'";
            assert_eq!(outcome(b"secret", mode), Err(said.to_owned()), "{mode:o}");
        }
    }

    #[test]
    fn a_file_that_has_no_token_or_more_is_refused() {
        for bytes in [&b""[..], b" \n", b"\xff\xfe"] {
            let said = "no token is in the token file FILE";
            assert_eq!(outcome(bytes, 0o600), Err(said.to_owned()), "{bytes:?}");
        }
        let longest = "a".repeat(CREDENTIAL_BYTES_MAX);
        assert_eq!(outcome(longest.as_bytes(), 0o600), Ok(longest.clone()));
        let said = "the token file FILE has more than 8192 bytes";
        assert_eq!(outcome(format!("{longest}\n").as_bytes(), 0o600), Err(said.to_owned()));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none");
        let said = token(&path).expect_err("no file").to_string();
        assert!(said.starts_with(&format!("cannot read {}: ", path.display())), "{said}");
        let said = token(folder.path()).expect_err("a folder").to_string();
        assert!(said.starts_with("cannot read "), "{said}");
    }
}
