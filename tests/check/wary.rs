//! Damage does not spread: damaged rows affect no other data, and damaged content is never served.

use imagestore::{
    blob::Blobs,
    error::Kind,
    model::{Conditions, CopyRequest, IfExists, OperationId, SkipFiles},
    store::{Call, Config, Store},
};

use crate::harness::{BIG, FOR_EVER, Folder, copy, fill, path, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_totals_are_too_small_keeps_its_files() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    put(&store, "a/b/c", b"c").await.unwrap();
    put(&store, "a/b/d", b"d").await.unwrap();
    store.close().await;
    drop(store);
    folder.sql("UPDATE folder SET files = 1 WHERE files > 0");
    let store = folder.open(FOR_EVER).await;
    store.delete(&path("a/b/c"), &Call::system()).await.unwrap();
    store.stat(&path("a/b/d"), &Call::system()).await.unwrap();
    store.delete(&path("a/b/d"), &Call::system()).await.unwrap();
    let error = store.stat(&path("a"), &Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PathNotFound, "an empty folder is none");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lacks_a_part_is_never_read_or_copied_as_if_it_were_whole() {
    for (damage, good) in [
        ("DELETE FROM content_part WHERE start > 0", BIG - crate::harness::LAST),
        ("UPDATE content_part SET start = start - 1 WHERE start > 0", 0),
        ("DELETE FROM content_part WHERE start = 0", 0),
    ] {
        let folder = Folder::new();
        let store = folder.open(FOR_EVER).await;
        fill(&store).await;
        store.close().await;
        drop(store);
        folder.sql(damage);
        let store = folder.open(FOR_EVER).await;
        let mut download =
            store.download(&path("app/big"), (0, None), None, &Call::system()).await.unwrap();
        let mut bytes = 0;
        let error = loop {
            match download.next().await.expect("an error before the end") {
                Ok(piece) => bytes += piece.len(),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), bytes), (Kind::Corrupt, good), "{damage}: {error}");
        assert!(error.message().contains("app/big"), "{error}");
        let request = CopyRequest {
            source: path("app/big"),
            destination: path("copied"),
            skip_files: SkipFiles::default(),
            check_mark_file: false,
            if_exists: IfExists::Overwrite,
            conditions: Conditions::default(),
            verify: true,
            id: OperationId::new(),
        };
        let mut copying = store.copy(request, false, &Call::system()).await.unwrap();
        let error = loop {
            if let Err(error) = copying.next().await {
                break error;
            }
        };
        assert_eq!(error.kind(), Kind::Corrupt, "{damage}: {error}");
        copy(&store, "app/conf", "well", &[]).await.unwrap();
        store.close().await;
    }
}

/// Opens a store with the objects of another store. Returns the kind of the error.
async fn open_over(folder: &Folder, other: &Folder) -> Kind {
    let blobs = Blobs::local(&other.path().join("blobs")).unwrap();
    let config = Config { database: folder.database(), ..Config::new(folder.path()) };
    Store::open(config, blobs).await.expect_err("objects of another store").kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_leaves_the_objects_of_another_one_alone() {
    let (one, other, new) = (Folder::new(), Folder::new(), Folder::new());
    for folder in [&one, &other] {
        let store = folder.open(FOR_EVER).await;
        fill(&store).await;
        store.close().await;
    }
    assert_eq!(open_over(&one, &other).await, Kind::InvalidArgument);
    assert_eq!(open_over(&new, &other).await, Kind::InvalidArgument);
    // The refused opens have changed nothing: each store opens as before.
    for folder in [&one, &other, &new] {
        folder.open(FOR_EVER).await.close().await;
    }
}
