//! Tests of the client against a scripted server, over a socket.

pub(crate) mod script;

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use script::{Fault, broken, lock, start};
use tokio::sync::mpsc;

use crate::{
    client::{
        Client,
        download::{Existing, FolderDownload},
        error::{Error, Result},
        transfer::{Progress, TransferProgress, TransferredFile},
        upload::{FileUpload, FolderUpload, Marks},
    },
    error::Kind,
    limits,
    wire::{
        status::from_error,
        v1::{CopyRequest, Entry, IfExists, Operation, OperationState},
    },
};

/// More bytes than the queue of messages and the flow control windows hold.
const LARGE: usize = 3 * limits::MIB + 1;

fn large() -> Vec<u8> {
    (0..251).cycle().take(LARGE).collect()
}

fn write(root: &Path, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }
}

async fn upload_folder(client: &Client, local: &Path, marks: Marks) -> (Result<()>, Progress) {
    let (tally, (sender, mut moved)) =
        (Arc::new(TransferProgress::default()), mpsc::channel::<TransferredFile>(64));
    let options = FolderUpload { jobs: 4, marks, if_exists: IfExists::Unspecified };
    let result = client.upload_folder((local, "app"), options, &tally, &sender).await;
    drop(sender);
    let mut told = 0;
    while moved.recv().await.is_some() {
        told += 1;
    }
    assert_eq!(told, tally.progress().files_done);
    (result.map(drop), tally.progress())
}

async fn download_folder(client: &Client, path: &str, local: &Path) -> Result<()> {
    let folder = client.stat(path).await?.entry.expect("a folder");
    let (tally, (sender, _moved)) =
        (Arc::new(TransferProgress::default()), mpsc::channel::<TransferredFile>(64));
    let options = FolderDownload { jobs: 4, existing: Existing::Refuse };
    client.download_folder((&folder, local), options, &tally, &sender).await
}

fn copy(operation_id: &str) -> CopyRequest {
    CopyRequest { operation_id: operation_id.to_owned(), ..CopyRequest::default() }
}

fn operation(state: OperationState, files_done: u64) -> Operation {
    Operation { state: state.into(), files_done, ..Operation::default() }
}

#[tokio::test]
async fn a_folder_comes_back_as_it_went_and_its_marks_came_last() {
    let (script, client) = start().await;
    let (there, back) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("one"));
    let bytes = large();
    let files: [(&str, &[u8]); 5] = [
        ("Code/bin/run", &bytes),
        ("Code/empty", b""),
        ("Code/_.dir", b"kept"),
        ("Manifest.xml", b"<a/>"),
        ("z", b"z"),
    ];
    write(there.path(), &files);
    let (result, progress) = upload_folder(&client, there.path(), Marks::Every).await;
    result.expect("an upload");
    let bytes_total = (LARGE + 9) as u64;
    let done = Progress { files_done: 7, files_total: 7, bytes_done: bytes_total, bytes_total };
    assert_eq!(progress, done);
    assert_eq!(lock(&script.log)[4..], ["app/Code/bin/_.dir", "app/Code/_.dir", "app/_.dir"]);

    let target = back.path().join("new");
    download_folder(&client, "app", &target).await.expect("a download");
    for (path, bytes) in files {
        assert_eq!(fs::read(target.join(path)).expect(path), bytes, "{path}");
    }
    fs::write(target.join("z"), "Z").expect("a file");
    let error = download_folder(&client, "app", &target).await.expect_err("another one");
    assert!(matches!(error, Error::Exists(_)), "{error}");
}

#[tokio::test]
async fn a_download_is_continued() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    for (path, bytes) in [("app/a", "one"), ("app/b", "two"), ("app/c", "three")] {
        lock(&script.files).insert(path.to_owned(), Bytes::from_static(bytes.as_bytes()));
    }
    write(folder.path(), &[("a", b"one"), ("c", b"three")]);
    let entry = client.stat("app").await.expect("a folder").entry.expect("a folder");
    let (tally, (sender, mut moved)) =
        (Arc::new(TransferProgress::default()), mpsc::channel::<TransferredFile>(64));
    let options = FolderDownload { jobs: 1, existing: Existing::Refuse };
    client.download_folder((&entry, folder.path()), options, &tally, &sender).await.expect("all");
    assert_eq!(*lock(&script.log), ["app/b 0"], "only what is missing is fetched");
    let all = Progress { files_done: 3, files_total: 3, bytes_done: 11, bytes_total: 11 };
    assert_eq!(tally.progress(), all);
    drop(sender);
    let mut told = Vec::new();
    while let Some(moved) = moved.recv().await {
        told.push(moved.entry.path);
    }
    assert_eq!(told, ["app/a", "app/b", "app/c"]);

    // A local file of the same size with different bytes is not overwritten.
    write(folder.path(), &[("c", b"THREE")]);
    let error = download_folder(&client, "app", folder.path()).await.expect_err("another one");
    assert!(matches!(error, Error::Exists(_)), "{error}");
}

#[tokio::test]
async fn an_upload_that_breaks_is_sent_again() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("a", &large())]);
    for after in [0, 1, 5] {
        lock(&script.faults).push_back(Fault::Break(after));
        let (result, progress) = upload_folder(&client, folder.path(), Marks::Existing).await;
        result.expect("an upload");
        assert_eq!(progress.bytes_done, LARGE as u64);
        assert_eq!(lock(&script.files).remove("app/a").expect("a file"), large());
    }
}

#[tokio::test]
async fn an_upload_that_was_damaged_is_no_success() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("a", b"bytes")]);
    lock(&script.faults).push_back(Fault::Flip);
    let (result, progress) = upload_folder(&client, folder.path(), Marks::Every).await;
    assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
    assert_eq!((progress.files_done, progress.bytes_done), (0, 0));
    assert!(!lock(&script.files).contains_key("app/_.dir"), "no mark without its files");
}

#[tokio::test]
async fn an_archive_that_is_not_unpacked_is_no_success() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("a.zip", b"an archive")]);
    let tally = Arc::default();
    let options = FileUpload { unpack: true, ..FileUpload::new(IfExists::Unspecified) };
    // The script does not know the field, as an older server.
    let stored = client.upload(&folder.path().join("a.zip"), "app", options, &tally).await;
    assert!(lock(&script.files).contains_key("app"));
    let error = stored.expect_err("no folder").to_string();
    assert!(error.starts_with("app was stored as a file, because this server cannot"), "{error}");
    let stream = (&b"an archive"[..], "the standard input");
    let stored = client.upload_stream(stream, "app", options, &tally).await;
    assert!(matches!(stored, Err(Error::NotUnpacked(_))), "{stored:?}");
    assert_eq!(tally.progress().files_done, 0);
}

#[tokio::test]
async fn a_refused_upload_has_the_words_of_the_server() {
    let (_script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &[("a", &large())]);
    let tally = Arc::default();
    let refused = client
        .upload(&folder.path().join("a"), "refused", FileUpload::new(IfExists::Unspecified), &tally)
        .await;
    let error = refused.expect_err("refused");
    assert_eq!(error.kind(), Some(Kind::AlreadyExists));
    assert_eq!(error.to_string(), "refused is a folder");
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    lock(&script.files).insert("app/a".to_owned(), large().into());
    lock(&script.faults).extend([Fault::Break(3), Fault::Break(2)]);
    download_folder(&client, "app", folder.path()).await.expect("a download");
    assert_eq!(fs::read(folder.path().join("a")).expect("a file"), large());
    let offset = |messages: usize| format!("app/a {}", messages * limits::STREAM_MESSAGE_BYTES);
    assert_eq!(*lock(&script.log), [offset(0), offset(3), offset(5)]);
}

#[tokio::test]
async fn a_package_that_breaks_off_begins_again() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let files = [("app/a", "bytes"), ("app.zip", "an archive")];
    for (path, bytes) in files {
        lock(&script.files).insert(path.to_owned(), Bytes::from_static(bytes.as_bytes()));
    }
    lock(&script.faults).extend([Fault::Break(3), Fault::Break(0)]);
    let entry = client.stat("app").await.expect("a folder").entry.expect("an entry");
    let (place, tally) = (folder.path().join("new/app.zip"), Arc::new(TransferProgress::default()));
    let fetched = client.download_package(&entry, &place, Existing::Refuse, &tally).await;
    assert_eq!(fetched.expect("a package").local.as_ref(), Some(&place));
    assert_eq!(fs::read(&place).expect("a file"), b"an archive");
    assert_eq!(*lock(&script.log), ["package app"; 3]);
    let done = Progress { files_done: 1, files_total: 1, bytes_done: 10, bytes_total: 10 };
    assert_eq!(tally.progress(), done);
    // The file stays unless it may be overwritten, and nothing else is left.
    let again = client.download_package(&entry, &place, Existing::Refuse, &tally).await;
    assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
    let again = client.download_package(&entry, &place, Existing::Overwrite, &tally).await;
    again.expect("a package");
    let names = fs::read_dir(folder.path().join("new")).expect("a folder");
    assert_eq!(names.count(), 1);
}

#[tokio::test]
async fn a_download_that_was_damaged_leaves_nothing() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    lock(&script.files).insert("app/a".to_owned(), Bytes::from_static(b"bytes"));
    lock(&script.faults).push_back(Fault::Flip);
    let error = download_folder(&client, "app", folder.path()).await.expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_file_is_kept_when_its_digest_has_come_and_is_right() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let local = folder.path().join("a");
    lock(&script.files).insert("app/a".to_owned(), Bytes::from_static(b"bytes"));
    let get = async || {
        *lock(&script.undigested) = 3;
        let file = client.stat("app/a").await.expect("a file").entry.expect("a file");
        assert_eq!(file.digest, "");
        client.download(&file, &local, Existing::Refuse, &Arc::default()).await
    };
    lock(&script.faults).push_back(Fault::Flip);
    let error = get().await.expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let moved = get().await.expect("a download");
    assert_eq!(moved.entry.digest, blake3::hash(b"bytes").to_hex().as_str());
    assert_eq!(lock(&script.log).len(), 2);
    // A local file with the same bytes is not fetched again; one with other bytes is not overwritten.
    get().await.expect("here already");
    assert_eq!(lock(&script.log).len(), 2);
    fs::write(&local, "BYTES").expect("a file");
    let error = get().await.expect_err("another one");
    assert!(matches!(error, Error::Exists(_)), "{error}");
}

#[tokio::test]
async fn a_server_cannot_write_outside_the_folder() {
    for evil in ["app/..", "app/../x", "app/a\0b"] {
        let (script, client) = start().await;
        let root = tempfile::tempdir().expect("a folder");
        let inside = root.path().join("inside");
        lock(&script.files).insert(evil.to_owned(), Bytes::from_static(b"evil"));
        let error = download_folder(&client, "app", &inside).await.expect_err(evil);
        assert!(matches!(error, Error::Answer(_)), "{evil}: {error}");
        assert_eq!(fs::read_dir(root.path()).expect("a folder").count(), 1);
        assert_eq!(fs::read_dir(inside).expect("a folder").count(), 0);
    }
}

#[tokio::test]
async fn a_single_file_goes_into_a_folder_under_its_name() {
    let (script, client) = start().await;
    let folder = tempfile::tempdir().expect("a folder");
    lock(&script.files).insert("app/a".to_owned(), Bytes::from_static(b"bytes"));
    let file: Entry = client.stat("app/a").await.expect("a file").entry.expect("a file");
    let tally = Arc::default();
    let moved = client.download(&file, folder.path(), Existing::Refuse, &tally).await;
    assert_eq!(moved.expect("a download").local, Some(folder.path().join("a")));
    assert_eq!(fs::read(folder.path().join("a")).expect("a file"), b"bytes");
}

#[tokio::test]
async fn a_watch_attaches_again() {
    let (script, client) = start().await;
    lock(&script.streams).extend([
        vec![Ok(operation(OperationState::Running, 1)), Err(broken())],
        vec![Ok(operation(OperationState::Running, 2))],
        vec![Ok(operation(OperationState::Failed, 3))],
    ]);
    let mut watch = client.watch("id");
    let mut seen = Vec::new();
    while let Some(operation) = watch.next().await.expect("a state") {
        seen.push(operation.files_done);
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test]
async fn a_copy_that_lost_its_caller_is_asked_for_again_until_somebody_cancels_it() {
    let (script, client) = start().await;
    let cancelled = from_error(&crate::error::Error::new(Kind::Cancelled, "an operator did it"));
    lock(&script.streams).extend([
        vec![Ok(operation(OperationState::Running, 1)), Err(broken())],
        vec![Ok(operation(OperationState::Running, 2)), Err(cancelled)],
        vec![Ok(operation(OperationState::Succeeded, 3))],
    ]);
    let mut watch = client.copy(copy(""));
    let id = watch.id().to_owned();
    for files in [1, 2] {
        let operation = watch.next().await.expect("a state").expect("it runs");
        assert_eq!(operation.files_done, files);
    }
    assert_eq!(watch.next().await.expect_err("cancelled").kind(), Some(Kind::Cancelled));
    let asked: Vec<_> = lock(&script.copies).iter().map(|copy| copy.operation_id.clone()).collect();
    assert_eq!(asked, [id.clone(), id]);
}

#[tokio::test]
async fn a_copy_that_is_refused_or_cancelled_is_not_repeated() {
    for kind in [Kind::FileNotFound, Kind::Cancelled] {
        let (script, client) = start().await;
        let refused = from_error(&crate::error::Error::new(kind, "no"));
        lock(&script.streams).push_back(vec![Err(refused)]);
        let mut watch = client.copy(copy("7"));
        assert_eq!(watch.next().await.expect_err("refused").kind(), Some(kind));
        assert!(watch.next().await.expect("the end").is_none());
        assert_eq!(lock(&script.copies).len(), 1);
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for address in ["http://", "https://", "http://a b", "ftp://there"] {
        let error = Client::connect(address).await.expect_err(address);
        assert!(matches!(error, Error::Address { .. }), "{address}: {error}");
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_used_are_refused() {
    let options =
        super::Options { authorities: Some(b"a key".to_vec()), ..super::Options::default() };
    for address in ["https://localhost:1", "http://localhost:1", "localhost:1"] {
        let error = Client::connect_with(address, options.clone()).await.expect_err(address);
        assert!(matches!(error, Error::Authorities(_)), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    drop(listener);
    let error = Client::connect(&address).await.expect_err("nobody listens");
    assert!(error.is_lost());
    assert!(error.to_string().contains(&format!("cannot reach http://{address}: ")), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
