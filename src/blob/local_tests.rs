//! Tests of a local folder: what a crash leaves in it, and which system calls precede the return of a put.

use std::{fs::File, process::Command};

use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::blob::{Blobs, new_key};

const BYTES: &[u8] = b"what must survive";

fn digest() -> [u8; 32] {
    *blake3::hash(BYTES).as_bytes()
}

async fn put(blobs: &Blobs) -> String {
    let key = new_key(&digest(), uuid::Uuid::from_u128(7));
    blobs.put(&key, Bytes::from_static(BYTES)).await.expect("put");
    key
}

#[tokio::test]
async fn what_a_crash_leaves_is_swept() {
    let temp = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::local(temp.path()).expect("opened");
    let key = put(&blobs).await;
    let staged = temp.path().join(format!("{key}#1"));
    let stranger = temp.path().join("00/notes#1");
    fs::write(&staged, b"half").expect("staged");
    fs::write(&stranger, b"mine").expect("a stranger's");

    let mine = key.clone();
    assert_eq!(blobs.sweep_staging(move |key| key == mine).await.expect("swept"), 0);
    assert!(staged.exists(), "in use");
    assert_eq!(blobs.sweep_staging(|_| false).await.expect("swept"), 1);
    assert!(!staged.exists() && stranger.exists());
    blobs.get(&key, &digest(), BYTES.len() as u64).await.expect("the part stays");
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_hides_no_other() {
    let temp = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::local(temp.path()).expect("opened");
    let key = put(&blobs).await;
    let staged = temp.path().join(format!("{key}#1"));
    fs::write(&staged, b"half").expect("staged");
    // The first folder becomes a symbolic link to itself.
    let broken = temp.path().join("00");
    fs::remove_dir(&broken).expect("empty");
    std::os::unix::fs::symlink(&broken, &broken).expect("a link");

    assert!(matches!(blobs.sweep_staging(|_| false).await, Err(Error::Io(_))));
    assert!(!staged.exists());
    let found: Vec<_> = blobs.list().collect().await;
    let [Err(unlisted), Ok(object)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((unlisted.folder.as_str(), &object.key), ("00", &key));
}

/// A test of its own; the test below also runs it as a child process and reads the recorded system calls.
#[tokio::test]
async fn a_put_leaves_one_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().canonicalize().expect("a path");
    let blobs = Blobs::local(&dir.join("made/blobs")).expect("opened");
    let opened = File::create(dir.join("opened")).expect("a file");
    opened.sync_all().expect("a line in the record");
    let key = put(&blobs).await;
    let put = File::create(dir.join("put")).expect("a file");
    put.sync_all().expect("a line in the record");
    let object = dir.join("made/blobs").join(key);
    assert_eq!(fs::read(&object).expect("an object"), BYTES);
    assert_eq!(fs::read_dir(object.parent().expect("a folder")).expect("entries").count(), 1);
}

/// Only a power failure could show a missing sync; SIGKILL cannot. So the system calls are recorded by a
/// library that is preloaded in front of `fsync` and `rename` of libc.
#[test]
fn a_part_is_synced_before_its_put_returns() {
    let temp = tempfile::tempdir().expect("a folder");
    let (source, library) = (temp.path().join("record.c"), temp.path().join("record.so"));
    fs::write(&source, include_str!("../../tests/support/record_syncs.c")).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .expect("a C compiler");
    assert!(compiled.success());
    let record = temp.path().join("record");
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "blob::local::tests::a_put_leaves_one_file"])
        .env("LD_PRELOAD", &library)
        .env("SYNC_RECORD", &record)
        .output()
        .expect("the child");
    assert!(child.status.success(), "{child:?}");

    let record = fs::read_to_string(record).expect("a record");
    let opened = position(&record, |line| line.ends_with("/opened 0"));
    for folder in ["/made/blobs", "/made"] {
        let synced =
            position(&record, |l| l.starts_with("fsync") && l.contains(&format!("{folder} ")));
        assert!(synced < opened, "{folder} is not synced at the start:\n{record}");
    }
    let key = format!("/{:02x}/{}", digest()[0], blake3::Hash::from_bytes(digest()).to_hex());
    let whole = format!("#1 {}", BYTES.len());
    let file =
        position(&record, |l| l.starts_with("fsync") && l.contains(&key) && l.ends_with(&whole));
    let renamed = position(&record, |l| l.starts_with("rename") && l.contains(&key));
    let folder = format!("/blobs/{:02x} ", digest()[0]);
    let synced = position(&record, |l| l.starts_with("fsync") && l.contains(&folder));
    let returned = position(&record, |line| line.ends_with("/put 0"));
    assert!(opened < file && file < renamed && renamed < synced && synced < returned, "{record}");
}

/// The number of the first line of the record that fits.
fn position(record: &str, fits: impl Fn(&str) -> bool) -> usize {
    record.lines().position(fits).unwrap_or_else(|| panic!("not recorded:\n{record}"))
}
