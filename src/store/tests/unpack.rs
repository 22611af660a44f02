//! Archives that become folders.

use std::io::{Cursor, Write};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::{
    limits::{PART_BYTES_MAX, UNPACK_STEP_ROWS},
    model::Tags,
};

/// Bytes that no two files share, and that deflate does not make smaller.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Files of each kind: of no part, of an inline part, of an object, and of several parts.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("empty".to_owned(), Vec::new()),
        ("a/object".to_owned(), noise(1, 40_000)),
        ("a/b/long".to_owned(), noise(2, PART_BYTES_MAX + 70_000)),
        ("a/b/other".to_owned(), noise(3, 500_000)),
    ];
    let small = |number: u64| (format!("small/{number}"), noise(number, 100));
    files.extend((0..UNPACK_STEP_ROWS as u64 + 20).map(small));
    files
}

fn pack(files: &[(String, Vec<u8>)], method: CompressionMethod) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

async fn unpack(
    store: &Store,
    incoming: UploadSpec,
    archive: Bytes,
) -> Result<namespace::group::Placed> {
    let mut upload = store.upload(incoming, &Call::system()).await?;
    upload.write(archive).await?;
    upload.store().await
}

fn spec(at: &str) -> UploadSpec {
    UploadSpec { unpack: Some(Unpack::default()), ..UploadSpec::new(path(at)) }
}

#[tokio::test]
async fn an_archive_becomes_a_folder() {
    let files = files();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let fixture = Fixture::new().await;
        let stored = unpack(&fixture.store, spec("to/x"), pack(&files, method)).await.unwrap();
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let entry = stored.stat.entry;
        assert_eq!((entry.totals.files, entry.totals.bytes), (files.len() as i64, bytes as i64));
        assert_eq!(stored.files_replaced, 0);
        for (name, bytes) in files.iter().rev().step_by(99).chain(&files[..4]) {
            assert_eq!(&fixture.read(&format!("to/x/{name}")).await.unwrap(), bytes, "{name}");
        }
        // Equal bytes are stored once, whichever way they come.
        let objects = fixture.gate.keys().await.len();
        fixture.upload("again", files[2].1.clone()).await.unwrap();
        fixture.idle().await;
        fixture.store.reclaim().await.unwrap();
        assert!(fixture.gate.keys().await.len() <= objects);
        for path in ["to", "again"] {
            fixture.store.delete(&super::path(path), &Call::system()).await.unwrap();
        }
        fixture.idle().await;
        fixture.expect_nothing_left().await;
    }
}

#[tokio::test]
async fn every_folder_gets_its_mark_file_if_asked() {
    let fixture = Fixture::new().await;
    let files = [("a/b/c", "1"), ("a/_.dir", "own")];
    let files = files.map(|(name, bytes)| (name.to_owned(), bytes.as_bytes().to_vec()));
    let incoming = UploadSpec { unpack: Some(Unpack { marks: true }), ..spec("x") };
    let archive = pack(&files, CompressionMethod::Stored);
    let stored = unpack(&fixture.store, incoming, archive).await.unwrap();
    assert_eq!(stored.stat.entry.totals.files, 4);
    for (path, bytes) in [("x/_.dir", ""), ("x/a/_.dir", "own"), ("x/a/b/_.dir", "")] {
        assert_eq!(fixture.read(path).await.unwrap(), bytes.as_bytes(), "{path}");
    }
}

#[tokio::test]
async fn an_unpacking_that_is_dropped_leaves_nothing() {
    let archive = pack(&files(), CompressionMethod::Deflated);
    let fixture = Fixture::new().await;
    let mut polls = 1;
    loop {
        let mut unpacking = Box::pin(unpack(&fixture.store, spec("x"), archive.clone()));
        let mut is_done = false;
        for _ in 0..polls {
            is_done = futures::poll!(&mut unpacking).is_ready();
            if is_done {
                break;
            }
            // Something happens between two polls: a job of the database or of the thread that reads.
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        drop(unpacking);
        if is_done {
            break;
        }
        fixture.idle().await;
        let found = fixture.store.stat(&path("x"), &Call::system()).await;
        // The last transaction may have begun, and is not taken back.
        if found.is_ok() {
            break;
        }
        fixture.expect_nothing_left().await;
        polls = polls * 3 / 2 + 1;
    }
    assert!(polls > 10, "{polls}");
}

#[tokio::test]
async fn an_archive_that_fails_in_the_middle_leaves_nothing() {
    let fixture = Fixture::new().await;
    fixture.upload("x/old", "1").await.unwrap();
    let mut bytes = pack(&files(), CompressionMethod::Stored).to_vec();
    // The last file is damaged.
    let last = bytes.windows(4).rposition(|there| there == b"PK\x03\x04").unwrap() + 60;
    bytes[last] ^= 1;
    let error = unpack(&fixture.store, spec("x"), bytes.into()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert!(error.message().contains("damaged"), "{error}");
    assert_eq!(fixture.read("x/old").await.unwrap(), b"1");
    fixture.store.delete(&path("x"), &Call::system()).await.unwrap();
    fixture.idle().await;
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_blob_store_that_fails_in_the_middle_leaves_nothing() {
    let archive = pack(&files(), CompressionMethod::Deflated);
    // The archive has two parts, and its files have four.
    for puts in 0..6 {
        let fixture = Fixture::new().await;
        fixture.gate.fail_after(puts);
        let error = unpack(&fixture.store, spec("x"), archive.clone()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{puts}: {error}");
        fixture.idle().await;
        fixture.expect_nothing_left().await;
    }
}

#[tokio::test]
async fn a_damaged_part_of_the_archive_is_not_blamed_on_its_sender() {
    let fixture = Fixture::new().await;
    let archive = pack(&files(), CompressionMethod::Stored);
    fixture.gate.flip();
    let error = unpack(&fixture.store, spec("x"), archive).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[tokio::test]
async fn what_is_at_the_path_is_judged_before_and_after() {
    let fixture = Fixture::new().await;
    let archive = pack(&[("b".to_owned(), b"new".to_vec())], CompressionMethod::Stored);
    fixture.upload("x/a", "old").await.unwrap();
    fixture.upload("file", "old").await.unwrap();
    let told = async |incoming| {
        let error = fixture.store.upload(incoming, &Call::system()).await.unwrap_err();
        (error.kind(), error.message().to_owned())
    };
    assert_eq!(told(spec("file")).await.0, Kind::AlreadyExists);
    assert_eq!(told(spec("file/a")).await.0, Kind::AlreadyExists);
    assert_eq!(told(spec("Store")).await.0, Kind::Reserved);
    let only_new = || Conditions { if_none_match: Some(Tags::Any), ..Conditions::default() };
    let incoming = UploadSpec { conditions: only_new(), ..spec("x") };
    assert_eq!(told(incoming).await.0, Kind::PreconditionFailed);
    // A folder replaces a folder as a whole.
    let stored = unpack(&fixture.store, spec("x"), archive.clone()).await.unwrap();
    assert_eq!((stored.files_replaced, stored.stat.entry.totals.files), (1, 1));
    let incoming = UploadSpec { replaces: Replaces::Anything, ..spec("file/deep") };
    let stored = unpack(&fixture.store, incoming, archive.clone()).await.unwrap();
    assert_eq!(stored.files_replaced, 1);
    assert_eq!(fixture.read("file/deep/b").await.unwrap(), b"new");
    // What comes to the path meanwhile is judged by the last transaction.
    let incoming = UploadSpec { conditions: only_new(), ..spec("late") };
    let mut upload = fixture.store.upload(incoming, &Call::system()).await.unwrap();
    upload.write(archive.clone()).await.unwrap();
    fixture.upload("late/a", "first").await.unwrap();
    assert_eq!(upload.store().await.unwrap_err().kind(), Kind::PreconditionFailed);
    let mut upload = fixture.store.upload(spec("later"), &Call::system()).await.unwrap();
    upload.write(archive).await.unwrap();
    fixture.upload("later", "first").await.unwrap();
    assert_eq!(upload.store().await.unwrap_err().kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn an_archive_waits_for_its_turn() {
    let fixture = Fixture::new().await;
    let held = all(&fixture.store.0.budgets.unpacks, Peer::default());
    let archive = pack(&[("a".to_owned(), b"1".to_vec())], CompressionMethod::Stored);
    let late = Call::system().within(Some(Duration::from_millis(200)));
    let mut upload = fixture.store.upload(spec("x"), &late).await.unwrap();
    upload.write(archive.clone()).await.unwrap();
    assert_eq!(upload.store().await.unwrap_err().kind(), Kind::Timeout);
    drop(held);
    unpack(&fixture.store, spec("x"), archive).await.unwrap();
}
