//! A repair changes the change tags of the folders whose listings show it.

use imagestore::store::{Call, Store};

use crate::harness::{FOR_EVER, Folder, REPAIR, check, fill, path};

/// The change tags of the folders at paths.
async fn tags(store: &Store, paths: &[&str]) -> Vec<String> {
    let mut tags = Vec::new();
    for at in paths {
        let stat = store.stat(&path(at), &Call::system()).await.unwrap();
        tags.push(stat.change_tag.expect("a folder"));
    }
    tags
}

/// Whether a repair changes the change tags of `app`, `app/deep`, `app/deep/x` and `app/bin`, in this order.
async fn repaired(damage: &str) -> Vec<bool> {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    let paths = ["app", "app/deep", "app/deep/x", "app/bin"];
    let before = tags(&store, &paths).await;
    store.close().await;
    folder.sql(damage);
    let store = folder.open(FOR_EVER).await;
    assert_eq!(tags(&store, &paths).await, before);
    assert!(check(&store, REPAIR).await.repaired > 0, "{damage}");
    let after = tags(&store, &paths).await;
    store.close().await;
    before.iter().zip(&after).map(|(before, after)| before != after).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_that_are_repaired_are_told_where_they_are_shown() {
    let damage = "UPDATE folder SET files = files + 1 WHERE id =
                    (SELECT child FROM entry WHERE name = 'x' AND child IS NOT NULL)";
    // The tag of `app` may change or not: the totals of `deep` are counted before or after the repair of
    // those below it.
    assert_eq!(repaired(damage).await[1..], [true, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_filed_anew_is_told() {
    let damage = "UPDATE entry SET folded = 'zzz' WHERE name = 'y'";
    assert_eq!(repaired(damage).await, [false, true, true, false]);
}
