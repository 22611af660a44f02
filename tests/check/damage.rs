//! Test cases for each kind of damage: the check finds it, names the damaged paths, and repairs it where that
//! is safe.

use std::{fs, os::unix::fs::symlink};

use imagestore::{
    limits::SWEEP_AGE,
    model::{Digest, FindingKind as K, StorePath},
};

use crate::harness::{DEEP, FOR_EVER, Folder, LAST, LOOK, REPAIR, RUN, check, fill, kinds};

/// A damage; the kinds of its findings, sorted by name; the paths of the first finding of the first kind; the
/// kinds that remain after a repair.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) damage: fn(&Folder),
    pub(crate) found: &'static [K],
    pub(crate) paths: &'static [&'static str],
    pub(crate) left: &'static [K],
}

const CONF: &[&str] = &["app/conf", "app2/conf"];
const BIGS: &[&str] = &["app/big", "app2/big"];
const RUNS: &[&str] = &["app/bin/run", "app2/bin/run"];

pub(crate) async fn try_all(cases: &[Case]) {
    for case in cases {
        let folder = Folder::new();
        let store = folder.open(FOR_EVER).await;
        fill(&store).await;
        let clean = check(&store, DEEP).await;
        assert_eq!(clean.findings, [], "before {}", case.name);
        store.close().await;
        drop(store);
        (case.damage)(&folder);

        let store = folder.open(FOR_EVER).await;
        let report = check(&store, LOOK).await;
        assert_eq!(kinds(&report), case.found, "{}: {:?}", case.name, report.findings);
        let first = report.findings.iter().find(|finding| finding.kind == case.found[0]);
        let paths: Vec<_> = first.unwrap().paths.iter().map(StorePath::as_str).collect();
        assert_eq!(paths, case.paths, "{}", case.name);
        assert_eq!(report.repaired, 0, "{}", case.name);

        let repair = check(&store, REPAIR).await;
        assert_eq!(kinds(&repair), case.found, "{}: {:?}", case.name, repair.findings);
        let after = check(&store, LOOK).await;
        assert_eq!(kinds(&after), case.left, "{} repaired: {:?}", case.name, after.findings);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_without_a_target_are_found() {
    try_all(&[
        Case {
            name: "a file without its content",
            damage: |store| store.sql("UPDATE entry SET content = 999 WHERE name = 'conf'"),
            found: &[K::EntryTarget, K::Unreferenced],
            paths: CONF,
            left: &[K::EntryTarget],
        },
        Case {
            name: "a file whose content is being taken apart",
            damage: |store| {
                store.sql(
                    "UPDATE content SET etag = NULL WHERE id =
                       (SELECT content FROM entry WHERE name = 'conf')",
                );
            },
            found: &[K::EntryTarget],
            paths: CONF,
            left: &[K::EntryTarget],
        },
        Case {
            name: "a folder without its row",
            damage: |store| {
                store.sql(
                    "DELETE FROM folder WHERE id = (SELECT child FROM entry WHERE name = 'deep')",
                );
            },
            found: &[K::EntryTarget, K::StoreSums],
            paths: &["app/deep", "app2/deep"],
            left: &[K::EntryTarget],
        },
        Case {
            name: "an entry that is nothing",
            damage: |store| store.sql("UPDATE entry SET content = NULL WHERE name = 'conf'"),
            found: &[K::EntryTarget, K::Unreferenced],
            paths: CONF,
            left: &[K::EntryTarget],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_wrong_are_found() {
    try_all(&[
        Case {
            name: "a file of another size than its content",
            damage: |store| store.sql("UPDATE entry SET size = 11 WHERE name = 'conf'"),
            found: &[K::EntrySize, K::FolderTotals],
            paths: CONF,
            left: &[K::EntrySize],
        },
        Case {
            name: "a name that is filed wrong",
            damage: |store| store.sql("UPDATE entry SET folded = 'zzz' WHERE name = 'conf'"),
            found: &[K::EntryFolded],
            paths: CONF,
            left: &[],
        },
        Case {
            name: "a name that is there twice",
            damage: |store| {
                store.sql(
                    "INSERT INTO entry SELECT folder, 'zzz', name, child, content, size, version,
                       modified FROM entry WHERE name = 'conf'",
                );
            },
            found: &[K::EntryFolded, K::FolderTotals],
            paths: CONF,
            left: &[K::EntryFolded],
        },
        Case {
            name: "entries of a folder that is gone",
            damage: |store| {
                store.sql(
                    "INSERT INTO entry SELECT 777, folded, name, child, content, size, version,
                       modified FROM entry WHERE name = 'conf'",
                );
            },
            found: &[K::EntryOrphan],
            paths: &[],
            left: &[],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_folders_is_found() {
    try_all(&[
        Case {
            name: "totals of a folder deep down",
            damage: |store| {
                store.sql(
                    "UPDATE folder SET files = files + 1, bytes = bytes - 1 WHERE id =
                       (SELECT child FROM entry WHERE name = 'x')",
                );
            },
            found: &[K::FolderTotals],
            paths: &["app/deep", "app2/deep"],
            left: &[],
        },
        Case {
            name: "totals that are wrong all the way up",
            damage: |store| store.sql("UPDATE folder SET bytes = bytes + 5"),
            found: &[K::FolderTotals],
            paths: &[""],
            left: &[],
        },
        Case {
            name: "paths that reach farther than their folder says",
            damage: |store| store.sql("UPDATE folder SET length = length - 1 WHERE depth > 1"),
            found: &[K::FolderTotals],
            paths: &["app/deep", "app2/deep"],
            left: &[],
        },
        Case {
            name: "a folder that holds nothing",
            damage: |store| store.sql("DELETE FROM entry WHERE name = 'y'"),
            found: &[K::FolderEmpty, K::FolderTotals, K::Unreferenced],
            paths: &["app/deep/x", "app2/deep/x"],
            left: &[K::FolderEmpty],
        },
        Case {
            name: "a folder that nothing refers to",
            damage: |store| {
                store.sql("INSERT INTO folder (files, bytes, depth, length) VALUES (0, 0, 0, 0)");
            },
            found: &[K::StoreSums, K::Unreferenced],
            paths: &[],
            left: &[],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_without_their_parts_are_found() {
    try_all(&[
        Case {
            name: "a content that lacks a part",
            damage: |store| {
                store.sql("DELETE FROM content_part WHERE start > 0");
            },
            found: &[K::ContentParts, K::Unreferenced],
            paths: BIGS,
            left: &[K::ContentParts],
        },
        Case {
            name: "a content that lacks all parts",
            damage: |store| {
                store.sql(
                    "DELETE FROM content_part WHERE content =
                       (SELECT content FROM entry WHERE name = 'conf')",
                );
            },
            found: &[K::ContentParts, K::Unreferenced],
            paths: CONF,
            left: &[K::ContentParts],
        },
        Case {
            name: "a part that has no row",
            damage: |store| {
                store.sql(
                    "DELETE FROM part WHERE id = (SELECT part FROM content_part WHERE content =
                       (SELECT content FROM entry WHERE name = 'conf'))",
                );
            },
            found: &[K::ContentParts, K::StoreSums],
            paths: CONF,
            left: &[K::ContentParts],
        },
        Case {
            name: "a gap between parts",
            damage: |store| {
                store.sql("UPDATE content_part SET start = start + 1 WHERE start > 0");
            },
            found: &[K::ContentParts],
            paths: BIGS,
            left: &[K::ContentParts],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_are_wrong_are_found() {
    try_all(&[
        Case {
            name: "the part of another content",
            damage: |store| {
                store.sql(
                    "UPDATE content SET etag = zeroblob(32) WHERE id =
                       (SELECT content FROM entry WHERE name = 'conf')",
                );
            },
            found: &[K::ContentParts],
            paths: CONF,
            left: &[K::ContentParts],
        },
        Case {
            name: "a wrong digest of a whole file",
            damage: |store| {
                store.sql(
                    "UPDATE content SET digest = zeroblob(32) WHERE id =
                       (SELECT content FROM entry WHERE name = 'conf')",
                );
            },
            found: &[K::ContentParts],
            paths: CONF,
            left: &[K::ContentParts],
        },
        Case {
            name: "a content of another size than its parts",
            damage: |store| {
                store.sql(
                    "UPDATE content SET size = size - 1 WHERE id =
                       (SELECT content FROM entry WHERE name = 'run')",
                );
            },
            found: &[K::ContentParts, K::EntrySize],
            paths: RUNS,
            left: &[K::ContentParts, K::EntrySize],
        },
        Case {
            name: "a list of parts without a content",
            damage: |store| {
                store.sql("INSERT INTO content_part SELECT 888, 0, id FROM part LIMIT 1");
            },
            found: &[K::ContentOrphan],
            paths: &[],
            left: &[],
        },
        Case {
            name: "garbage that is forgotten",
            damage: |store| store.sql("DELETE FROM garbage"),
            found: &[K::StoreSums, K::Unreferenced],
            paths: &[],
            left: &[],
        },
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_parts_is_found() {
    try_all(&[
        Case {
            name: "a part that is nowhere",
            damage: |store| store.sql("UPDATE part SET bytes = NULL WHERE size = 10"),
            found: &[K::PartPlace],
            paths: CONF,
            left: &[K::PartPlace],
        },
        Case {
            name: "a part that is in two places",
            damage: |store| {
                store.sql(&format!("UPDATE part SET bytes = zeroblob(size) WHERE size = {RUN}"));
            },
            found: &[K::PartPlace],
            paths: RUNS,
            left: &[K::PartPlace],
        },
        Case {
            name: "bytes in the database that are too short",
            damage: |store| store.sql("UPDATE part SET bytes = zeroblob(9) WHERE size = 10"),
            found: &[K::PartDamaged],
            paths: CONF,
            left: &[K::PartDamaged],
        },
        Case {
            name: "an object that is missing",
            damage: |store| fs::remove_file(store.object(LAST)).unwrap(),
            found: &[K::PartMissing],
            paths: BIGS,
            left: &[K::PartMissing],
        },
        Case {
            name: "an object that is too short",
            damage: |store| fs::write(store.object(RUN), "short").unwrap(),
            found: &[K::PartDamaged],
            paths: RUNS,
            left: &[K::PartDamaged],
        },
        Case {
            name: "a part that nothing refers to",
            damage: |store| {
                let digest = Digest::of(b"abc");
                store.sql(&format!(
                    "INSERT INTO part (digest, size, bytes) VALUES (unhex('{digest}'), 3, unhex('616263'))"
                ));
            },
            found: &[K::StoreSums, K::Unreferenced],
            paths: &[],
            left: &[],
        },
        Case {
            name: "an object that belongs to nothing",
            damage: |store| drop(store.add_object(2 * SWEEP_AGE)),
            found: &[K::ObjectUnknown],
            paths: &[],
            left: &[],
        },
        Case {
            name: "a folder of objects with a link that leads to itself",
            damage: |store| {
                // The listing reaches the link before the object.
                let link = store.path().join("blobs/00/link");
                symlink(&link, &link).unwrap();
                store.add_object(2 * SWEEP_AGE);
            },
            found: &[K::ObjectUnknown, K::ObjectsUnlisted],
            paths: &[],
            left: &[K::ObjectsUnlisted],
        },
    ])
    .await;
}
