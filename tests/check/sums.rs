//! Impossible numbers in the tables: the check finds them, and no sum of them makes a read, a delete or a
//! check fail.

use std::time::Duration;

use imagestore::{
    limits::TOTAL_MAX,
    model::{FindingKind as K, StorePath},
    store::Call,
};

use crate::{
    damage::{Case, try_all},
    harness::{DEEP, FOR_EVER, Folder, REPAIR, check, fill, kinds, path, put},
};

const MAX: i64 = i64::MAX;
const MIN: i64 = i64::MIN;

#[tokio::test(flavor = "multi_thread")]
async fn impossible_numbers_of_folders_are_found() {
    try_all(&[
        Case {
            name: "totals that no store can have",
            damage: |store| store.sql(&format!("UPDATE folder SET files = {MAX}, bytes = {MAX}")),
            found: &[K::FolderTotals],
            paths: &[""],
            left: &[],
        },
        Case {
            name: "totals below nothing",
            damage: |store| store.sql(&format!("UPDATE folder SET files = {MIN}, bytes = {MIN}")),
            found: &[K::FolderTotals],
            paths: &[""],
            left: &[],
        },
        Case {
            name: "a reach that no path can have",
            damage: |store| store.sql(&format!("UPDATE folder SET depth = {MAX}, length = {MAX}")),
            found: &[K::FolderTotals],
            paths: &[""],
            left: &[],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_that_differ_from_a_recount_are_found() {
    let found = &[K::StoreSums];
    let case = |name, damage| Case { name, damage, found, paths: &[], left: &[] };
    try_all(&[
        case("sums that are too large", |store| {
            store
                .sql("UPDATE sums SET number = number + 3, bytes = bytes + 5 WHERE kind IN (3, 6)");
        }),
        case("sums that are too small", |store| {
            store.sql("UPDATE sums SET number = number - 1 WHERE kind < 3");
        }),
        case("sums that are lost", |store| store.sql("DELETE FROM sums")),
        case("sums that no store can have", |store| {
            store.sql(&format!("UPDATE sums SET number = {MAX}, bytes = {MIN}"));
        }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_that_is_used_is_told_without_a_recount() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    store.close().await;
    drop(store);
    folder.sql("UPDATE sums SET number = 1000 * kind, bytes = 1000000 * kind");
    let store = folder.open(FOR_EVER).await;
    let info = store.info(&Call::system()).await.unwrap();
    assert_eq!(info.folders, 1_000);
    assert_eq!((info.unique.count, info.unique.bytes), (7_000, 7_000_000));
    assert_eq!(info.on_disk.count, 4_000);
    assert_eq!((info.garbage.count, info.garbage.bytes), (6_000, 6_000_000));
    assert_eq!((info.staging.count, info.staging.bytes), (7_000, 7_000_000));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_sizes_are_found() {
    try_all(&[
        Case {
            name: "parts of a size that none can have",
            damage: |store| {
                store.sql(&format!("UPDATE part SET size = {MAX} WHERE object IS NOT NULL"));
            },
            found: &[K::ContentParts, K::PartDamaged, K::StoreSums],
            paths: &["app/bin/run", "app2/bin/run"],
            left: &[K::ContentParts, K::PartDamaged],
        },
        Case {
            name: "chunks of a size that none can have",
            damage: |store| store.sql(&format!("UPDATE upload_chunk SET size = {MAX}")),
            found: &[K::SessionChunks],
            paths: &[],
            left: &[K::SessionChunks],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_store_can_have_stop_nothing_but_writes() {
    for number in [MAX, MIN] {
        let folder = Folder::new();
        let store = folder.open(FOR_EVER).await;
        fill(&store).await;
        store.close().await;
        drop(store);
        folder.sql(&format!(
            "UPDATE folder SET files = {number}, bytes = {number}, depth = {number}, length = {number};
             UPDATE entry SET size = {number} WHERE child IS NULL;
             UPDATE upload_session SET received = {number}",
        ));
        let store = folder.open(Duration::ZERO).await;
        let possible = |bytes: i64| (0..=TOTAL_MAX).contains(&bytes);
        for at in ["", "app", "app/big"] {
            let at = StorePath::parse_or_root(at, "path").unwrap();
            let stat = store.stat(&at, &Call::system()).await.unwrap();
            let page = store.list(&at, 0, String::new(), &Call::system()).await.unwrap();
            for entry in page.items.iter().chain([&stat.entry]) {
                assert!(possible(entry.totals.files) && possible(entry.totals.bytes), "{entry:?}");
            }
        }
        let info = store.info(&Call::system()).await.unwrap();
        assert!(possible(info.staging.bytes) && possible(info.logical.bytes), "{info:?}");
        store.delete(&path("app"), &Call::system()).await.unwrap();
        store.reclaim().await.unwrap();
        assert_eq!(
            kinds(&check(&store, REPAIR).await),
            [K::EntrySize, K::FolderTotals, K::SessionReceived, K::StoreSums]
        );
        assert_eq!(kinds(&check(&store, DEEP).await), [K::EntrySize]);
        store.delete(&path("app2"), &Call::system()).await.unwrap();
        store.reclaim().await.unwrap();
        put(&store, "app/new", b"new").await.unwrap();
        assert_eq!(check(&store, DEEP).await.findings, []);
        store.close().await;
    }
}
