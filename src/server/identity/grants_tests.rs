//! The grants file: what is refused, and what a change does.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rustls::pki_types::UnixTime;
use tempfile::TempDir;

use super::GrantsSource;
use crate::{
    access::{ANONYMOUS, Principal, Role},
    limits::GRANTS_BYTES_MAX,
    model::StorePath,
};

const READER: &str = "[[grant]]\nwho = [\"anonymous\"]\nrole = \"reader\"\npaths = [\"a\"]\n";

fn write(folder: &Path, text: impl AsRef<[u8]>, mode: u32) -> std::path::PathBuf {
    let file = folder.join("grants.toml");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    file
}

#[tokio::test]
async fn a_file_that_is_wrong_is_refused_and_says_why() {
    let folder = TempDir::new().expect("a folder");
    let large = vec![b'\n'; GRANTS_BYTES_MAX + 1];
    for (text, mode, why) in [
        ("[[grant]]\nrole = 1".as_bytes(), 0o600, "grants.toml is wrong: line 2, column 8: "),
        (READER.as_bytes(), 0o620, "others may write the grants file"),
        (READER.as_bytes(), 0o602, "run 'chmod go-w "),
        (&large, 0o600, "grants.toml has more than 1048576 bytes"),
    ] {
        let file = write(folder.path(), text, mode);
        let error = GrantsSource::open(file, false).await.expect_err("refused").explain();
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
    let nowhere = folder.path().join("none");
    let error = GrantsSource::open(nowhere, false).await.expect_err("refused").explain();
    assert!(error.contains("cannot read the grants file") && error.contains("none"), "{error}");
}

#[tokio::test]
async fn a_new_file_is_taken_and_a_wrong_one_is_not() {
    let folder = TempDir::new().expect("a folder");
    let file = write(folder.path(), READER, 0o644);
    let (grants, _, mut watched) = GrantsSource::open(file, false).await.expect("opened");
    let anonymous = Principal::named(vec![ANONYMOUS.to_owned()]);
    let at = |path: &str| StorePath::parse(path, "path").expect("a path");
    let may = |role: Role, path: &str| {
        let grants = grants.borrow();
        grants.may(&grants.given(&anonymous), role, &at(path))
    };
    assert!(may(Role::Reader, "a/f") && !may(Role::Writer, "a/f"));
    for (text, mode, is_taken) in [
        (READER.replace("reader", "writer"), 0o644, true),
        (READER.replace("reader", "nobody"), 0o644, false),
        (READER.to_owned(), 0o666, false),
        (READER.replace("anonymous", "cert:cn=x"), 0o644, false),
        (String::new(), 0o644, false),
        ("# nobody\n".to_owned(), 0o644, true),
    ] {
        let before = grants.borrow().clone();
        write(folder.path(), &text, mode);
        watched.look(UnixTime::now()).await;
        assert_eq!(*grants.borrow() != before, is_taken, "{text}");
    }
    assert!(grants.borrow().is_empty(), "a file without grants grants nothing");
}
