//! Uploads, downloads, listings and deletes of single paths, over both interfaces.

use imagestore::error::Kind;

use crate::harness::{both, fill, of};

#[tokio::test]
async fn an_upload_replaces_a_file_and_makes_its_folders() {
    let (versions, left) = both(async |store| {
        let mut versions = Vec::new();
        for (path, content) in [("a/b/f", "1"), ("\\a\\b\\f", "2"), ("a/b//f/", ""), ("a/b/f", "3")]
        {
            store.upload(path, content.as_bytes()).await.expect(path);
            versions.push(store.list("a/b").await.expect("a listing")[0].version);
        }
        assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
        versions.len()
    })
    .await;
    assert_eq!((versions, left.as_str()), (4, "a/b/f=3"));
}

#[tokio::test]
async fn a_name_is_a_file_or_a_folder_and_never_both() {
    let (told, left) = both(async |store| {
        fill(store, "d/x=1 f=2").await;
        let mut told = Vec::new();
        for path in ["d", "f/below", "f/below/deeper", "/d\\"] {
            let fault = store.upload(path, b"3").await.expect_err(path);
            assert!(fault.message.contains(['d', 'f']), "{fault:?}");
            told.push(fault.kind);
        }
        told
    })
    .await;
    assert_eq!(told, [Kind::AlreadyExists; 4]);
    assert_eq!(left, "d/x=1 f=2");
}

#[tokio::test]
async fn a_delete_takes_all_that_is_below_and_is_no_error_twice() {
    let (told, left) = both(async |store| {
        fill(store, "a/_.dir a/s/x=1 a/s/t/y=2 ab/z=3 f=4 g/only=5 Store/App/w=6").await;
        let mut told = Vec::new();
        for path in ["a/s", "a/s", "no/such", "f/below", "g/only", "A", " a/", "a", "Store/App"] {
            told.push(of(store.delete(path).await));
        }
        // A folder exists only while it holds a file.
        told.push(of(store.list("g").await));
        told
    })
    .await;
    let mut expected = vec![Ok(()); 9];
    expected.push(Err(Kind::PathNotFound));
    assert_eq!(told, expected);
    assert_eq!(left, "ab/z=3 f=4");
}

#[tokio::test]
async fn what_must_not_be_deleted_is_refused() {
    let (told, left) = both(async |store| {
        fill(store, "Store/x=1 WindowsFabricStore/y=2 a/z=3").await;
        let mut told = Vec::new();
        for path in ["Store", "STORE", "windowsfabricstore", "Store/", "..", "a/../b", "a/$", "a|b"]
        {
            told.push(store.delete(path).await.expect_err(path).kind);
        }
        told
    })
    .await;
    let (reserved, invalid) = (Kind::Reserved, Kind::InvalidArgument);
    let expected = [reserved, reserved, reserved, reserved, invalid, invalid, invalid, invalid];
    assert_eq!(told, expected);
    assert_eq!(left, "Store/x=1 WindowsFabricStore/y=2 a/z=3");
}

#[tokio::test]
async fn a_listing_has_one_level_with_counts_and_sizes() {
    let (told, _) = both(async |store| {
        fill(store, "f=12 a/x=1 a/s/y=23 a/s/t/z=456 b/_.dir").await;
        let mut told = Vec::new();
        for folder in ["", "a", "\\a/s\\", "b", "f"] {
            let items = store.list(folder).await.expect(folder);
            let item = |item: &crate::harness::Item| {
                format!(
                    "{} {} {}",
                    item.path,
                    item.files,
                    if item.is_folder { 0 } else { item.size }
                )
            };
            let size = store.size(folder).await.expect(folder);
            told.push(format!("{size}: {}", items.iter().map(item).collect::<Vec<_>>().join(", ")));
        }
        told
    })
    .await;
    let expected = [
        "8: a 3 0, b 1 0, f 1 2",
        "6: a/s 2 0, a/x 1 1",
        "5: a/s/t 1 0, a/s/y 1 2",
        "0: b/_.dir 1 0",
        "2: f 1 2",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (told, _) = both(async |store| {
        fill(store, "f=1").await;
        let mut told = Vec::new();
        for path in ["no", "f/below", "F"] {
            let fault = store.list(path).await.expect_err(path);
            assert!(fault.message.contains(path), "{fault:?}");
            told.push(fault);
            told.push(store.size(path).await.expect_err(path));
            let missing = store.download(path).await.expect_err(path);
            assert_eq!(missing.kind, Kind::FileNotFound);
        }
        told
    })
    .await;
    assert!(told.iter().all(|fault| fault.kind == Kind::PathNotFound), "{told:?}");
}
