//! What a check does besides finding damage: which bytes it reads, which paths it names, and what its repairs
//! do not change.

use std::{fs, time::Duration};

use imagestore::{
    limits::{SWEEP_AGE, SWEEP_AGE_UNNAMED},
    model::{CheckRequest, FindingKind as K, StorePath},
    store::Call,
};

use crate::harness::{
    BIG, DEEP, FOR_EVER, Folder, LAST, LOOK, REPAIR, RUN, check, fill, kinds, path, put,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_deep_check_reads_bytes() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    store.close().await;
    drop(store);
    let object = folder.object(LAST);
    let mut bytes = fs::read(&object).unwrap();
    bytes[7] ^= 1;
    fs::write(&object, bytes).unwrap();
    folder.sql("UPDATE part SET bytes = zeroblob(size) WHERE size = 10");

    let store = folder.open(FOR_EVER).await;
    let report = check(&store, LOOK).await;
    assert_eq!((report.findings, report.bytes), (Vec::new(), 0));
    let report = check(&store, DEEP).await;
    assert_eq!(kinds(&report), [K::PartDamaged]);
    let mut paths: Vec<_> = report.findings.iter().flat_map(|found| &found.paths).collect();
    paths.sort();
    let paths: Vec<_> = paths.iter().map(|path: &&StorePath| path.as_str()).collect();
    assert_eq!(paths, ["app/big", "app/conf", "app2/big", "app2/conf"]);
    assert!(report.bytes >= (BIG + RUN) as u64);
    for finding in &report.findings {
        assert!(!finding.message.contains(object.file_name().unwrap().to_str().unwrap()));
    }
    // The damage is reported and not repaired.
    let report = check(&store, CheckRequest { deep: true, repair: true }).await;
    assert_eq!((report.total, report.repaired), (2, 0));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_object_is_deleted_by_a_repair_alone() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    let object = folder.add_object(2 * SWEEP_AGE);
    check(&store, LOOK).await;
    assert!(object.exists());
    assert_eq!(check(&store, REPAIR).await.repaired, 1);
    assert!(!object.exists());
    // A young object is no finding: a recent crash may have left it, or, with a key of the older form, the
    // server that put it may still write its row.
    for object in [
        folder.add_object(SWEEP_AGE / 2),
        folder.add_old_object(SWEEP_AGE_UNNAMED - Duration::from_mins(10)),
    ] {
        assert_eq!(check(&store, REPAIR).await.findings, []);
        assert!(object.exists());
    }
    let object = folder.add_old_object(SWEEP_AGE_UNNAMED + Duration::from_mins(10));
    assert_eq!(check(&store, REPAIR).await.repaired, 1);
    assert!(!object.exists());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_what_an_earlier_run_left_at_once() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    let left = folder.add_object(Duration::ZERO);
    let old = folder.add_old_object(SWEEP_AGE_UNNAMED - Duration::from_mins(10));
    store.sweep().await.unwrap();
    store.reclaim().await.unwrap();
    assert!(!left.exists() && old.exists());
    let older = folder.add_old_object(SWEEP_AGE_UNNAMED + Duration::from_mins(10));
    store.sweep().await.unwrap();
    store.reclaim().await.unwrap();
    assert!(!older.exists());
    assert_eq!(check(&store, DEEP).await.findings, []);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_goes_with_its_path() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    fill(&store).await;
    store.close().await;
    drop(store);
    folder.sql("DELETE FROM entry WHERE name = 'y'");
    let store = folder.open(FOR_EVER).await;
    check(&store, REPAIR).await;
    for at in ["app/deep", "app2/deep"] {
        store.delete(&path(at), &Call::system()).await.unwrap();
    }
    assert_eq!(check(&store, DEEP).await.findings, []);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_names_some_of_many_paths() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    for n in 0..40 {
        put(&store, &format!("a/{n:02}/f"), b"equal").await.unwrap();
    }
    store.close().await;
    drop(store);
    folder.sql("UPDATE part SET bytes = zeroblob(size)");
    let store = folder.open(FOR_EVER).await;
    let report = check(&store, DEEP).await;
    assert_eq!(report.total, 1);
    let finding = &report.findings[0];
    assert_eq!(finding.paths.len(), 16);
    assert!(finding.more_paths);
    assert!(finding.message.starts_with("\"a/00/f\" and more than 15 more paths: "), "{finding:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_check_at_a_time() {
    let folder = Folder::new();
    let store = folder.open(FOR_EVER).await;
    let first = store.check(LOOK, &Call::system()).unwrap();
    let error = store.check(LOOK, &Call::system()).expect_err("refused");
    assert!(error.kind().retryable(), "{error}");
    drop(first);
    check(&store, LOOK).await;
    store.close().await;
}
