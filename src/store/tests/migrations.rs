//! Copies of a store: what later passes move, what an unfinished one keeps, and which stores become copies.

use super::*;
use crate::{
    limits::INLINE_BYTES_MAX,
    model::{BackupRecord, CheckRequest, EntryKind},
    namespace::migration,
};

/// A grace that no test outlasts: what an unfinished copy has moved stays.
const LONG: Duration = Duration::from_hours(1_000);

/// What a pass sent.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    /// The parts that become objects.
    objects: usize,
    folders: usize,
    known: usize,
    offers: usize,
}

async fn source() -> Fixture {
    let fixture = Fixture::with_grace(LONG).await;
    fixture.upload("a/b/large", object(1)).await.unwrap();
    fixture.upload("a/b/larger", object(2)).await.unwrap();
    fixture.upload("a/c/small", Bytes::from("small")).await.unwrap();
    fixture.upload("d/empty", Bytes::new()).await.unwrap();
    finish(fixture.store.copy(request("a", "e/f"), false, &Call::system()).await.unwrap())
        .await
        .unwrap();
    fixture
}

/// Copies a store into another one, or only so many of its messages.
async fn pass(from: &Store, to: &Store, messages: usize) -> Result<(Sent, Option<Copied>)> {
    let call = Call::system();
    let mut backup = from.backup_for_copy(&call).await?;
    let mut restore = to.restore_copy(&call)?;
    let mut sent = Sent::default();
    for _ in 0..messages {
        let Some(message) = backup.next().await else {
            let credentials = from.credentials(&call).await?;
            return Ok((sent, Some(restore.finish_copy(Some(credentials), &call).await?)));
        };
        match message? {
            BackupMessage::Offer(parts) => backup.want(restore.offer(parts).await?).await,
            BackupMessage::Folders(folders) => {
                sent.offers += 1;
                match restore.offer_folders(folders).await? {
                    Some(wanted) => backup.want(wanted).await,
                    None => backup.want_all_folders().await,
                }
            }
            BackupMessage::Record(record) => {
                sent.folders += usize::from(matches!(record, BackupRecord::Folder(_)));
                sent.known += usize::from(matches!(record, BackupRecord::Known(_)));
                restore.record(record).await?;
            }
            BackupMessage::Data(data) => {
                sent.objects += usize::from(data.len() > INLINE_BYTES_MAX);
                restore.data(data).await?;
            }
        }
    }
    Ok((sent, None))
}

async fn whole(from: &Fixture, to: &Fixture) -> (Sent, Copied) {
    let (sent, copied) = pass(&from.store, &to.store, usize::MAX).await.unwrap();
    to.idle().await;
    (sent, copied.unwrap())
}

/// The files of a store with their versions and digests.
async fn files(fixture: &Fixture) -> Vec<(String, EntryKind, Option<Digest>)> {
    let call = Call::system();
    let (mut found, mut folders) = (Vec::new(), vec![StorePath::root()]);
    while let Some(folder) = folders.pop() {
        let page = fixture.store.list(&folder, 100, String::new(), &call).await.unwrap();
        for entry in page.items {
            if entry.kind == EntryKind::Folder {
                folders.push(entry.path);
            } else {
                let digest = fixture.store.stat(&entry.path, &call).await.unwrap().digest;
                found.push((entry.path.as_str().to_owned(), entry.kind, digest));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Fails unless both stores have the same files, which can be read, and the target is sound.
async fn assert_same(from: &Fixture, to: &Fixture) {
    let files = files(from).await;
    assert_eq!(self::files(to).await, files);
    for (path, ..) in files {
        assert_eq!(to.read(&path).await.unwrap(), from.read(&path).await.unwrap(), "{path}");
    }
    let root = StorePath::root();
    let totals = |fixture: &Fixture| {
        let store = fixture.store.clone();
        let root = root.clone();
        async move { store.stat(&root, &Call::system()).await.unwrap().entry.totals }
    };
    assert_eq!(totals(to).await, totals(from).await);
    let mut checking = to.store.check(CheckRequest::default(), &Call::system()).unwrap();
    while let Some(report) = checking.next().await.unwrap() {
        assert_eq!(report.findings, []);
    }
}

fn refused(result: Result<(Sent, Option<Copied>)>, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.message().contains(says), "{}", error.message());
}

#[tokio::test]
async fn a_later_pass_moves_what_differs() {
    let (from, to) = (source().await, Fixture::with_grace(LONG).await);
    let (sent, copied) = whole(&from, &to).await;
    // The first offer is answered for all later ones. `e/f` is `a`.
    assert_eq!(sent, Sent { objects: 2, folders: 6, known: 0, offers: 1 });
    assert_eq!((copied.parts, copied.folders, copied.totals.files), (3, 5, 7));
    assert_same(&from, &to).await;

    let (sent, copied) = whole(&from, &to).await;
    assert_eq!(sent, Sent { objects: 0, folders: 1, known: 3, offers: 1 });
    assert_eq!((copied.parts, copied.bytes, copied.folders), (0, 0, 0));
    assert_same(&from, &to).await;

    from.upload("e/f/c/new", object(3)).await.unwrap();
    from.store.delete(&path("d"), &Call::system()).await.unwrap();
    let (sent, copied) = whole(&from, &to).await;
    // The root, `e`, `e/f` and `e/f/c`; not `a` and `e/f/b`.
    assert_eq!(sent, Sent { objects: 1, folders: 4, known: 2, offers: 3 });
    assert_eq!((copied.parts, copied.bytes), (1, object(3).len() as u64));
    assert_same(&from, &to).await;

    // The next version is above all of the source, and what nothing refers to goes.
    let last = from.upload("last", Bytes::new()).await.unwrap();
    whole(&from, &to).await;
    let next = to.upload("next", Bytes::new()).await.unwrap();
    let number = |stat: Stat| match stat.entry.kind {
        EntryKind::File { version, .. } => (version.epoch_data_loss, version.number),
        EntryKind::Folder => unreachable!(),
    };
    assert!(number(next) > number(last));
    to.store.release_copy().await.unwrap();
    to.age(2 * LONG).await;
    until("the garbage is gone", async || {
        to.store.reclaim().await.unwrap();
        to.number("SELECT COUNT(*) FROM garbage").await == 0
    })
    .await;
    to.store.delete(&path("next"), &Call::system()).await.unwrap();
    assert_same(&from, &to).await;
}

#[tokio::test]
async fn an_unfinished_copy_keeps_what_it_has() {
    let (from, to) = (source().await, Fixture::with_grace(LONG).await);
    let mut moved = 0;
    for messages in 1_usize.. {
        let (sent, copied) = pass(&from.store, &to.store, messages).await.unwrap();
        to.idle().await;
        moved += sent.objects;
        if copied.is_some() {
            break;
        }
        assert_eq!(files(&to).await, [], "nothing is seen before the end");
    }
    assert_eq!(moved, 2, "no object is sent twice");
    assert_same(&from, &to).await;
    // So is the next pass, which another change precedes.
    let before = files(&to).await;
    from.upload("a/b/large", object(9)).await.unwrap();
    pass(&from.store, &to.store, 4).await.unwrap();
    assert_eq!(files(&to).await, before);
    whole(&from, &to).await;
    assert_same(&from, &to).await;
}

#[tokio::test]
async fn only_a_migration_opens_an_unfinished_copy() {
    let dir = tempfile::tempdir().unwrap();
    let database = database::database(dir.path());
    let from = source().await;
    let open = async |purpose: namespace::Purpose| {
        let config = Config { database: database.clone(), purpose, ..Config::new(dir.path()) };
        Store::open(config, Blobs::new(Arc::new(Gate::new()))).await
    };
    for (messages, is_whole) in [(1, false), (usize::MAX, true)] {
        let (to, _) = open(namespace::Purpose::Copy).await.unwrap();
        pass(&from.store, &to, messages).await.unwrap();
        to.close().await;
        for purpose in [namespace::Purpose::Serve, namespace::Purpose::Command] {
            match open(purpose).await {
                Ok((store, _)) => {
                    assert!(is_whole);
                    store.close().await;
                }
                Err(error) => {
                    assert!(
                        !is_whole && error.message().contains("run 'imagestore migrate' again")
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_copy_is_of_one_store_and_of_nothing_else() {
    let (from, to, third) = (source().await, Fixture::with_grace(LONG).await, Fixture::new().await);
    refused(pass(&from.store, &from.store, 1).await, "are the same store");
    whole(&from, &to).await;
    refused(pass(&third.store, &to.store, 1).await, "the target is a copy of the store");
    to.upload("own", object(7)).await.unwrap();
    refused(pass(&from.store, &to.store, 1).await, "was changed after it was copied");
    to.store.release_copy().await.unwrap();
    refused(pass(&from.store, &to.store, 1).await, "holds 8 files of its own");
    assert_eq!(to.read("own").await.unwrap(), object(7));
    // Neither kind of backup is taken for the other.
    let mut backup = from.store.backup(true, &Call::system()).await.unwrap();
    let header = backup.next().await.unwrap().unwrap();
    let BackupMessage::Record(header) = header else { unreachable!() };
    let mut restore = third.store.restore_copy(&Call::system()).unwrap();
    let error = restore.record(header).await.unwrap_err();
    assert!(error.message().contains("is not made for a copy"), "{}", error.message());
}

#[tokio::test]
async fn totals_that_differ_end_a_pass() {
    let (from, to) = (source().await, Fixture::with_grace(LONG).await);
    whole(&from, &to).await;
    let spoil =
        |tx: &mut Tx<'_>| tx.execute("UPDATE folder SET files = files + 1 WHERE files = 1", &[]);
    to.store.0.engine.write(None, spoil).await.unwrap();
    refused(
        pass(&from.store, &to.store, usize::MAX).await,
        "the target has other totals than the source",
    );
}

/// Each of them has seen the copy before one of them has released it.
#[tokio::test]
async fn servers_that_start_together_release_a_copy_once() {
    let (from, to) = (source().await, Fixture::new().await);
    whole(&from, &to).await;
    for _ in 0..2 {
        to.store.0.engine.write(None, migration::release).await.unwrap();
        assert!(!to.store.0.engine.read(None, migration::is_copy).await.unwrap());
    }
    assert_same(&from, &to).await;
}
